"""What the commands share that start a Spark job by hand: which source, and how it is submitted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tidemark.errors import ConfigError
from tidemark.lake_access import access_variables
from tidemark.metadata import Source, load_source, source_file
from tidemark.settings import Settings
from tidemark.spark_conf import conf_for, job_variables
from tidemark.suggestions import did_you_mean
from tidemark.warm_spark import run_job


def known_source(settings: Settings, name: str) -> Source:
    """Read a source's metadata, wherever it is computed.

    Raises:
        ConfigError: There is no such source, or it is wrong.
    """
    path = source_file(settings.config, name)
    if not path.is_file():
        stems = sorted(p.stem for p in settings.config.glob("*.y*ml"))
        near = did_you_mean(name, stems)
        there = ", ".join(stems) or "none"
        raise ConfigError(f"{path}: there is no such source{near} (sources: {there})")
    return load_source(path, settings.rules_folder)


def source_named(settings: Settings, name: str) -> Source:
    """Read a source's metadata, for a command that runs on this machine's Spark.

    Raises:
        ConfigError: There is no such source, it is wrong, or Databricks computes it.
    """
    source = known_source(settings, name)
    if source.compute != "spark":
        message = (
            f"{source.path}: compute is {source.compute!r}, and this command runs on 'spark' alone "
            "(docs/databricks.md)"
        )
        raise ConfigError(message)
    return source


def submit(job: Sequence[str], master: str, settings: Settings, errors: Path) -> int:
    """Run a job's script with `spark-submit`, as a Dag's run does, and show its lines.

    Args:
        job: The script and its arguments.
        master: Where Spark runs.
        settings: The places; for a lake in Azure the job is handed what opens it.
        errors: Where the job's other output goes.

    Returns:
        The exit code.

    Raises:
        ConfigError: There is no Spark here.
    """
    root = settings.lake.root
    conf = conf_for(master, root) | {"spark.master": master}
    environment = os.environ | job_variables(os.environ, master) | access_variables(root)
    try:
        with errors.open("w") as stderr:
            return run_job(
                list(job), conf, environment, settings.warm_spark_folder, _show, stderr=stderr
            )
    except FileNotFoundError as error:
        message = f"{error.filename} is not installed; install `tidemark[spark]` here"
        raise ConfigError(message) from error


def _show(line: str) -> None:
    print(f"  {line}", flush=True)

"""What the commands share that start a Spark job by hand: which source, and how it is submitted."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidemark.errors import ConfigError
from tidemark.local_job import job_words, run_here
from tidemark.metadata import Source, load_source, source_file
from tidemark.settings import Settings
from tidemark.suggestions import did_you_mean


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


@dataclass(frozen=True)
class Failed:
    """How a job failed that was started by hand.

    Attributes:
        report: What it wrote of its tables; empty if it did not come to that.
        said: Its errors.
    """

    report: Mapping[str, Any]
    said: str


def run_by_hand(
    settings: Settings,
    source: Source,
    script: str,
    tables: Iterable[str],
    master: str,
    *flags: str,
    **options: str,
) -> Failed | None:
    """Run a job to its end and show its lines; None if it went well.

    Args:
        settings: The places.
        source: The metadata.
        script: The script's name in `spark_jobs/`.
        tables: Lake names.
        master: Where Spark runs.
        flags: Options without a value.
        options: Others, by name, without the dashes.

    Raises:
        ConfigError: There is no Spark here.
    """
    with tempfile.TemporaryDirectory() as folder:
        report, errors = Path(folder) / "report.json", Path(folder) / "errors"
        words = job_words(settings, source, script, tables, *flags, **options, report=str(report))
        if not submit(words, master, settings, errors):
            return None
        done = json.loads(report.read_text()) if report.exists() else {}
        return Failed(done, errors.read_text(errors="replace"))


def submit(job: Sequence[str], master: str, settings: Settings, errors: Path) -> int:
    """Run a job's script with `spark-submit`, as a Dag's run does, and show its lines.

    Args:
        job: The script and its arguments.
        master: Where Spark runs.
        settings: The places.
        errors: Where the job's other output goes.

    Returns:
        The exit code.

    Raises:
        ConfigError: There is no Spark here.
    """
    try:
        with errors.open("w") as stderr:
            return run_here(job, master, settings, _show, stderr=stderr)
    except FileNotFoundError as error:
        message = f"{error.filename} is not installed; install `tidemark[spark]` here"
        raise ConfigError(message) from error


def _show(line: str) -> None:
    print(f"  {line}", flush=True)

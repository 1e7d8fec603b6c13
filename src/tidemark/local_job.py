"""A Spark job on this machine, whoever starts it: its words, its settings, its environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Sequence
from typing import IO

from tidemark.lake_access import access_variables
from tidemark.metadata import Source
from tidemark.settings import Settings
from tidemark.spark_conf import conf_for, job_variables
from tidemark.warm_spark import run_job


def job_words(
    settings: Settings,
    source: Source,
    script: str,
    tables: Iterable[str],
    *flags: str,
    **options: str,
) -> list[str]:
    """Give a job's script and arguments.

    Args:
        settings: The places.
        source: The metadata.
        script: The script's name in `spark_jobs/`.
        tables: Lake names.
        flags: Options without a value.
        options: Others, by name, without the dashes.
    """
    named = {
        "lake": settings.lake.root,
        "config": str(source.path.parent),
        "source": source.name,
        "tables": ",".join(tables),
        **options,
    }
    pairs = (word for name, value in named.items() for word in (f"--{name}", value))
    return [str(settings.jobs_folder / script), *flags, *pairs]


def run_here(
    job: Sequence[str],
    master: str,
    settings: Settings,
    show: Callable[[str], None],
    *,
    started: Callable[[subprocess.Popen[str]], None] = lambda _process: None,
    stderr: IO[str] | int = subprocess.STDOUT,
) -> int:
    """Run a job's script on this machine with the settings that its lake and master ask for.

    Args:
        job: The script and its arguments.
        master: Where Spark runs.
        settings: The places.
        show: Takes each line of the job's output.
        started: Takes the process, to be able to kill it.
        stderr: Where the job's other output goes.

    Returns:
        The exit code, as of `tidemark.warm_spark.run_job`.

    Raises:
        FileNotFoundError: There is no spark-submit.
    """
    conf = conf_for(master, settings.lake.root) | {"spark.master": master}
    environ = job_environment(settings, master)
    folder = settings.warm_spark_folder
    return run_job(job, conf, environ, folder, show, started=started, stderr=stderr)


def job_environment(settings: Settings, master: str) -> dict[str, str]:
    """Give a job's whole environment; for a lake in Azure with what opens it (secrets!)."""
    own = job_variables(os.environ, master)
    return {**os.environ, **own, **access_variables(settings.lake.root)}

"""Set-up: let Java keep the classes that every job loads in an archive, read in half the time.

Java writes down the classes of a small job at its exit (class data sharing, JEP 350).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tidemark.jars import class_archive, spark_submit, submit_environment
from tidemark.spark_conf import LOCAL_JAVA_OPTIONS, conf_for, small_job


def write_archive() -> str | None:
    """Run the small job in a Java that writes `class_archive` at its end.

    Returns:
        Why there is none, in the job's last words. Jobs run without it, some seconds slower.
    """
    archive = class_archive()
    archive.unlink(missing_ok=True)
    java = f"{LOCAL_JAVA_OPTIONS} -XX:ArchiveClassesAtExit={archive} -Xlog:disable"
    conf = conf_for("local[*]") | {"spark.driver.extraJavaOptions": java}
    options = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
    run = subprocess.run(
        [spark_submit(), "--master", "local[*]", *options, small_job()],
        capture_output=True, text=True, env=submit_environment(), check=False,
    )  # fmt: skip
    return None if archive.exists() else (run.stdout + run.stderr)[-1500:]


if __name__ == "__main__":
    if reason := write_archive():
        sys.stdout.write(f"set-up: no archive of Java classes; jobs start slower:\n{reason}\n")
    else:
        size = Path(class_archive()).stat().st_size // 2**20
        sys.stdout.write(f"set-up: {size} MiB of Java classes in {class_archive()}\n")

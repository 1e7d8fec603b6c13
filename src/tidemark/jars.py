"""Set-up: resolve Delta's JARs once, into this environment.

Spark's own resolver (Ivy) does it, told to ask Maven Central alone and to keep its cache here. A
site with a mirror names its own Ivy settings in ``TIDEMARK_IVY_SETTINGS``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from tidemark.errors import TidemarkError

_SPARK_LINE, _SCALA = "4.2", "2.13"
# Both come with Spark: without them the download is a third.
_WITH_SPARK = "org.apache.hadoop:hadoop-client-api,org.apache.hadoop:hadoop-client-runtime"
_OURS = ("io.delta_", "io.unitycatalog_")
_CENTRAL = """<ivysettings>
  <settings defaultResolver="central"/>
  <resolvers><ibiblio name="central" m2compatible="true"/></resolvers>
</ivysettings>
"""


def jar_folder() -> Path:
    """Give the folder that the JARs lie in."""
    return Path(sys.prefix) / "share" / "tidemark" / "jars"


def class_archive() -> Path:
    """Give the file that Java loads Spark's classes from in half the time; it may be absent."""
    return Path(sys.prefix) / "share" / "tidemark" / "classes.jsa"


def resolve() -> list[Path]:
    """Download Delta's JARs and what Spark lacks of theirs.

    Returns:
        The JARs, in `jar_folder`.

    Raises:
        TidemarkError: The resolver failed; carries its last lines.
    """
    with tempfile.TemporaryDirectory(dir=sys.prefix) as scratch:
        run = subprocess.run(
            _command(Path(scratch)),
            capture_output=True,
            text=True,
            env=submit_environment(),
            check=False,
        )
        found = sorted((Path(scratch) / "ivy" / "jars").glob("*.jar"))
        ours = [jar for jar in found if jar.name.startswith(_OURS)]
        if run.returncode or not ours:
            message = (
                "Delta's JARs could not be resolved; check the network, or name a mirror's Ivy "
                f"settings in TIDEMARK_IVY_SETTINGS, and run make again:\n{run.stderr[-1500:]}"
            )
            raise TidemarkError(message)
        shutil.rmtree(jar_folder(), ignore_errors=True)
        jar_folder().mkdir(parents=True)
        return [Path(shutil.copy2(jar, jar_folder())) for jar in ours]


def _command(scratch: Path) -> list[str]:
    settings = scratch / "ivysettings.xml"
    settings.write_text(_CENTRAL)
    nothing = scratch / "nothing.py"
    nothing.write_text("")
    package = f"io.delta:delta-spark_{_SPARK_LINE}_{_SCALA}:{version('delta-spark')}"
    conf = {
        "spark.jars.ivy": str(scratch / "ivy"),
        "spark.jars.ivySettings": os.environ.get("TIDEMARK_IVY_SETTINGS", str(settings)),
        "spark.jars.excludes": _WITH_SPARK,
    }
    options = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
    return [spark_submit(), "--packages", package, *options, str(nothing)]


def spark_submit() -> str:
    """Give the path of this environment's own spark-submit."""
    return str(Path(sys.executable).with_name("spark-submit"))


def submit_environment() -> dict[str, str]:
    """Give the whole environment with which `spark_submit` runs this Python."""
    return os.environ | submit_variables(os.environ)


def submit_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Give the variables with which spark-submit is found and runs this environment's Python.

    pyspark's own `spark-submit` looks for its home with the first `python3` on PATH, and fails if
    that is not the Python it is installed in: a worker is not always started from an activated
    environment.

    Args:
        environ: The environment that they are to be added to.
    """
    programs = str(Path(sys.executable).parent)
    return {
        "PATH": os.pathsep.join(filter(None, (programs, environ.get("PATH")))),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }


if __name__ == "__main__":
    try:
        jars = resolve()
    except TidemarkError as error:
        sys.exit(str(error))
    sys.stdout.write(f"set-up: {len(jars)} JARs in {jar_folder()}\n")

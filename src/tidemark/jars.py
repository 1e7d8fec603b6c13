"""Set-up: resolve the JARs of Delta and of Hadoop's driver for Azure once, into this environment.

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
from importlib.metadata import distribution, version
from pathlib import Path

from tidemark.errors import TidemarkError

_SPARK_LINE, _SCALA = "4.2", "2.13"
# They come with Spark, or are for the old driver (wasb): without them the download is a third.
_LEFT_OUT = (
    "org.apache.hadoop:hadoop-client-api",
    "org.apache.hadoop:hadoop-client-runtime",
    "org.apache.httpcomponents:httpclient",
    "org.apache.httpcomponents:httpcore",
    "commons-logging:commons-logging",
    "commons-codec:commons-codec",
    "com.microsoft.azure:azure-storage",
    "com.microsoft.azure:azure-keyvault-core",
)
_OURS = ("io.delta_", "io.unitycatalog_")
_AZURE = (
    "org.apache.hadoop_hadoop-azure",
    "org.apache.hadoop.thirdparty_",
    "org.wildfly.",
    "org.hdrhistogram_",
)
_CENTRAL = """<ivysettings>
  <settings defaultResolver="central"/>
  <resolvers><ibiblio name="central" m2compatible="true"/></resolvers>
</ivysettings>
"""


def jar_folder() -> Path:
    """Give the folder that the JARs lie in."""
    return Path(sys.prefix) / "share" / "tidemark" / "jars"


def azure_jar_folder() -> Path:
    """Give the folder of the JARs that only a lake in Azure needs."""
    return jar_folder() / "azure"


def class_archive() -> Path:
    """Give the file that Java loads Spark's classes from in half the time; it may be absent."""
    return Path(sys.prefix) / "share" / "tidemark" / "classes.jsa"


def resolve() -> list[Path]:
    """Download the JARs of Delta and of Hadoop's driver for Azure, and what Spark lacks of theirs.

    Returns:
        The JARs, in `jar_folder` and `azure_jar_folder`.

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
        azure = [jar for jar in found if jar.name.startswith(_AZURE)]
        if run.returncode or not ours or not azure:
            message = (
                "The JARs of Delta and Hadoop could not be resolved; check the network, or name a "
                "mirror's Ivy settings in TIDEMARK_IVY_SETTINGS, and run make again:\n"
                f"{run.stderr[-1500:]}"
            )
            raise TidemarkError(message)
        shutil.rmtree(jar_folder(), ignore_errors=True)
        azure_jar_folder().mkdir(parents=True)
        folders = [(jar_folder(), ours), (azure_jar_folder(), azure)]
        return [Path(shutil.copy2(jar, folder)) for folder, jars in folders for jar in jars]


def _command(scratch: Path) -> list[str]:
    settings = scratch / "ivysettings.xml"
    settings.write_text(_CENTRAL)
    nothing = scratch / "nothing.py"
    nothing.write_text("")
    delta = f"io.delta:delta-spark_{_SPARK_LINE}_{_SCALA}:{version('delta-spark')}"
    packages = f"{delta},org.apache.hadoop:hadoop-azure:{_hadoop_version()}"
    conf = {
        "spark.jars.ivy": str(scratch / "ivy"),
        "spark.jars.ivySettings": os.environ.get("TIDEMARK_IVY_SETTINGS", str(settings)),
        "spark.jars.excludes": ",".join(_LEFT_OUT),
    }
    options = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
    return [spark_submit(), "--packages", packages, *options, str(nothing)]


def _hadoop_version() -> str:
    """Give the version of the Hadoop that Spark brings: its driver must be the same."""
    jars = Path(str(distribution("pyspark").locate_file("pyspark"))) / "jars"
    found = [jar.stem.rpartition("-")[2] for jar in jars.glob("hadoop-client-api-*.jar")]
    if not found:
        message = f"{jars} holds no hadoop-client-api: install pyspark anew"
        raise TidemarkError(message)
    return found[0]


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

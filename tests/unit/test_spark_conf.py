"""What Spark is told at its start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tidemark import jars, spark_conf


@pytest.mark.parametrize(("folder", "told"), [("a", True), ("a b", False)])
def test_an_archive_is_named_unless_its_path_would_break_javas_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, told: bool
) -> None:
    archive = tmp_path / folder / "classes.jsa"
    archive.parent.mkdir()
    archive.touch()
    monkeypatch.setattr(spark_conf, "class_archive", lambda: archive)
    options = spark_conf.conf_for("local[*]")["spark.driver.extraJavaOptions"]
    assert (f"-XX:SharedArchiveFile={archive}" in options) is told
    assert options.startswith(spark_conf.LOCAL_JAVA_OPTIONS)


def test_this_python_comes_first_and_runs_driver_and_workers() -> None:
    told = jars.submit_variables({"PATH": "/usr/bin", "X": "y"})
    programs = str(Path(sys.executable).parent)
    assert told == {
        "PATH": f"{programs}{os.pathsep}/usr/bin",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    assert jars.submit_variables({})["PATH"] == programs
    assert jars.submit_environment() == os.environ | jars.submit_variables(os.environ)

"""Which engine the code takes itself to run on."""

from __future__ import annotations

import pytest

from tidemark.spark.engine import is_databricks


@pytest.mark.parametrize(("version", "found"), [("17.3", True), ("client.4.9", True), ("", False)])
def test_a_runtime_version_means_databricks(
    monkeypatch: pytest.MonkeyPatch, version: str, found: bool
) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", version)
    assert is_databricks() is found


def test_no_runtime_version_means_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABRICKS_RUNTIME_VERSION", raising=False)
    assert not is_databricks()

"""Which tests stay together when they run side by side: those that share what is dear to start."""

from __future__ import annotations

from pathlib import Path

import pytest

_TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep Airflow's tests, Spark's tests and each file of whole Dag runs in one process each."""
    for item in items:
        folder, *rest = item.path.relative_to(_TESTS).parts
        if folder != "unit":
            group = folder if folder != "integration" else rest[-1]
            item.add_marker(pytest.mark.xdist_group(group))

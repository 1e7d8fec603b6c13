"""Which tests stay together when they run side by side: those that share what is dear to start."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# On top of the profile that Hypothesis takes by itself, by which CI has the same examples always:
# how long one takes says nothing of whether it is right.
settings.register_profile("without deadline", settings(), deadline=None)
settings.load_profile("without deadline")


class _SharedStart(LoadScopeScheduling):
    """Airflow's tests, Spark's tests and each file of whole Dag runs go to one process each.

    pytest-xdist 3.8 takes a grouping in no other way: its `loadgroup` has had no effect since
    pytest 9.2 (https://github.com/pytest-dev/pytest-xdist/issues/1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        path, _, test = nodeid.partition("::")
        *_, folder, file = PurePosixPath(path).parts
        if folder != "integration":
            return path if folder == "unit" else folder
        # Two lakes of their own, loaded by the file's one fixture.
        return file + next((lake for lake in ("[own", "[real") if lake in test), "")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Tell pytest-xdist, where it is in use."""
    return _SharedStart(config, log)


# The longest first: Spark's tests, which one process makes, are a third of everything.
_TESTS = Path(__file__).parent
_FIRST = ("spark", "integration", "dags", "unit")
# Of the whole Dag runs: minutes each, so that one of them at the end would leave a process idle.
_LONG = (
    *("test_broken_on_purpose", "test_backfill", "test_databricks", "test_whole_lake"),
    *("test_stack", "test_azurite", "test_databricks_triggerer", "test_server_dag"),
    "test_adf_lake",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long ones first, so that no process is left alone with one at the end."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> tuple[int, int]:
    folder, name = item.path.relative_to(_TESTS).parts[0], item.path.stem
    return _FIRST.index(folder), _LONG.index(name) if name in _LONG else len(_LONG)

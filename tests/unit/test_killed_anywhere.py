"""A read that is killed (SIGKILL) before, in the middle of and after each of its writes.

After one more run the lake equals that of a twin that nobody disturbed. The writes are found by
watching them, so that a new one joins by itself; where in the code a lake is written to is listed
below, so that a new place cannot be added without a look at this test and its sisters.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from core_harness import FAST, make_world

SUPPORT = Path(__file__).parents[1] / "support"
SOURCES = Path(__file__).parents[2] / "src" / "tidemark"

# Who writes to a lake, and what shows that a kill there does no harm.
HERE = "tests/unit/test_killed_anywhere.py"
SPARK = "tests/spark/test_interrupted.py"
REPORT = "a report, which no row depends on"
WRITERS = {
    "digest_store.digest_file": HERE,
    "initial_load._kept_digests": HERE,
    "initial_load._publish": HERE,
    "ingest.copy_to_bronze": HERE,
    "ingest.discard_empty": HERE,
    "ingest.remove_leftovers": HERE,
    "landing._kept": HERE,
    "landing._memory": HERE,
    "landing.land": HERE,
    "landing.publish": HERE,
    "pending._write": SPARK,
    "reconcile.keeping.keep_page": REPORT,
    "reconcile.repair.repair": HERE,
    "report.record": REPORT,
    "airflow.alerts._remember": REPORT,
    "airflow.databricks_gold._note": "tests/dags/test_databricks.py",
    "airflow.databricks_silver._forget": REPORT,
    "spark.autocdc._in_shape": SPARK,
    "spark.autocdc._merge": SPARK,
    "spark.autocdc.append_events": SPARK,
    "spark.autocdc.merge_newest": SPARK,
    "spark.autocdc.merge_versions": SPARK,
    "spark.autocdc.remember_deletes": SPARK,
    "spark.begun.begin": "tests/spark/test_expectations.py",
    "quarantine._changed": "tests/spark/test_quarantine.py",
    "spark.bronze_stream.write_schema": SPARK,
    "spark.deletion_vectors.enable_when_large": "tests/spark/test_deletion_vectors.py",
    "spark.flow._quarantine": "tests/spark/test_expectations.py",
    "spark.maintenance._sql": "each statement is one commit: tests/spark/test_maintenance.py",
    "spark.maintenance.write_report": REPORT,
    "spark.silver.write_report": REPORT,
    "spark.moved._follow": "tests/spark/test_moved.py",
    "spark.registration.registered": "a marker is removed: tests/spark/test_unity_catalog.py",
    "spark.silver_merge._append": SPARK,
    "spark.silver_merge._merge": SPARK,
    "spark.unity_catalog.register_tables": "an entry of the catalog, made only if there is none",
    "spark.views._write": SPARK,
    "swap.begin": "tests/unit/test_rebuild.py",
    "swap.complete": "tests/unit/test_rebuild.py",
    "watermark.update_state": HERE,
}

# What the writers are made of; and a small lake of its own, in a folder that nobody else knows.
_ELSEWHERE = {"storage", "bronze", "spark.small_job"}
_WRITING = {"write_if", "publish", "upload", "save", "saveAsTable", "ParquetFile", "writeStream"}

# One process imports everything, also what pyarrow would import later on; each attempt is a fork of
# it, killed or not. (Not one thread has been started before the forks.)
KILLER = """
import json, os, shutil, signal, sys
from pathlib import Path
from core_harness import World, load_table
from tidemark import bronze, initial_load, storage
from tidemark.reconcile import Options, reconcile_table
import tidemark.ingest, deltalake, pandas, polars

folder, fields, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def work(world):
    if what == "run":
        world.run()
    elif what == "load":
        for number in initial_load.missing_ranges(world.job()):
            initial_load.copy_range(world.job(), number)
        initial_load.finish(world.job())
        world.run()
    else:
        reconcile_table(world.job(), Options(repair=True))

def watched(owner, name, state):
    plain = getattr(owner, name)
    def call(*arguments, **options):
        state.at(f"before {name}")
        result = plain(*arguments, **options)
        state.at(f"after {name}")
        return result
    setattr(owner, name, call)

class State:
    def __init__(self, kill_at):
        self.kill_at, self.names = kill_at, []
    def at(self, name):
        self.names.append(name)
        if len(self.names) - 1 == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

def attempt(place, kill_at):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    state = State(kill_at)
    for name in ("write_if", "write", "upload", "publish", "remove"):
        watched(storage.LocalStore, name, state)
    for name in ("write", "__enter__", "__exit__"):
        watched(bronze.ParquetFile, name, state)
    world = World(place, load_table(place, fields))
    work(world)
    replay = {str(k): [str(v) for v in row.values()] for k, row in world.replay().items()}
    left = {"names": state.names, "replay": replay, "cdc": world.state.cdc, "hidden": world.hidden}
    (place / "left.json").write_text(json.dumps(left))
    os._exit(0)

def copy(number):
    place = folder.with_name(f"{folder.name}-{number}")
    shutil.copytree(folder, place)
    return place

twin = copy("twin")
assert attempt(twin, None) == 0
wanted = json.loads((twin / "left.json").read_text())
results = []
for number, name in enumerate(wanted["names"]):
    place = copy(number)
    died = os.WTERMSIG(attempt(place, number))
    ended = attempt(place, None)
    left = json.loads((place / "left.json").read_text()) if ended == 0 else {}
    results.append({"at": name, "died": died, "ended": ended, "left": left})
    shutil.rmtree(place)
print(json.dumps({"wanted": wanted, "results": results}))
"""


CHANGED = "REPLACE INTO DimUser VALUES (2, 'B', '2026-01-01 10:05:00'), (9, 'new', NULL)"
DELETED = "DELETE FROM DimUser WHERE user_id = 1"


@pytest.mark.parametrize(
    ("fields", "change", "publishes"),
    [
        ("strategy: watermark", CHANGED, True),
        ("strategy: watermark", DELETED, False),
        ("strategy: snapshot", CHANGED, True),
        ("strategy: snapshot", DELETED, True),
        ("strategy: snapshot, bronze_layout: dated", CHANGED, True),
    ],
    ids=["watermark changed", "watermark unchanged", "snapshot changed", "snapshot deleted",
         "dated"],
)  # fmt: skip
def test_killed_at_each_write_the_next_run_mends_it(
    fields: str, change: str, publishes: bool
) -> None:
    with TemporaryDirectory(dir=FAST) as folder:
        _kill_everywhere(Path(folder), fields, change, publishes=publishes)


def _kill_everywhere(parent: Path, fields: str, change: str, *, publishes: bool) -> None:
    folder = parent / "world"
    folder.mkdir()
    # What was there before lies flat, whatever the layout is now.
    world = make_world(folder, fields=fields.replace("dated", "flat"))
    world.put((1, "a", "2026-01-01 10:00:00"), (2, "b", "2026-01-01 10:00:00"), (3, "c", None))
    world.run()
    world.sql(change)
    found = _killed_everywhere(world.folder, fields)
    _assert_mended(found, publishes=publishes)


def test_a_repair_that_is_killed_is_made_by_the_next_one() -> None:
    with TemporaryDirectory(dir=FAST) as parent:
        folder = Path(parent) / "world"
        folder.mkdir()
        world = make_world(folder, fields="strategy: watermark")
        world.put((1, "a", "2026-01-01 10:00:00"), (2, "b", "2026-01-01 10:00:00"))
        world.run()
        world.sql(DELETED, "UPDATE DimUser SET user_name = 'in place' WHERE user_id = 2")
        world.put((3, "late", "2025-01-01 10:00:00"))
        found = _killed_everywhere(folder, "strategy: watermark", "repair")
        names = [row[1] for row in found["wanted"]["replay"].values()]
        assert sorted(names) == ["in place", "late"]
        _assert_mended(found, publishes=True)


def test_an_initial_load_in_ranges_that_is_killed_is_ended_by_the_next_run() -> None:
    with TemporaryDirectory(dir=FAST) as parent:
        folder = Path(parent) / "world"
        folder.mkdir()
        fields = "strategy: watermark, initial_ranges: 3"
        world = make_world(folder, fields=fields)
        world.put(*((n, "a", "2026-01-01 10:00:00") for n in range(6)))
        found = _killed_everywhere(folder, fields, "load")
        assert found["wanted"]["names"].count("after publish") == 3
        assert len(found["wanted"]["replay"]) == 6
        _assert_mended(found, publishes=True)


def _assert_mended(found: dict[str, Any], *, publishes: bool) -> None:
    names = [result["at"] for result in found["results"]]
    assert ("after publish" in names) is publishes
    assert {"before write_if", "after write_if", "before __enter__", "after __exit__"} <= set(names)
    for result in found["results"]:
        assert (result["died"], result["ended"]) == (9, 0), result
        for what in ("replay", "cdc", "hidden"):
            assert result["left"][what] == found["wanted"][what], (result["at"], what)


def _killed_everywhere(folder: Path, fields: str, what: str = "run") -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(folder), fields, what],
        env={"PYTHONPATH": f"{SUPPORT}:{SOURCES.parent}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_place_that_writes_to_a_lake_is_listed() -> None:
    found = set()
    for path in sorted(SOURCES.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")
        if module not in _ELSEWHERE:
            found |= {f"{module}.{name}" for name in _writers(ast.parse(path.read_text()))}
    assert found == set(WRITERS)


def _writers(tree: ast.AST) -> set[str]:
    found = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
            if any(_writes(call) for call in calls):
                found.add(function.name)
    return found


def _writes(call: ast.Call) -> bool:
    text = ast.unparse(call.func)
    last = text.rpartition(".")[2]
    on_store = text.endswith(("store.write", "store.remove"))
    is_merge = last == "execute" and not call.args
    is_statement = text.endswith("session.sql")
    found = on_store or is_merge or is_statement or last in _WRITING
    return found and text != "pq.ParquetFile"

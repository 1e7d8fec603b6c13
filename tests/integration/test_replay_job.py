"""A file that waits in quarantine, brought into silver by the bundle's job `replay`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from databricks_workspace.workspace import Workspace
from tiny_lake import META, sequence

from tidemark.layout import Lake
from tidemark.quarantine import held_files, waiting
from tidemark.storage import LocalStore

CONFIG = "source: {connection: c}\ncompute: databricks\ntables: {DimUser: {key: user_id}}\n"


def _publish(lake: Lake, minute: int, user: int, age: Any, kind: pa.DataType) -> Path:
    row = {"user_id": user, "age": age, "_sequence": sequence(minute), "_operation": "upsert"}
    columns = {"user_id": pa.int64(), "age": kind, **META}
    table = pa.Table.from_pylist([row | {"_digest": bytes([minute] * 16)}], pa.schema(columns))
    path = Path(lake.url(lake.bronze_file("DimUser", sequence(minute))))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def _run(workspace: Workspace, job: str, **parameters: str) -> tuple[str, str]:
    """Run a job to its end; give how it ended, and what it said."""
    (found,) = workspace.jobs.list({"name": job})["jobs"]
    started = workspace.jobs.run_now({"job_id": found["job_id"], "job_parameters": parameters})
    limit = time.monotonic() + 300
    while (
        "result_state" not in (shown := workspace.jobs.get({"run_id": started["run_id"]}))["state"]
    ):
        assert time.monotonic() < limit, "the job has not ended"
        time.sleep(0.5)
    output = workspace.jobs.get_output({"run_id": shown["tasks"][-1]["run_id"]})
    return shown["state"]["result_state"], f"{output['logs']}{output.get('error_trace', '')}"


def test_what_waits_in_quarantine_comes_into_silver_by_a_job_of_its_own(tmp_path: Path) -> None:
    lake, config = Lake(str(tmp_path / "lake")), tmp_path / "config"
    config.mkdir()
    (config / "shop.yaml").write_text(CONFIG)
    _publish(lake, 1, 1, 30, pa.int64())
    strange = _publish(lake, 2, 2, "forty", pa.string())
    workspace = Workspace(tmp_path / "workspace")
    workspace.deploy(config, lake.root)

    state, said = _run(workspace, "tidemark_silver", source="shop", tables="DimUser")
    assert state == "FAILED"
    assert strange.name in said
    store = LocalStore(Path(lake.root))
    assert list(waiting(held_files(store, lake, "DimUser"))) == [strange.name]

    # All of a source: no table is named, and the digest is the deployment's own.
    state, said = _run(workspace, "tidemark_replay", source="shop", rescue="true")
    assert (state, "DimUser: 1 rows read, 1 changes, done" in said) == ("SUCCESS", True), said
    assert not waiting(held_files(store, lake, "DimUser"))
    rows = pl.read_delta(lake.url(lake.silver("DimUser"))).sort("user_id")
    assert rows.select("user_id", "age").rows() == [(1, 30), (2, None)]
    assert '"age":"forty"' in rows["_rescued_data"][1]

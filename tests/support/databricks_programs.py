"""What tests let the stand-in execute where the work itself is not the point: without Spark."""

from __future__ import annotations

# In the place of spark_jobs/silver.py: leaves what that leaves, without Spark. FAILS are the tables
# that do; "whole" is the job itself.
JOB = """
import json, sys
from tidemark.layout import Lake
from tidemark.pending import bronze_snapshot, mark_silver_done
from tidemark.storage import open_store

FAILS = {fails!r}
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if FAILS == "whole":
    raise ValueError("the rules can't be imported")
store, lake, tables = open_store(given["--lake"]), Lake(given["--lake"]), {{}}
for name in given["--tables"].split(","):
    error = f"{{name}}: column 'x' is gone" if name in FAILS else None
    rows = bronze_snapshot(store, lake, name).count
    status = "failed" if error else "done"
    tables[name] = {{"rows_in": rows, "rows": rows, "status": status, "error": error}}
    if not error:
        mark_silver_done(store, lake, name, bronze_snapshot(store, lake, name))
report = given["--report"].removeprefix("lake:")
store.write(report, json.dumps({{"tables": tables}}).encode())
if FAILS:
    sys.exit(1)
"""
# In the place of the pipeline: says that it is at work, and goes on until it is ended, or reports.
UPDATE = """
import json, sys, time
from pathlib import Path

request = json.loads(sys.argv[1])
Path(request["report"]).with_suffix(".begun").touch()
time.sleep({seconds})
done = {{"rows_in": 1, "rows": 1, "status": "done", "error": None}}
report = {{"tables": {{"DimUser": done}}, "gold": {{"DimUser": "dim_user"}}, "dropped": {{}}}}
report |= {{"warned": {{}}, "quarantined": {{}}, "views": {{}}}}
Path(request["report"]).write_text(json.dumps(report))
"""

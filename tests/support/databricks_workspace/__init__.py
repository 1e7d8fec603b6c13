"""A Databricks workspace on this machine, for tests: the REST API in front, local Spark behind.

What it holds comes from the bundle (`bundle.load_bundle`), deployed by `Workspace.deploy`: the
silver job and the gold pipelines, with the metadata as it was then. A run of the job executes the
task's own file with the task's own parameters; an update of a pipeline executes the pipeline's own
files by `tidemark.spark.pipeline`. Nothing of the work is simulated, and everything around it is:

- **Requests** are those of docs.databricks.com/api: `jobs/v2/{list,run-now,get-run,get-run-output,
  cancel-run,repair}` at 2.2 and `pipelines/v2/{list,get,start,get-update,stop,events}` at 2.0. A
  field that the page does not name, a wrong type or a missing one is refused with 400 (stricter
  than the service, which passes over most), a path or method with 404 ENDPOINT_NOT_FOUND.
- **A GET's parameters** may stand in the address or, as the provider's asynchronous calls do it,
  in a JSON body.
- **Life cycles**: a run is PENDING while its cluster starts (`start_seconds`, or until it is let go
  with `held`), RUNNING, TERMINATING (while `cleaning` is set), TERMINATED; QUEUED or SKIPPED where
  the job has as many runs as it may; and through any other state that a test names (`Run.passing`).
  An update is WAITING_FOR_RESOURCES, INITIALIZING, RUNNING, COMPLETED. A token names one run for
  ever. A repair needs the latest repair's id.
- **A pipeline** is what it declares: its files, by `libraries`, and its `configuration`.
- **Logins** (`logins`, `login_server`): a personal token, or one that a service principal got from
  the workspace or from Entra, or a machine's identity from its metadata service.
- **The event log** is made of the report that the run of the pipeline left, in the form of
  "Pipeline event log schema" (``flow_progress``) and "EXPECTATION_VIOLATION error class". That the
  API gives
  the field ``details`` is known from its users, not from its page.
- **Faults** on demand: any status for the next calls that match, with headers such as Retry-After.

Not here: clusters, permissions, Unity Catalog, paging of long lists (events alone are paged).
"""

from __future__ import annotations

from databricks_workspace.http import serve
from databricks_workspace.workspace import Call, Fault, Workspace

__all__ = ["Call", "Fault", "Workspace", "serve"]

"""Silver and gold on Databricks as the Dag sees them, up to where a cluster would come up."""

from __future__ import annotations

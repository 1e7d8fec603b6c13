"""Source against lake, key by key and digest by digest, without Spark."""

from __future__ import annotations

from tidemark.reconcile.compare import reconcile_table
from tidemark.reconcile.model import Options, Repair, TableResult, exit_code, summary

__all__ = ["Options", "Repair", "TableResult", "exit_code", "reconcile_table", "summary"]

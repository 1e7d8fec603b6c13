"""The views of SQL Server's catalog that Tidemark asks, as tables of SQLite, and the one table."""

from __future__ import annotations

import pyarrow as pa

TABLE, TABLE_ID = "DimUser", 77
MINUTES_AHEAD = 120  # of the server's own zone
CATALOG = """
CREATE TABLE "dbo.DimUser" (user_id INTEGER PRIMARY KEY, user_name TEXT, updated_at TEXT,
  row_version BLOB);
CREATE TABLE "sys.databases" AS SELECT 1 AS database_id, 1 AS is_read_committed_snapshot_on,
  1 AS snapshot_isolation_state;
CREATE TABLE "sys.tables" (object_id INTEGER, is_tracked_by_cdc INTEGER);
CREATE TABLE "sys.columns" (object_id INTEGER, column_id INTEGER, name TEXT,
  system_type_id INTEGER, user_type_id INTEGER, max_length INTEGER, precision INTEGER,
  scale INTEGER);
CREATE TABLE "sys.indexes" AS SELECT 77 AS object_id, 1 AS index_id, 1 AS is_primary_key,
  1 AS is_unique, 0 AS has_filter, 0 AS is_disabled;
CREATE TABLE "sys.index_columns" AS SELECT 77 AS object_id, 1 AS index_id, 1 AS column_id,
  1 AS key_ordinal, 0 AS is_included_column;
CREATE TABLE "sys.masked_columns" (object_id INTEGER, column_id INTEGER, name TEXT,
  is_masked INTEGER);
CREATE TABLE "sys.change_tracking_tables" (object_id INTEGER, begin_version INTEGER);
CREATE TABLE "sys.internal_tables" (parent_object_id INTEGER, internal_type_desc TEXT,
  create_date TEXT);
CREATE TABLE "sys.dm_tran_database_transactions" (transaction_id INTEGER, database_id INTEGER,
  database_transaction_begin_time TEXT);
CREATE TABLE "sys.dm_tran_active_transactions" (transaction_id INTEGER,
  transaction_begin_time TEXT);
CREATE TABLE "sys.dm_tran_session_transactions" (transaction_id INTEGER, session_id INTEGER);
CREATE TABLE "cdc.change_tables" (object_id INTEGER, capture_instance TEXT,
  source_object_id INTEGER, create_date TEXT);
CREATE TABLE "cdc.captured_columns" (object_id INTEGER, column_name TEXT, is_computed INTEGER);
CREATE TABLE "standin.changes" (version INTEGER, place INTEGER, operation TEXT, user_id INTEGER);
"""
# name: (SQL Server's number of the type, bytes, the type in the driver's Arrow)
COLUMNS: dict[str, tuple[int, int, pa.DataType]] = {
    "user_id": (56, 4, pa.int32()),
    "user_name": (231, 100, pa.string()),
    "updated_at": (42, 8, pa.timestamp("us")),
    "row_version": (189, 8, pa.binary(8)),
    "note": (231, 100, pa.string()),
}
TYPES = {56: "int", 231: "nvarchar", 42: "datetime2", 189: "timestamp"}

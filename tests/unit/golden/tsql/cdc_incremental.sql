-- before the rows
SELECT sys.fn_cdc_get_max_lsn()

-- before the rows
SELECT OBJECT_ID(N'cdc.change_tables')

-- before the rows
SELECT capture_instance, sys.fn_cdc_get_min_lsn(capture_instance) AS fn_cdc_get_min_lsn_1, object_id
FROM cdc.change_tables
WHERE source_object_id = OBJECT_ID(:param_1) ORDER BY create_date DESC
-- :param_1 = '[sales.eu].[Order]]Line]'

-- before the rows
SELECT column_name FROM cdc.captured_columns WHERE object_id = :number AND is_computed = 0
-- :number = None

-- before the rows
SELECT is_read_committed_snapshot_on, snapshot_isolation_state FROM sys.databases WHERE database_id = DB_ID()

-- before the rows
ROLLBACK

-- before the rows
SET TRANSACTION ISOLATION LEVEL SNAPSHOT

-- the rows
SELECT changes.order_id, changes.[line]]no], CASE WHEN (changes.__$operation != 1) THEN changes.[per%cent:x] END AS [per%cent:x], CASE WHEN (changes.__$operation != 1) THEN changes.quantity END AS quantity, CASE WHEN (changes.__$operation != 1) THEN changes.changed_at END AS changed_at, CASE WHEN (changes.__$operation != 1) THEN changes.row_version END AS row_version, CASE WHEN (changes.__$operation = 1) THEN 'delete' WHEN (changes.__$operation = 2) THEN 'insert' ELSE 'update' END AS _operation, CONVERT(varchar(22), changes.__$start_lsn, 1) AS _source_sequence, row_number() OVER (PARTITION BY changes.order_id, changes.[line]]no] ORDER BY changes.__$start_lsn, changes.__$seqval, changes.__$operation) - 1 AS _version
FROM cdc.[fn_cdc_get_all_changes_sales_Order]]Line](CAST(:param_1 AS BINARY(10)), CAST(:param_2 AS BINARY(10)), N'all') AS changes ORDER BY changes.__$start_lsn, changes.__$seqval, changes.__$operation
-- :param_1 = b'\x00\x00\x00\x00\x00\x00\x00\x00\x00='
-- :param_2 = b'\x00\x00\x00\x00\x00\x00\x00\x00\x00F'

-- before the rows
SELECT is_read_committed_snapshot_on, snapshot_isolation_state FROM sys.databases WHERE database_id = DB_ID()

-- before the rows
SELECT SYSUTCDATETIME() AS [SYSUTCDATETIME_1]

-- before the rows
SELECT CAST(SERVERPROPERTY('EngineEdition') AS int)

-- before the rows
SELECT CASE WHEN HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER STATE') = 1 OR HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER PERFORMANCE STATE') = 1 THEN 1 ELSE 0 END

-- before the rows
SELECT MIN(active.transaction_begin_time) AS begun, DATEPART(tzoffset, SYSDATETIMEOFFSET()) AS ahead FROM sys.dm_tran_database_transactions AS written JOIN sys.dm_tran_active_transactions AS active ON active.transaction_id = written.transaction_id LEFT JOIN sys.dm_tran_session_transactions AS session ON session.transaction_id = written.transaction_id WHERE written.database_id = DB_ID() AND written.database_transaction_begin_time IS NOT NULL AND (session.session_id IS NULL OR session.session_id <> @@SPID)

-- before the rows
SELECT DATABASEPROPERTYEX(DB_NAME(), 'Updateability')

-- before the rows
SELECT CAST(SERVERPROPERTY('EngineEdition') AS int)

-- before the rows
SELECT CASE WHEN HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER STATE') = 1 OR HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER PERFORMANCE STATE') = 1 THEN 1 ELSE 0 END

-- before the rows
SELECT MIN(active.transaction_begin_time) AS begun, DATEPART(tzoffset, SYSDATETIMEOFFSET()) AS ahead FROM sys.dm_tran_database_transactions AS written JOIN sys.dm_tran_active_transactions AS active ON active.transaction_id = written.transaction_id LEFT JOIN sys.dm_tran_session_transactions AS session ON session.transaction_id = written.transaction_id WHERE written.database_id = DB_ID() AND written.database_transaction_begin_time IS NOT NULL AND (session.session_id IS NULL OR session.session_id <> @@SPID)

-- before the rows
SELECT is_read_committed_snapshot_on, snapshot_isolation_state FROM sys.databases WHERE database_id = DB_ID()

-- before the rows
ROLLBACK

-- before the rows
SET TRANSACTION ISOLATION LEVEL SNAPSHOT

-- before the rows
SELECT CHANGE_TRACKING_CURRENT_VERSION()

-- before the rows
SELECT TOP 1 1
FROM [sales.eu].[Order]]Line]

-- before the rows
SELECT CHANGE_TRACKING_MIN_VALID_VERSION(OBJECT_ID(:param_1)) AS [CHANGE_TRACKING_MIN_VALID_VERSION_1], OBJECT_ID(:param_1) AS [OBJECT_ID_1], (SELECT begin_version
FROM sys.change_tracking_tables
WHERE object_id = OBJECT_ID(:param_2)) AS anon_1, (SELECT create_date
FROM sys.internal_tables
WHERE parent_object_id = OBJECT_ID(:param_3) AND internal_type_desc = N'CHANGE_TRACKING') AS anon_2
-- :param_1 = '[sales.eu].[Order]]Line]'
-- :param_2 = '[sales.eu].[Order]]Line]'
-- :param_3 = '[sales.eu].[Order]]Line]'

-- before the rows
SELECT TOP 1 CONVERT(varchar(34), changed_at, 121) AS [CONVERT_1]
FROM [sales.eu].[Order]]Line]
WHERE changed_at IS NOT NULL AND changed_at <= CAST(:param_2 AS datetime2(7)) ORDER BY changed_at DESC
-- :param_2 = '2026-01-01 12:00:00.123456'

-- the rows
SELECT changed.order_id, changed.[line]]no], present.[per%cent:x], present.quantity, present.changed_at, present.row_version, CASE WHEN (present.order_id IS NULL) THEN 'delete' WHEN (N'I' = changed.[SYS_CHANGE_OPERATION]) THEN 'insert' ELSE 'update' END AS _operation, CAST(changed.[SYS_CHANGE_VERSION] AS VARCHAR(20)) AS _source_sequence
FROM CHANGETABLE(CHANGES [sales.eu].[Order]]Line], :param_1) AS changed LEFT OUTER JOIN [sales.eu].[Order]]Line] AS present ON changed.order_id = present.order_id AND changed.[line]]no] = present.[line]]no]
-- :param_1 = 0

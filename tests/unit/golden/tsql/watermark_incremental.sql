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
SELECT TOP 1 CONVERT(varchar(34), changed_at, 121) AS [CONVERT_1]
FROM [sales.eu].[Order]]Line]
WHERE changed_at IS NOT NULL AND changed_at <= CAST(:param_2 AS datetime2(7)) ORDER BY changed_at DESC
-- :param_2 = '2026-01-01 12:00:00.123456'

-- before the rows
SELECT COUNT_BIG(*) AS anon_1
FROM [sales.eu].[Order]]Line]
WHERE changed_at > CAST(:param_1 AS datetime2(7))
-- :param_1 = '2026-01-01 12:00:00.123456'

-- before the rows
SELECT COUNT_BIG(*) AS anon_1
FROM [sales.eu].[Order]]Line]
WHERE changed_at IS NULL

-- before the rows
SELECT TOP 1 every.order_id, every.[line]]no], count(*) AS count_1
FROM [sales.eu].[Order]]Line] AS every JOIN (SELECT DISTINCT order_id, [line]]no]
FROM [sales.eu].[Order]]Line]
WHERE (changed_at >= CAST(:param_2 AS datetime2(7)) AND changed_at <= CAST(:param_3 AS datetime2(7)) OR changed_at IS NULL) AND (order_id IS NULL OR [line]]no] IS NULL)) AS w ON EXISTS (SELECT every.order_id INTERSECT SELECT w.order_id) AND EXISTS (SELECT every.[line]]no] INTERSECT SELECT w.[line]]no]) GROUP BY every.order_id, every.[line]]no]
HAVING count(*) > :count_2
-- :param_2 = '2026-01-01 09:00:00.1234567'
-- :param_3 = '2026-01-01 11:59:59.1234567'
-- :count_2 = 1

-- the rows
SELECT order_id, [line]]no], [per%cent:x], quantity, changed_at, row_version
FROM [sales.eu].[Order]]Line]
WHERE changed_at >= CAST(:param_1 AS datetime2(7)) AND changed_at <= CAST(:param_2 AS datetime2(7)) OR changed_at IS NULL
-- :param_1 = '2026-01-01 09:00:00.1234567'
-- :param_2 = '2026-01-01 11:59:59.1234567'

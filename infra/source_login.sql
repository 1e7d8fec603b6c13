-- The ingest identity's rights in a source database: run by a member of the admin group,
--   sqlcmd -G -S <server>.database.windows.net -d <database> -i infra/source_login.sql \
--     -v identity="tidemarkprod-ingest" schema="dbo"
-- Keep SELECT, and of the others what the strategies in config/ need (docs/sqlserver.md); a second
-- schema is another run with its name. Every line may be run again.
IF NOT EXISTS (SELECT 1 FROM sys.database_principals WHERE name = N'$(identity)')
    CREATE USER [$(identity)] FROM EXTERNAL PROVIDER;
GRANT SELECT ON SCHEMA::[$(schema)] TO [$(identity)];
-- strategy change_tracking
GRANT VIEW CHANGE TRACKING ON SCHEMA::[$(schema)] TO [$(identity)];
-- strategy cdc
IF SCHEMA_ID(N'cdc') IS NOT NULL GRANT SELECT ON SCHEMA::[cdc] TO [$(identity)];
-- strategies watermark and rowversion: the oldest open transaction
GRANT VIEW DATABASE STATE TO [$(identity)];

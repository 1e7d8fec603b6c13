"""``tidemark init``: a first config from a database's catalog, or from ADF's list of tables."""

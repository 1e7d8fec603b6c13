"""Silver and gold on Spark: the only importer of pyspark."""

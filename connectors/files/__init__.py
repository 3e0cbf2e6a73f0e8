"""Files and drop folders as a source: CSV, fixed width, Parquet, JSON lines."""

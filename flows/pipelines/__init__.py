"""Small worked pipelines, each run by a test."""

"""SQLite databases as a source: an exact snapshot, then appended rows or a log kept by triggers."""

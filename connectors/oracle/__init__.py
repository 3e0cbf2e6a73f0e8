"""Oracle as a source: LogMiner over the redo logs, flashback snapshots, and two ways where LogMiner is not allowed."""

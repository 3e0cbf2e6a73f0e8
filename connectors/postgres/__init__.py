"""PostgreSQL as a target: one fenced transaction a segment."""

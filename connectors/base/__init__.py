"""The contracts every system keeps, and what they share: spool, applier, retry, secrets, metrics."""

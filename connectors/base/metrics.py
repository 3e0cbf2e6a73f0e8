"""The catalogue of metrics: every name, unit and label stands here and nowhere else."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("headrace_events", "Messages read from the source", ["table"])
BATCHES = Counter("headrace_batches", "Batches read from the source", ["table"])
DECODE_ERRORS = Counter("headrace_decode_errors", "Messages that could not be decoded", ["table"])
REDELIVERED = Counter("headrace_redelivered", "Rows of keyless tables dropped as redelivered", ["table"])
LAG_OFFSETS = Gauge("headrace_source_lag_offsets", "Messages behind the end of the partition", ["topic", "partition"])
LAG_MS = Gauge(
    "headrace_source_lag_ms", "Age of the newest change read, in ms, 0 when the end is reached", ["topic", "partition"]
)
POSITION_AGE = Gauge(
    "headrace_source_position_age_seconds",
    "Seconds since the source was read to where it is durable here; 0 when all that there is was read and is durable",
    ["partition"],
)
RETAINED_BYTES = Gauge(
    "headrace_source_retained_bytes", "Bytes of log that the source keeps until a flow has read it", ["partition"]
)
LOGIN_REFUSED = Gauge(
    "headrace_source_login_refused",
    "1 while a source refuses a login that it took before; it is tried on",
    ["partition"],
)
SOURCE_FAILED = Gauge(
    "headrace_source_failed", "1 where one of several sources has failed and brings nothing until a restart", ["source"]
)
SOURCE_FAILURES = Counter(
    "headrace_source_failures", "Failures that stopped one of several sources, the others went on", ["source"]
)
EPOCHS = Counter("headrace_epochs", "Epochs closed by a source partition of this worker")
EPOCH_AT = Gauge("headrace_epoch_timestamp_seconds", "Unix time of the newest epoch closed by this worker")
SPOOL_BYTES = Gauge(
    "headrace_spool_bytes", "Bytes of segments that wait for the target, 0 when all are applied", ["part"]
)
SPOOL_DISK_BYTES = Gauge(
    "headrace_spool_disk_bytes", "Bytes of segments on disk; the newest stay until the next epoch with rows", ["part"]
)
SPOOL_WAIT = Counter("headrace_spool_wait_seconds", "Seconds that the flow waited for room in the spool", ["part"])
SPOOL_WAITING = Gauge("headrace_spool_waiting", "1 while the flow waits for room in the spool", ["part"])
APPLY_SECONDS = Histogram(
    "headrace_apply_seconds",
    "Seconds of one target transaction",
    ["part"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
ROWS_APPLIED = Counter("headrace_rows_applied", "Rows written to the target", ["part"])
SEGMENTS_APPLIED = Counter("headrace_segments_applied", "Segments written to the target", ["part"])
APPLY_RETRIES = Counter("headrace_apply_retries", "Target transactions tried again", ["part"])
LATE_ROWS = Counter("headrace_late_rows", "Changes of rows whose windows are all closed", ["step"])
DEAD_LETTERS = Counter("headrace_dead_letters", "Rows that became dead letters", ["step"])
STATE_BYTES = Gauge("headrace_state_bytes", "Bytes of memory that a step keeps as state", ["step"])
STATE_SEGMENT_BYTES = Gauge(
    "headrace_state_segment_bytes", "Bytes of the state segments that a step needs for a resume", ["step"]
)
STATE_SNAPSHOT = Histogram(
    "headrace_state_snapshot_seconds",
    "Seconds of making one epoch's changes of a step durable",
    ["step"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
DOCUMENT_TRANSACTIONS = Counter("headrace_document_transactions", "Whole source transactions passed on together")
DOCUMENT_SKIPPED = Counter("headrace_document_skipped", "Incomplete transactions left out, their rows as dead letters")
DOCUMENT_TORN = Counter("headrace_document_torn", "Changes that a transaction was passed on without: dead letters")
DOCUMENT_PENDING_ROWS = Gauge("headrace_document_pending_rows", "Rows that wait for their transaction to be complete")
DOCUMENT_PENDING_TRANSACTIONS = Gauge("headrace_document_pending_transactions", "Transactions with rows that wait")
DOCUMENT_WAIT = Gauge("headrace_document_wait_seconds", "Seconds that the next transaction has been incomplete")
DOCUMENT_CONSISTENT = Gauge(
    "headrace_document_consistent", "1 where the newest rows were whole transactions, 0 where some were outside of one"
)
ROLLOUT_PERCENT = Gauge(
    "headrace_rollout_percent", "Share of the slots that a new version serves, 0 after a rollback", ["rollout"]
)
ROLLOUT_CLEAN = Gauge(
    "headrace_rollout_clean_batches", "Batches in this stage in which a new version was found equal", ["rollout"]
)
ROLLOUT_ROLLBACKS = Counter(
    "headrace_rollout_rollbacks", "Rollbacks of new versions that this process found cause for", ["rollout", "reason"]
)

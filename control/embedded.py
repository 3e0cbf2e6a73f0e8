"""Real servers in a directory of their own: PostgreSQL 18, Tansu, Apache Kafka, an S3 store; for tests, demo and bench.

Each is a context manager: entering starts the server on 127.0.0.1 and a free port and waits until it answers; leaving
stops that process and removes the directory if it was a temporary one. A server cannot outlive the process that started
it (`tied.py`).
The parts: `embedded_server.py` (what all have), `embedded_postgres.py`, `embedded_kafka.py`,
`embedded_s3.py`.
"""

from __future__ import annotations

from control.embedded_kafka import ApacheKafka, Tansu
from control.embedded_postgres import EmbeddedPostgres
from control.embedded_s3 import S3Proxy
from control.embedded_server import Server, ServerError

__all__ = ["ApacheKafka", "EmbeddedPostgres", "S3Proxy", "Server", "ServerError", "Tansu"]

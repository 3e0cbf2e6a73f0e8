"""Debezium as a peer: its embedded engine in a JVM of its own, whose records are counted and thrown away.

Nothing of what usually stands behind it is there (no Kafka, no Connect worker), and no start is counted: the figure is
what its PostgreSQL connector itself can do here. Settings that differ from its defaults are those that made it faster.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

from bench import rig
from control.embedded_java import JavaProgram, java

VERSION = "3.6.0.Final"
HEAP_MB = 1024
Format = Literal["connect", "json"]
_ENGINE = JavaProgram("debezium-embedded", "io.debezium", "debezium-embedded", VERSION, java_min=17)
_CONNECTOR = JavaProgram(
    "debezium-connector-postgres", "io.debezium", "debezium-connector-postgres", VERSION, java_min=17
)
_SOURCE = Path(__file__).parent / "DebeziumCount.java"


@dataclass(frozen=True)
class Counted:
    """What one run brought: rows, seconds from its first batch to its last, and its greatest memory."""

    rows: int
    seconds: float
    peak_mb: float


def available() -> bool:
    """Whether Java 17 is here with its compiler, and Maven or the cached jars."""
    return _ENGINE.available and _CONNECTOR.available and shutil.which("javac") is not None


class Debezium:
    """One connector with its slot and its offsets.

    Args:
        directory: for its files. dsn: the source. name: of its slot and publication. table: schema.table.
        form: "connect": its records as they are; "json": as text, which is what leaves a JVM.
    """

    def __init__(self, directory: Path, dsn: str, name: str, table: str, form: Format = "connect") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._form = directory, form
        self._properties = directory / "debezium.properties"
        url = urlparse(dsn)
        settings = {
            "name": name,
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
            "offset.storage.file.filename": str(directory / "offsets"),
            "offset.flush.interval.ms": "1000",
            "topic.prefix": name,
            "database.hostname": url.hostname,
            "database.port": url.port,
            "database.user": url.username,
            "database.password": url.password or "none",
            "database.dbname": url.path.lstrip("/"),
            "plugin.name": "pgoutput",
            "slot.name": name,
            "publication.name": name,
            "publication.autocreate.mode": "filtered",
            "table.include.list": table,
            "tombstones.on.delete": "false",
            # the marks that Headrace's own runs leave in the log are no changes
            "message.prefix.exclude.list": "headrace",
            "snapshot.fetch.size": "20480",
            "max.batch.size": "20480",
            "max.queue.size": "81920",
            "poll.interval.ms": "1",
            # json: without the schemas, which would be most of each message
            "converter.schemas.enable": "false",
        }
        self._properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), "utf-8")

    def count(self, rows: int, seconds_max: float = 3600.0) -> Counted:
        """Go on behind the stored offsets (a snapshot where there are none) until so many records came.

        Raises SystemExit with its log's end where it fails.
        """
        jars = f"{_ENGINE.libraries()}/*:{_CONNECTOR.libraries()}/*"
        # of two class paths on a command line the later one counts
        program = ["-cp", jars, str(_SOURCE), str(self._properties), self._form, str(rows)]
        done = rig.run(
            java(_ENGINE.libraries(), HEAP_MB, *program), self._directory / "debezium.log", seconds_max=seconds_max
        )
        said = json.loads(next(line for line in reversed(done.output.splitlines()) if line.startswith("{")))
        return Counted(int(said["rows"]), float(said["seconds"]), done.peak_mb)

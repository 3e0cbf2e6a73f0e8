"""A real redis-server for tests, where one is installed (Debian's redis-server), and streams that are written to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from control.embedded import Server
from control.tied import command
from tests.connectors.contract_source import IDLE, TABLE, Rows

COLUMNS = 'id = "int64"\nname = "string"\nprice = "decimal(18,4)"\n'


class RedisServer(Server):
    """One server; `append`: it keeps what it was told over a kill."""

    name = "redis"

    def __init__(self, directory: Path | None = None, *, append: bool = False) -> None:
        super().__init__(directory)
        self._append = append

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Any:
        """A session."""
        return redis.Redis.from_url(self.url)

    def _command(self) -> Sequence[str]:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always"] if self._append else []
        return command(["redis-server", *options])

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.exceptions.RedisError:
            return False


class Streams:
    """The contract's tables as streams.

    Args:
        form: how events are written: "compact" and "extended" as Debezium Server does, or "fields".
    """

    def __init__(self, server: RedisServer, directory: Path, form: str = "compact") -> None:
        self.server, self._directory, self._form = server, directory, form
        self._rows: Rows = {}
        with server.client() as client:
            client.flushall()
            for name in (TABLE, IDLE):
                client.xgroup_create(name, "somebody-else", "0", mkstream=True)

    def pipeline(self, sink: str = "[sink.null]\n", **settings: object) -> Path:
        """See SourceSystem."""
        (self._directory / "url").write_text(self.server.url, "utf-8")
        text = f'name = "streams"\n[source.redis]\nurl = "file:{self._directory / "url"}"\n'
        if self._form == "fields":
            text += 'format = "fields"\n'
        text += "".join(f"{name} = {value}\n" for name, value in settings.items())
        for name in (TABLE, IDLE):
            text += f'[tables.{name}]\ntopic = "{name}"\nkey = ["id"]\n[tables.{name}.columns]\n{COLUMNS}'
        file = self._directory / "streams.toml"
        file.write_text(text + sink, "utf-8")
        return file

    def write(self, rows: Rows, deleted: tuple[int, ...] = ()) -> None:
        """See SourceSystem."""
        with self.server.client() as client, client.pipeline(transaction=True) as together:
            for key in deleted:
                if self._rows.pop(key, None) is not None:
                    together.xadd(TABLE, self._entry("d", key, None))
            for key, row in rows.items():
                together.xadd(TABLE, self._entry("u", key, row))
            together.execute()
        self._rows |= rows

    def rows(self) -> Rows:
        """See SourceSystem."""
        return dict(self._rows)

    def _entry(self, op: str, key: int, row: Any) -> dict[bytes, bytes]:
        values = {"id": key} if row is None else {"id": row[0], "name": row[1], "price": row[2] and str(row[2])}
        if row is not None and row[2] is not None:
            values["price"] = str(row[2])
        if self._form == "fields":
            fields = {name: str(value) for name, value in values.items() if value is not None}
            return {name.encode(): value.encode() for name, value in {**fields, "__op": op}.items()}
        before, after = (values, None) if op == "d" else (None, values)
        event = json.dumps({"before": before, "after": after, "op": op, "ts_ms": 1}).encode()
        told = json.dumps({"id": key}).encode()
        return {told: event} if self._form == "compact" else {b"key": told, b"value": event}

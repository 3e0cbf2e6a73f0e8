"""One client's connection: the handshake, then messages in and answers out.

The cryptography and the login are pysqlbridge's; packets, requests and answers are read and written here, because
messages of many megabytes come and go.
"""

from __future__ import annotations

import logging
import select
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Protocol

from pysqlbridge.certificate import Certificate, server_context
from pysqlbridge.tds import Encryption, Login7, Prelogin, TlsTunnel, login_response, server_response
from pysqlbridge.tds.login import deobfuscate_password
from pysqlbridge.tds.prelogin import SQL_SERVER_2025
from pysqlbridge.tds.token import error_response

from tests.doubles.sqlserver import answers
from tests.doubles.sqlserver.answers import Answer
from tests.doubles.sqlserver.errors import Cancelled, SqlError
from tests.doubles.sqlserver.requests import Argument, Call, read_batch, read_calls, read_transaction
from tests.doubles.sqlserver.types import SqlType, parse_type

PASSWORD, DATABASE = "Secret123", "shop"
_BATCH, _CALL, _TABULAR, _ATTENTION, _TRANSACTION, _LOGIN, _PRELOGIN = 0x01, 0x03, 0x04, 0x06, 0x0E, 0x10, 0x12
_RESET = 0x08 | 0x10
_BUFFER = 1 << 16
_INT = SqlType("int")
_logger = logging.getLogger(__name__)


class Face(Protocol):
    """What runs a client's statements."""

    def batch(self, text: str, arguments: list[Argument], answer: Answer) -> None:
        """Run a batch of statements with its parameters."""

    def procedure(self, call: Call, answer: Answer) -> None:
        """Run a procedure called by name."""

    def begin(self, snapshot: bool) -> None:
        """Begin a transaction that the driver asks for."""

    def end(self, commit: bool) -> None:
        """Commit it, or roll it back."""

    def reset(self) -> None:
        """Forget all that the last user of this connection left."""

    def close(self) -> None:
        """The client has gone: roll back."""


Open = Callable[["Session", str], Face | None]
"""Opens a database for a session by its name; None: there is none."""


class Packets:
    """Messages of a socket, encrypted where both sides have agreed to it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._waiting = connection, bytearray()
        self.tunnel: TlsTunnel | None = None
        self.size = 4096

    def _read(self) -> None:
        data = self._connection.recv(_BUFFER)
        if not data:
            raise ConnectionError("the client has gone")
        self._waiting += self.tunnel.unwrap(data) if self.tunnel else data

    def receive(self) -> tuple[int, int, bytes]:
        """The next message: its type, the status of its first packet, its bytes."""
        parts, first = [], 0
        while True:
            while len(self._waiting) < 8 or len(self._waiting) < (length := self._waiting[2] << 8 | self._waiting[3]):
                self._read()
            kind, status = self._waiting[0], self._waiting[1]
            first = first if parts else status
            parts.append(bytes(self._waiting[8:length]))
            del self._waiting[:length]
            if status & 1:
                return kind, first, b"".join(parts)

    def pending(self) -> bool:
        """Whether the client has sent something meanwhile: a cancellation, since it waits for an answer."""
        return bool(self._waiting) or bool(select.select([self._connection], [], [], 0)[0])

    def wait(self, seconds: float) -> bool:
        """Wait for the client to cancel; whether it did."""
        return bool(select.select([self._connection], [], [], seconds)[0])

    def send(self, data: bytes, *, last: bool, kind: int = _TABULAR) -> None:
        """Packets of a message; all but the last packet of it are full."""
        body, out = self.size - 8, []
        for at in range(0, max(len(data), 1), body):
            part = data[at : at + body]
            end = last and at + body >= len(data)
            out.append(struct.pack(">BBHHBB", kind, end, len(part) + 8, 51, (at // body + 1) & 0xFF, 0) + part)
        packets = b"".join(out)
        self._connection.sendall(self.tunnel.wrap(packets) if self.tunnel else packets)


class Session:
    """Serves one connection to its end."""

    def __init__(
        self, connection: socket.socket, certificate: Certificate, logins: Mapping[str, str], face: Open
    ) -> None:
        self._packets = Packets(connection)
        self._certificate = certificate
        self._unsent = bytearray()
        self._prepared: dict[int, tuple[str, list[Argument]]] = {}
        self._transactions = 0
        self._descriptor = b""
        self._logins, self._open = logins, face
        self.login = ""
        self._face: Face | None = None

    def run(self) -> None:
        """Until the client has gone."""
        try:
            face = self._face = self._handshake()
            while face is not None:
                self._serve(face, *self._packets.receive())
        except ConnectionError as error:
            _logger.info("a client has gone: %s", error)
        finally:
            if self._face is not None:
                self._face.close()

    # ---- the handshake

    def _handshake(self) -> Face | None:
        packets = self._packets
        asked = Prelogin.parse(packets.receive()[2])
        whole = asked.encryption in (Encryption.ON, Encryption.REQUIRED)
        agreed = Encryption.ON if whole else Encryption.OFF
        packets.send(server_response(version=SQL_SERVER_2025, encryption=agreed, asked=asked).build(), last=True)
        tunnel = TlsTunnel(server_context(self._certificate))
        while not tunnel.handshake_complete:
            records = tunnel.advance_handshake(packets.receive()[2])
            if records:
                packets.send(records, last=True, kind=_PRELOGIN)
        packets.tunnel = tunnel
        login = Login7.parse(packets.receive()[2])
        packets.tunnel = tunnel if whole else None
        if self._logins.get(login.user_name) != deobfuscate_password(login.password):
            refused = error_response(18456, f"Login failed for user '{login.user_name}'.", severity=14)
            packets.send(refused, last=True)
            return None
        self.login, name = login.user_name, login.database or DATABASE
        face = self._open(self, name)
        if face is None:
            text = f'Cannot open database "{name}" requested by the login. The login failed.'
            packets.send(error_response(4060, text, severity=11), last=True)
            return None
        size = max(4096, min(login.packet_size or 4096, 16383 if whole else 32767))
        greeting = login_response(
            version=(SQL_SERVER_2025.major, SQL_SERVER_2025.minor, SQL_SERVER_2025.build),
            server_name="double", database=name, packet_size=size,
        )  # fmt: skip
        packets.send(greeting, last=True)
        packets.size = size
        return face

    # ---- messages

    def check(self) -> None:
        """Raises Cancelled where the client has cancelled what runs."""
        if self._packets.pending():
            raise Cancelled

    def sleep(self, seconds: float) -> None:
        """Wait, unless the client cancels: Cancelled."""
        if self._packets.wait(seconds):
            raise Cancelled

    def _send(self, data: bytes) -> None:
        self._unsent += data
        body = self._packets.size - 8
        if len(self._unsent) > _BUFFER:
            self.check()
            whole = (len(self._unsent) - 1) // body * body  # something is left for the last packet
            self._packets.send(bytes(self._unsent[:whole]), last=False)
            del self._unsent[:whole]

    def _flush(self) -> None:
        self._packets.send(bytes(self._unsent), last=True)
        self._unsent.clear()

    def _serve(self, face: Face, kind: int, status: int, message: bytes) -> None:
        if status & _RESET:
            face.reset()
        try:
            if kind == _BATCH:
                self._answered(Answer(self._send), lambda answer: face.batch(read_batch(message), [], answer))
            elif kind == _CALL:
                self._calls(face, read_calls(message))
            elif kind == _TRANSACTION:
                self._transaction(face, *read_transaction(message))
            elif kind == _ATTENTION:
                self._unsent += answers.attention()
            else:
                raise ConnectionError(f"a message of type {kind}")
        except Cancelled:
            while self._packets.receive()[0] != _ATTENTION:
                pass
            self._unsent += answers.attention()
        self._flush()

    def _answered(self, answer: Answer, run: Callable[[Answer], None], more: bool = False) -> None:
        try:
            run(answer)
        except SqlError as error:
            answer.error(error)
        except (Cancelled, ConnectionError):
            raise
        except Exception as error:
            _logger.exception("the double failed")
            answer.error(SqlError(50000, f"the double failed: {type(error).__name__}: {error}"))
        answer.finish(more)

    def _calls(self, face: Face, calls: list[Call]) -> None:
        for number, call in enumerate(calls):
            answer = Answer(self._send, procedure=True)
            self._answered(answer, lambda answer, call=call: self._call(face, call, answer), number + 1 < len(calls))

    def _call(self, face: Face, call: Call, answer: Answer) -> None:
        name, given = call.procedure.lower(), call.arguments
        if name == "sp_executesql":
            face.batch(given[0].value, given[2:], answer)
            answer.returned([])
        elif name in ("sp_prepexec", "sp_prepare"):
            handle = len(self._prepared) + 1
            self._prepared[handle] = (given[2].value, parameters(given[1].value))
            if name == "sp_prepexec":
                self._execute(face, handle, given[3:], answer)
            answer.returned([("", _INT, handle)])
        elif name == "sp_execute":
            self._execute(face, given[0].value, given[1:], answer)
            answer.returned([])
        elif name == "sp_unprepare":
            answer.returned([])
        else:
            face.procedure(call, answer)

    def _execute(self, face: Face, handle: int, values: list[Argument], answer: Answer) -> None:
        text, declared = self._prepared[handle]
        named = [
            Argument(value.name or one.name, value.value, one.kind, False)
            for one, value in zip(declared, values, strict=False)
        ]
        face.batch(text, named, answer)

    def _transaction(self, face: Face, kind: int, isolation: int) -> None:
        try:
            if kind == 5:
                face.begin(snapshot=isolation == 5)
                self._transactions += 1
                self._descriptor = self._transactions.to_bytes(8, "little")
                self._unsent += answers.transaction(8, self._descriptor, b"")
            else:
                face.end(commit=kind == 7)
                self._unsent += answers.transaction(9 if kind == 7 else 10, b"", self._descriptor)
        except SqlError as error:
            answer = Answer(self._send)
            answer.error(error)
            answer.finish()


def parameters(declarations: str | None) -> list[Argument]:
    """`@P1 varbinary(10),@P2 decimal(18,4)` as arguments without values."""
    found, depth, start = [], 0, 0
    text = (declarations or "") + ","
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            name, _, kind = text[start:at].strip().partition(" ")
            if name:
                kind = kind.strip().removesuffix("OUTPUT").removesuffix("output").strip()
                found.append(Argument(name, None, parse_type(kind), False))
            start = at + 1
    return found

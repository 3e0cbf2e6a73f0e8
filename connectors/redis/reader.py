"""Follows one stream by way of its consumer group, whose position is set from the recovery store at each start.

The group is what others see of this reader: what is delivered and not acknowledged is what a kill would bring again.
An entry is acknowledged once its epoch is durable. That a row comes once is not the group's doing but the position's:
at a start the group is set behind the last durable entry, and what it still has to acknowledge up to there is.

State: (1, id of the last entry, its number among all entries that were ever added, the decoder's state).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from redis.exceptions import ResponseError

from connectors.base.background import Piece
from connectors.base.items import Truncate
from connectors.redis.config import RedisConfig
from connectors.redis.entries import Entry, debezium, flat, raw
from connectors.redis.server import NONE, Extent, Id, connect, errors, parsed, shown
from libcore.errors import ConfigurationError, FatalError, TransientError

VERSION = 1
CONSUMER = "headrace"
_ACKNOWLEDGED_AT_ONCE = 1000
_READ_AT_ONCE = 2000
_log = structlog.get_logger()


class StreamReader:
    """Reads one stream from a state on; see connectors.base.background.PieceReader.

    Args:
        make_decoder: (the state of a former decoder or None) -> a Decoder. binding: what the file says of the table.
        state: () to begin where the configuration says.
    """

    def __init__(
        self,
        config: RedisConfig,
        stream: str,
        group: str,
        make_decoder: Callable[[Any], Any],
        binding: Any,
        state: tuple[Any, ...],
        *,
        until_end: bool,
    ) -> None:
        if state and (state[0] != VERSION or len(state) != 4):
            raise ConfigurationError(
                f"source.redis: expected recovery state of version {VERSION}, found {state[0]!r}: it was written by "
                "another version of headrace"
            )
        self._config, self._stream, self._group, self._until_end = config, stream, group, until_end
        self._decoder = make_decoder(state[3] if state else None)
        self._resumed = bool(state)
        self._last: Id = parsed(state[1]) if state else NONE
        self._number: int = state[2] if state else 0
        self._message = debezium if config.format == "debezium-json" else flat(binding.columns, binding.key)
        self._delivered: deque[Id] = deque()  # not acknowledged yet
        self._durable = self._last
        self._client = connect(config, f"headrace {group}")

    def pieces(self) -> Iterator[Piece | None]:
        """See PieceReader.pieces."""
        with errors(f"stream {self._stream}"):
            yield from self._pieces()

    def durable(self, state: tuple[Any, ...]) -> None:
        """What is acknowledged next."""
        if state:
            self._durable = parsed(state[1])

    def close(self) -> None:
        """End the session, and acknowledge what may be."""
        try:
            with errors("acknowledge"):
                self._acknowledge()
        except Exception as error:  # the next start does it
            _log.info("not acknowledged", stream=self._stream, error=str(error))
        self._client.close()

    def _pieces(self) -> Iterator[Piece | None]:
        end = self._begin()
        while not (self._until_end and self._last >= end):
            entries = self._read() if self._until_end or self._more() else []
            if not entries and self._until_end:
                return  # the last ones were deleted
            if not entries:
                self._acknowledge()
                yield None
                continue
            yield from self._decoded([one for one in entries if not self._until_end or one[0][0] <= end])
            self._acknowledge()
            if self._until_end and entries[-1][0][0] > end:
                return

    def _begin(self) -> Id:
        """Set the group behind the last durable entry; the id of the newest entry there is."""
        self._client.ping()
        kind = self._client.type(self._stream)
        if kind not in (b"stream", b"none"):
            raise ConfigurationError(f"key {self._stream}: expected a stream, found a {kind.decode()}")
        try:
            self._client.xgroup_create(self._stream, self._group, "0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        about = Extent(self._client.xinfo_stream(self._stream))
        if not self._resumed:
            at_end = self._config.start == "latest"
            self._last, self._number = (about.newest, about.added) if at_end else (NONE, about.added - about.length)
        elif self._last > about.newest:
            raise FatalError(
                f"stream {self._stream}: expected to go on behind {shown(self._last)}, found a stream that ends at "
                f"{shown(about.newest)}: it was made anew, or the server lost its end (appendonly, a failover)"
            )
        self._resumed, self._durable = True, self._last
        self._settle(self._last)
        # only the number lets the server tell how much is left to read
        self._client.xgroup_setid(self._stream, self._group, shown(self._last), entries_read=self._number)
        return about.newest

    def _settle(self, up_to: Id) -> None:
        """Acknowledge what a former reader was given and made durable, but did not live to acknowledge."""
        while pending := self._client.xpending_range(
            self._stream, self._group, "-", shown(up_to), _ACKNOWLEDGED_AT_ONCE
        ):
            self._client.xack(self._stream, self._group, *[entry["message_id"] for entry in pending])

    def _more(self) -> bool:
        """Whether something may be there; asked without the entries that XINFO STREAM shows."""
        with self._there():
            ours = self._ours(self._client.xinfo_groups(self._stream))
        return ours is None or ours.get("lag") != 0

    def _ours(self, groups: list[Any]) -> Any:
        """What the server says of the group, None where it is gone. Raises TransientError: another one reads with it.

        A process that should be dead may still be given entries, which the server then gives to nobody else: the next
        reader sets the group behind what came here.
        """
        ours = {group["name"]: group for group in groups}.get(self._group.encode())
        if ours is not None and parsed(ours["last-delivered-id"]) > self._last:
            raise TransientError(
                f"stream {self._stream}: another process reads with group {self._group}, and was given entries behind "
                f"{shown(self._last)}: they are asked for again"
            )
        return ours

    def _read(self) -> list[tuple[Entry, int]]:
        """The next entries, each with its number among all that were ever added."""
        count = min(_READ_AT_ONCE, self._config.batch_rows_max)
        with self._there(), self._client.pipeline(transaction=True) as asked:  # nothing comes between the three
            asked.xinfo_stream(self._stream)
            asked.xinfo_groups(self._stream)
            asked.execute_command(
                "XREADGROUP", "GROUP", self._group, CONSUMER, "COUNT", count, "STREAMS", self._stream, ">"
            )
            found, groups, answer = asked.execute()
        self._ours(groups)
        rows, about = _entries(answer), Extent(found)
        self._check_gap(about)
        self._delivered.extend(identity for identity, _ in rows)
        newest = about.added if len(rows) < count else self._number + len(rows)
        return [(entry, newest - len(rows) + place) for place, entry in enumerate(rows, 1)]

    @contextmanager
    def _there(self) -> Iterator[None]:
        try:
            yield
        except ResponseError as error:
            if "no such key" not in str(error) and "NOGROUP" not in str(error):
                raise
            raise FatalError(
                f"stream {self._stream}: expected it with group {self._group}, found it gone: deleted while it was read"
            ) from error

    def _check_gap(self, about: Extent) -> None:
        trimmed = about.lost_behind(self._last, self._number)
        if not trimmed:
            return
        text = f"entries behind {shown(self._last)} were trimmed or deleted before they were read ({trimmed})"
        if self._config.on_gap == "stop":
            raise FatalError(
                f"stream {self._stream}: {text}. Rows may be missing in the target: load it anew, or accept the loss "
                'with on_gap = "earliest"'
            )
        _log.warning("gap in the stream accepted", stream=self._stream, what=text)
        self._last = max(self._last, about.deleted)
        self._number = about.added - about.length

    def _decoded(self, entries: list[tuple[Entry, int]]) -> Iterator[Piece]:
        messages = raw([entry for entry, _ in entries], self._message, self._stream)
        start = 0
        while start < len(entries):
            items, consumed = self._decoder.decode(messages.slice(start))
            part = messages.slice(start, consumed)
            start += consumed
            (self._last, _), self._number = entries[start - 1]
            state = (VERSION, shown(self._last), self._number, self._decoder.state)
            alone = any(isinstance(item, Truncate) for item in items)
            yield Piece(items, consumed, state, part.nbytes, alone, self._last[0] / 1000)

    def _acknowledge(self) -> None:
        durable = self._durable
        while self._delivered and self._delivered[0] <= durable:
            ids: list[str] = []
            while self._delivered and self._delivered[0] <= durable and len(ids) < _ACKNOWLEDGED_AT_ONCE:
                ids.append(shown(self._delivered.popleft()))
            self._client.xack(self._stream, self._group, *ids)


def _entries(answer: Any) -> list[Entry]:
    """What XREADGROUP answered, in either protocol; without entries that were deleted after they were delivered."""
    if not answer:
        return []
    (found,) = answer.values() if isinstance(answer, dict) else [part[1] for part in answer]
    if found and isinstance(found[0], list) and found[0] and isinstance(found[0][0], list | tuple):
        found = found[0]
    return [(parsed(identity), _pairs(fields)) for identity, fields in found if fields]


def _pairs(fields: Any) -> list[tuple[bytes, bytes]]:
    if isinstance(fields, dict):
        return list(fields.items())
    return list(zip(fields[::2], fields[1::2], strict=True))

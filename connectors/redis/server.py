"""Sessions with a Redis server, whose errors say what helps, and the ids of stream entries as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis
from redis import exceptions

from connectors.base.secrets import resolve
from connectors.redis.config import RedisConfig
from libcore.errors import ConfigurationError, FatalError, TransientError

SEQUENCE_BITS = 20
_MS_MAX = 1 << 43
Id = tuple[int, int]
NONE: Id = (0, 0)


def connect(config: RedisConfig, name: str) -> Any:
    """A client with one session. Raises ConfigurationError where the address makes no sense."""
    try:
        return redis.Redis.from_url(
            resolve(config.url).reveal(),
            single_connection_client=True,
            decode_responses=False,
            socket_timeout=config.answer_s_max,
            socket_connect_timeout=config.answer_s_max,
            socket_keepalive=True,
            client_name=name.replace(" ", "-"),
        )
    except ValueError:
        # the driver's own text may quote the password
        raise ConfigurationError(f"{config.url}: expected redis://, rediss:// or unix://") from None
    except exceptions.RedisError as error:
        raise _ours(error, "connect") from error


@contextmanager
def errors(doing: str) -> Iterator[None]:
    """The driver's errors as ours: TransientError to try again, ConfigurationError where a person must act."""
    try:
        yield
    except exceptions.RedisError as error:
        raise _ours(error, doing) from error


def _ours(error: Exception, doing: str) -> Exception:
    text = f"source.redis: {doing}: {error}"
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return ConfigurationError(f"{text}; the user needs connectors/redis/grants.md")
    passing = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ReadOnlyError, exceptions.TryAgainError)
    if isinstance(error, passing) or str(error).startswith(("LOADING", "MASTERDOWN", "CLUSTERDOWN")):
        return TransientError(text)
    return ConfigurationError(text)


def parsed(text: bytes | str) -> Id:
    """ "ms-sequence" as two numbers."""
    milliseconds, _, sequence = (text if isinstance(text, str) else text.decode()).partition("-")
    return int(milliseconds), int(sequence or 0)


def shown(identity: Id) -> str:
    """As the server writes it."""
    return f"{identity[0]}-{identity[1]}"


def offset(identity: Id, stream: str) -> int:
    """One number for an id, in the same order. Raises FatalError for ids that no clock makes."""
    if identity[1] >> SEQUENCE_BITS or identity[0] >= _MS_MAX:
        raise FatalError(
            f"stream {stream}: expected ids of a clock in ms, less than {1 << SEQUENCE_BITS:,} in one of them, found "
            f"{shown(identity)}: let the server give the ids (XADD with *)"
        )
    return identity[0] << SEQUENCE_BITS | identity[1]


class Extent:
    """From where to where a stream reaches, as XINFO STREAM says; before Redis 7.0 it does not say what was deleted."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        self.newest = parsed(about["last-generated-id"])
        self.first = parsed(about.get("recorded-first-entry-id", b"0-0"))
        self.deleted = parsed(about.get("max-deleted-entry-id", b"0-0"))
        self.length = int(about["length"])
        self.added = int(about.get("entries-added", self.length))

    def lost_behind(self, last: Id, number: int) -> str:
        """What is gone of the entries behind one, the number-th that was ever added; "" where nothing is."""
        if self.deleted > last:
            return f"up to {shown(self.deleted)}"
        if self.length and self.first <= last:
            return ""  # trimming takes the oldest first
        lost = self.added - self.length - number
        return f"{lost} of them" if lost > 0 else ""

"""Whether the server that answers is the one that was read, or one that took over from it with all that was read.

A standby that is promoted begins a timeline of its own, and its history says where the former one ended. What a flow
has read beyond that place the new server never had: its target cannot be brought to what the new server has.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace

import structlog

from connectors.postgres.session import Connection
from connectors.postgres.source_session import CommandRefused, command, lsn_number, lsn_text
from connectors.postgres.source_state import SlotState
from libcore.errors import FatalError

_AGAIN = "`headrace source drop FILE` forgets slot and position, so that the next start takes a new snapshot"
_log = structlog.get_logger()


@dataclass(frozen=True)
class Server:
    """Which cluster answers, on which timeline of it, and which database.

    Args:
        ends: where each earlier timeline of the server ended, as an LSN.
    """

    system: str
    timeline: int
    database: str
    ends: Mapping[int, int]


def identify(walsender: Connection) -> Generator[None, None, Server]:
    """Which server this is; Nones while it is asked. Raises FatalError, TransientError."""
    system = yield from _answer(command(walsender, "IDENTIFY_SYSTEM"))
    timeline = int(system["timeline"] or 0)
    ends: dict[int, int] = {}
    if timeline > 1:
        try:
            history = yield from _answer(command(walsender, f"TIMELINE_HISTORY {timeline}"))
        except CommandRefused as error:
            raise FatalError(f"source.postgres: the history of timeline {timeline} cannot be read: {error}") from error
        ends = _ends(str(history["content"]))
    return Server(str(system["systemid"]), timeline, str(system["dbname"]), ends)


def _answer(row: Iterator[dict[str, str | None] | None]) -> Generator[None, None, dict[str, str | None]]:
    found: dict[str, str | None] = {}
    for one in row:
        if one is None:
            yield None
        else:
            found = one
    return found


def _ends(history: str) -> dict[int, int]:
    """A history file has lines of timeline, the place where it ended, and the reason."""
    lines = [line.split() for line in history.splitlines()]
    return {int(words[0]): lsn_number(words[1]) for words in lines if len(words) > 1 and words[0].isdigit()}


def same_server(server: Server, state: SlotState) -> SlotState:
    """The state, where it is of this server or of one that this one took over from. Raises FatalError else."""
    if state.system != server.system:
        raise FatalError(
            f"source.postgres: expected the cluster with system identifier {state.system}, found "
            f"{server.system}: the dsn leads to another server; `headrace source drop FILE` begins anew there"
        )
    if state.timeline == server.timeline:
        return state
    end, read = server.ends.get(state.timeline), max(state.resume_lsn, state.seen_lsn)
    if end is None:
        raise FatalError(
            f"source.postgres: expected timeline {state.timeline}, or one that follows it, found {server.timeline}: a "
            "former primary answers, or a server that was restored from a backup; let the dsn lead to the primary that "
            f"took over, and end the other one. Where it is meant to be this one: {_AGAIN}"
        )
    if end < read:
        raise FatalError(
            f"source.postgres: timeline {server.timeline} follows {state.timeline}, but from {lsn_text(end)} on, and "
            f"this flow has read up to {lsn_text(read)}: the promoted standby lacks changes that the target has "
            f"(synchronized_standby_slots keeps a flow behind its standbys); {_AGAIN}"
        )
    _log.warning("another server took over", former=state.timeline, timeline=server.timeline, since=lsn_text(end))
    return replace(state, timeline=server.timeline)

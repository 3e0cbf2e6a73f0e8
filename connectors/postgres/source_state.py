"""How far a slot was read: what the recovery store keeps of it, as plain values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Literal

from connectors.base.requests import Request
from libcore.errors import ConfigurationError
from libcore.position import FIRST

VERSION = 2
_FIELDS_OF_1 = 13  # all but the last
Phase = Literal["new", "snapshot", "stream"]
NEW, FILL, LEFT = "new:", "fill:", "left:"
OWN = (NEW, FILL)
"""What ids of requests begin with that nobody asked for."""


@dataclass(frozen=True)
class SlotState:
    """One slot's progress.

    Args:
        phase: "new": nothing is there yet. "snapshot": the slot is there, rows are read. "stream": changes are.
        system, timeline: which cluster it was.
        lsn: the slot's consistent point, where its changes begin.
        done: tables whose rows are all read; LEFT and the name of one that the slot did not bring for a while since.
        table: the one being read, "" for none. after: what is read of it, up to this key; None: nothing whole yet.
        shapes: tables as the snapshot's decoder had them, for that of the stream.
        starts: (table, LSN): changes of the table that were committed before are in its rows already.
        decoder: the decoder's state, in phase "stream".
        requests: of tables that are read beside the stream (connectors/base/requests.py); ids that begin with NEW, of
            tables that joined, and with FILL, of columns that a table gained, are the source's own.
        answered: ids of the newest requests that are done.
        seen_lsn: rows that were read beside the log may show what was committed up to there.
    """

    phase: Phase = "new"
    system: str = ""
    timeline: int = 0
    lsn: int = 0
    done: tuple[str, ...] = ()
    table: str = ""
    after: tuple[str, ...] | None = None
    shapes: tuple[str, ...] = ()
    starts: tuple[tuple[str, int], ...] = ()
    decoder: Any = None
    requests: tuple[Request, ...] = ()
    answered: tuple[str, ...] = ()
    seen_lsn: int = 0

    def packed(self) -> tuple[Any, ...]:
        """For the recovery store."""
        return (
            VERSION, self.phase, self.system, self.timeline, self.lsn, self.done, self.table, self.after,
            self.shapes, self.starts, self.decoder, self.requests, self.answered,
            self.seen_lsn,
        )  # fmt: skip

    @property
    def resume_lsn(self) -> int:
        """Where the stream begins."""
        return int(self.decoder[2]) if self.phase == "stream" else self.lsn

    def seen(self, lsn: int) -> SlotState:
        """With rows read that show the source as it was at `lsn`."""
        return replace(self, seen_lsn=max(self.seen_lsn, lsn))

    def complete(self, table: str, shapes: tuple[str, ...]) -> SlotState:
        """With one more table read."""
        kept = tuple(dict.fromkeys((*self.shapes, *shapes)))
        return replace(self, done=(*self.done, table), table="", after=None, shapes=kept)

    def left(self, there: Collection[str], unpublished: Collection[str]) -> SlotState:
        """With a mark at each table whose changes the slot passes over, or has: its rows are to be read anew, once it
        is there again, into a target that is emptied first, as what was deleted meanwhile comes no more.

        Args:
            there: the pipeline's tables. unpublished: those of them that the publication lacks.
        """
        begun = {name for _, name, *_ in (one for one in self.requests if one[0].startswith(NEW))}
        begun |= {name for name in (*self.done, self.table) if name and not name.startswith(LEFT)}
        gone = {name for name in begun if name not in there or name in unpublished}
        if not gone:
            return self
        marks = (LEFT + name for name in sorted(gone) if LEFT + name not in self.done)
        state = replace(
            self,
            done=(*(name for name in self.done if name not in gone), *marks),
            requests=tuple(one for one in self.requests if not (one[0].startswith(OWN) and one[1] in gone)),
        )
        return replace(state, table="", after=None) if self.table in gone else state

    def streaming(self) -> SlotState:
        """Behind the snapshot."""
        return replace(self, phase="stream", table="", after=None, shapes=(), decoder=(1, FIRST, self.lsn, self.shapes))


def unpacked(state: tuple[Any, ...]) -> SlotState:
    """What `packed` gave. Raises ConfigurationError for another version's."""
    if state[0] == 1 and len(state) == _FIELDS_OF_1:
        return SlotState(*state[1:])
    if state[0] != VERSION or len(state) != _FIELDS_OF_1 + 1:
        raise ConfigurationError(
            f"source.postgres: expected recovery state of version {VERSION}, found {state[0]!r}: it was written by "
            "another version of headrace"
        )
    return SlotState(*state[1:])

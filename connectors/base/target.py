"""What every target keeps: exact progress per sink part, and one transaction a segment that carries it.

A target that follows this contract is exactly once in effect: the applier hands it segments in the order of their
seq, and `apply(n)` either makes rows and seq n durable together, or changes nothing and raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from connectors.base.items import ClearColumn, Fence, Marker, Truncate
from libcore.errors import TransientError
from libcore.schema import Table
from libcore.segment import Segment

TRUNCATES = "truncates"
"""Metadata key of a segment: a list of [source table, identity]; those tables are emptied after the segment's rows."""
CLEARS = "clears"
"""Metadata key of a segment: a list of [source table, target column, identity]; those columns of all rows become NULL
after the segment's rows. Missing where there is none."""
FENCES = "fences"
"""Metadata key of a segment: a list of [source table, identity, single part]; rows of those tables in later segments,
of any part, wait for the segment's rows. Missing where there is none."""


def with_markers(metadata: Mapping[str, Any], markers: Sequence[Marker]) -> dict[str, Any]:
    """A segment's metadata with its markers; `markers_of` is the inverse."""
    done = {**metadata, TRUNCATES: [[each.table, each.identity] for each in markers if isinstance(each, Truncate)]}
    clears = [[each.table, each.column, each.identity] for each in markers if isinstance(each, ClearColumn)]
    fences = [[each.table, each.identity, each.single_part] for each in markers if isinstance(each, Fence)]
    return {**done, **({CLEARS: clears} if clears else {}), **({FENCES: fences} if fences else {})}


def markers_of(metadata: Mapping[str, Any]) -> list[Marker]:
    """The markers that stand behind a segment's rows."""
    truncates = [Truncate(table, identity) for table, identity in metadata.get(TRUNCATES, ())]
    clears = [ClearColumn(*triple) for triple in metadata.get(CLEARS, ())]
    return [*truncates, *clears, *(Fence(*triple) for triple in metadata.get(FENCES, ()))]


PREFLIGHT_S = 60.0
"""Seconds that a first start waits for a target that does not answer."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the target remembers of a part: the seq of the last segment in it, and the store that wrote it."""

    seq: int
    store_id: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What one segment came to. `repeated`: it was in the target already, a lost answer to a COMMIT."""

    rows: int
    dead_letters: int = 0
    repeated: bool = False


class WaitForParts(TransientError):
    """The segment holds a table whose marker (a truncate, a cleared column, a fence) another part has not reached yet:
    try again in a moment."""


class TargetPart(Protocol):
    """One sink part's session with the target; used by one thread, the part's applier."""

    def progress(self) -> Progress | None:
        """The part's progress; None from a target that remembers nothing, where the manifest decides.

        Raises TransientError where the target does not answer.
        """

    def apply(self, seq: int, segment: Segment) -> Applied:
        """Bring one segment and its seq into the target, together; call again with the same seq after TransientError.

        Raises TransientError (nothing is known to be changed), WaitForParts (nothing is changed), FatalError (the fence
        did not hold, or going on could lose a row).
        """

    def settle(self) -> bool:
        """Do what this part owes the other parts (markers that all have recorded); True when nothing is owed."""

    def ways_out(self, seq: int) -> str:
        """For an operator whose target and state directory do not belong together: the exact commands, by intent.

        `seq` is what the state directory says.
        """

    def close(self) -> None:
        """End the session; an open transaction is rolled back. May be called twice."""


class Target(Protocol):
    """A system that rows are brought to."""

    def preflight(self, tables: Sequence[Table], *, wait_s: float = PREFLIGHT_S) -> None:
        """Make or check everything the tables need; `wait_s`: seconds in which a target that is down is tried again.

        Raises ConfigurationError with both sides, TransientError where it does not answer.
        """

    def single_part_tables(self, tables: Sequence[Table]) -> frozenset[str]:
        """Names of the source tables whose rows must all go to part 0: a second unique key or a foreign key ties
        rows of different keys together. Call after `preflight`."""

    def open(self, part: int) -> TargetPart:
        """A session for a part; connects on first use, so it does not fail while the target is down."""


def check_progress(progress: Progress | None, store_id: str, seq: int, pending: Sequence[int]) -> str | None:
    """Why a part must not start, or None.

    Args:
        progress: what the target says. store_id, seq: what the part's manifest says.
        pending: seqs of the segments that the manifest names, rising.
    """
    if progress is None:
        return None
    if progress.store_id != store_id:
        return (
            f"the target was written from another state directory (store {progress.store_id}, this one is {store_id})"
        )
    if progress.seq > seq:
        return f"the target is ahead: it holds segment {progress.seq}, this state directory ends at {seq}"
    missing = [number for number in range(progress.seq + 1, seq + 1) if number not in set(pending)]
    if missing:
        return (
            f"the target is behind: it holds segment {progress.seq}, and segment {missing[0]} is no longer in the spool"
        )
    return None

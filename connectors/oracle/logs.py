"""Which redo logs a LogMiner session needs: online and archived, of every redo thread, without a gap."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from connectors.oracle import sql
from connectors.oracle.session import Session


@dataclass(frozen=True)
class RedoLog:
    """One redo log file.

    Args:
        first_scn: the first in it. next_scn: the first behind it; very large in the one that is written.
    """

    name: str
    first_scn: int
    next_scn: int
    sequence: int
    thread: int
    is_archived: bool


class LogLost(Exception):
    """Redo that is to be read is in no log any more."""


def logs_of(session: Session, low: int) -> list[RedoLog]:
    """All logs that hold redo above an SCN, threads one after the other, each without a gap. Raises LogLost."""
    found: dict[tuple[int, int], RedoLog] = {}
    for name, first, following, sequence, thread, kind, _ in session.all(sql.LOGS, scn=low):
        log = RedoLog(name, int(first), int(following), int(sequence), int(thread), kind == "ARCHIVED")
        # the archived copy stays as it is, the online log is written over one day
        if log.next_scn > low + 1 and (log.is_archived or (log.thread, log.sequence) not in found):
            found[log.thread, log.sequence] = log
    return gapless([found[place] for place in sorted(found)], low)


def gapless(logs: Sequence[RedoLog], low: int) -> list[RedoLog]:
    """The logs themselves. Raises LogLost where a thread lacks one, or does not reach back to the SCN."""
    former: RedoLog | None = None
    for log in logs:
        if former is None or former.thread != log.thread:
            # a thread that was added since begins with its first log
            if log.first_scn > low + 1 and log.sequence > 1:
                raise LogLost(
                    f"expected redo of thread {log.thread} from SCN {low + 1} on, found it from {log.first_scn} on"
                )
        elif former.sequence + 1 != log.sequence:
            raise LogLost(f"thread {log.thread} has no log of sequence {former.sequence + 1}, which is not read yet")
        former = log
    if not logs:
        raise LogLost(f"expected redo from SCN {low + 1} on, found no log")
    return list(logs)


def last_scn(logs: Sequence[RedoLog], threads: Collection[int]) -> int:
    """Up to where the logs of all threads reach that write; one that is closed holds nobody back."""
    ends: dict[int, int] = {}
    for log in logs:
        ends[log.thread] = max(ends.get(log.thread, 0), log.next_scn)
    writing = [end for thread, end in ends.items() if thread in threads]
    return min(writing or ends.values()) - 1

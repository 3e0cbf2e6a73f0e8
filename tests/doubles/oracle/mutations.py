"""Faults put into the connector on purpose, each with a seed that must find it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from unittest.mock import PropertyMock, patch

import pyarrow as pa

from connectors.oracle import again, changes, sql, stream, undone
from connectors.oracle.state import State

PutIn = Callable[[], AbstractContextManager[object]]


def _text(name: str, before: str, after: str) -> PutIn:
    """A statement with other words in it."""
    text = getattr(sql, name)
    assert before in text, name
    return lambda: patch.object(sql, name, text.replace(before, after))


def _undone_stays() -> AbstractContextManager[object]:
    """What savepoints took back is given out."""
    real = undone.without_undone
    return patch("connectors.oracle.transactions.without_undone", lambda batches, _: real(batches, False))


def _given_twice() -> AbstractContextManager[object]:
    """A transaction that was given out before a restart is given out again."""
    return patch("connectors.oracle.state.State.given", lambda *_: False)


def _open_forgotten() -> AbstractContextManager[object]:
    """After a restart redo is read from where it ended, not from the oldest open transaction on."""
    return patch("connectors.oracle.transactions.Transactions.oldest_scn", PropertyMock(return_value=None))


def _nothing_again() -> AbstractContextManager[object]:
    """Values that do not stand in the redo are not read from the table."""
    return patch("connectors.oracle.again.rows_again", lambda *_, **__: iter(()))


def _lobs_forgotten() -> AbstractContextManager[object]:
    """Writes of LOBs that have no locator are passed over."""
    return patch("connectors.oracle.changes.Changes._lost_rows", lambda *_: None)


def _taken_deleted() -> AbstractContextManager[object]:
    """A key that a row took before another one left it stays deleted."""
    return patch("connectors.oracle.changes.taken_keys", lambda *_, **__: pa.array([], pa.int64()))


def _between_stays() -> AbstractContextManager[object]:
    """A key that a row had only between two changes, of which the latter is not told, stays."""
    real = again.rows_by_rowid
    return patch(
        "connectors.oracle.again.rows_by_rowid",
        lambda session, untold, *rest: real(session, replace(untold, written=[]), *rest),
    )


def _moved_forgotten() -> AbstractContextManager[object]:
    """That a row moved to another key in a part that was given out is forgotten with it."""
    real = changes.Changes._untold

    def untold(self: changes.Changes, *rest: object) -> None:
        self._moved.clear()
        real(self, *rest)  # type: ignore[arg-type]

    return patch.object(changes.Changes, "_untold", untold)


def _begun(which: int) -> PutIn:
    """All rows stood as of one SCN: before the first commit (0), or behind it, its own rows, too (1)."""
    real = stream.Stream._begun
    return lambda: patch.object(stream.Stream, "_begun", lambda self, commits: (real(self, commits)[which],) * 2)


def _anew_forgotten() -> AbstractContextManager[object]:
    """After a restart nobody knows any more which tables are to be read anew."""
    real = State.packed
    return patch.object(State, "packed", lambda self: real(replace(self, again=())))


def _back_unknown() -> AbstractContextManager[object]:
    """A column that comes again under its name has the values of the former one."""
    return patch("connectors.oracle.stream._is_back", lambda *_: False)


@contextmanager
def _without_flashback() -> Iterator[None]:
    real = sql.rows

    def rows(owner: str, name: str, expressions: object, *, scn: bool, **rest: object) -> str:
        text = real(owner, name, expressions, scn=scn, **rest)  # type: ignore[arg-type]
        return text.replace(" AS OF SCN :scn", "")

    with patch.object(sql, "rows", rows):
        yield


FAULTS: dict[str, tuple[int, PutIn]] = {
    "what a savepoint took back comes": (42, _undone_stays),
    "a transaction comes twice": (5, _given_twice),
    "open transactions are forgotten at a restart": (5, _open_forgotten),
    "large values are not read again": (2, _nothing_again),
    "writes of LOBs of which nothing names the row are passed over": (23, _lobs_forgotten),
    "keys that rows took from one another are not read again": (50, _taken_deleted),
    "keys that a row had between two changes are not looked for": (500986, _between_stays),
    "that keys moved in a part given out before is forgotten": (500398, _moved_forgotten),
    "what another transaction at the same SCN left is not looked for": (700020, _begun(0)),
    "a row that a part given out before made counts as known": (701300, _begun(1)),
    "tables to be read anew are forgotten at a restart": (2769533278, _anew_forgotten),
    "a column that was dropped and made anew keeps its values": (1004621, _back_unknown),
    "the other instance's open transactions are unknown": (
        1,
        _text("OLDEST_OPEN", "GV$TRANSACTION", "V$TRANSACTION"),
    ),
    "redo that is not flushed counts as read": (8, _text("THREADS", "STATUS = 'OPEN'", "STATUS = 'NONE'")),
    "the last SCN that was flushed counts as whole": (
        156,
        _text("THREADS", "LAST_REDO_CHANGE# FROM", "LAST_REDO_CHANGE# + 1 FROM"),
    ),
    "a log that is not archived yet is left out": (3, _text("LOGS", "L.STATUS <> 'UNUSED'", "L.STATUS = 'CURRENT'")),
    "rows are read as they are now, not as of the SCN": (56, _without_flashback),
}

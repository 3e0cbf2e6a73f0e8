"""Transactions put together from LogMiner's rows: whatever their order, size and undos, as a plain model says."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.oracle import transactions
from connectors.oracle.transactions import Commit, Committed, Told, Transactions
from libcore.errors import FatalError
from tests.connectors.oracle_parts import mined

INSERT, COMMIT, DDL, ROLLBACK = 1, 7, 5, 36


def history(random: Random, events: int) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """Rows of interleaved transactions, and what each that commits leaves, in the order of the commits."""
    rows: list[dict[str, Any]] = []
    standing: dict[bytes, list[tuple[str, str]]] = {}  # XID -> (ROW_ID, statement)
    committed: list[list[str]] = []
    for scn in range(1, events + 1):
        xid = random.choice([*standing, bytes([random.randrange(200), *bytes(3), 0, 0, scn >> 8, scn & 255])])
        mine, what = standing.get(xid, []), random.random()
        if what < 0.2 and mine:
            if random.random() < 0.7:
                committed.append([statement for _, statement in mine])
                rows.append({"SCN": scn, "OPERATION_CODE": COMMIT, "XID": xid})
            else:
                rows.append({"SCN": scn, "OPERATION_CODE": ROLLBACK, "XID": xid})
            del standing[xid]
        elif what < 0.35 and mine:
            row_id = random.choice(mine)[0]
            latest = max(place for place, one in enumerate(mine) if one[0] == row_id)
            standing[xid] = mine[:latest] + mine[latest + 1 :]
            rows.append(_row(scn, xid, row_id, f"undo {scn}", undo=True))
        else:
            row_id, statement = f"A{random.randrange(6)}", f"s{scn}"
            standing.setdefault(xid, []).append((row_id, statement))
            pieces = [statement[:1], statement[1:]] if random.random() < 0.3 else [statement]
            for number, piece in enumerate(pieces):
                rows.append(_row(scn, xid, row_id, piece, goes_on=number < len(pieces) - 1))
        if xid in standing and not standing[xid]:
            standing[xid] = [("none", f"t{scn}")]
            rows.append(_row(scn, xid, "none", f"t{scn}"))
    return rows, committed


def _row(scn: int, xid: bytes, row_id: str, text: str, *, undo: bool = False, goes_on: bool = False) -> dict[str, Any]:
    return {
        "SCN": scn, "OPERATION_CODE": INSERT, "XID": xid, "ROW_ID": row_id, "SQL_REDO": text, "ROLLBACK": int(undo),
        "CSF": int(goes_on),
    }  # fmt: skip


def given_out(found: list[Committed | Told]) -> list[list[str]]:
    """The statements of each transaction, in the order in which they were given out."""
    out: list[list[str]] = []
    whole = True  # the last transaction is
    for one in found:
        assert isinstance(one, Committed)
        mine: list[list[str]] = [[] for _ in one.commits]
        orders: list[list[int]] = [[] for _ in one.commits]
        held = ""
        for row in range(len(one.rows)):
            number = one.numbers[row].as_py()
            held += one.rows.column("SQL_REDO")[row].as_py()
            orders[number].append(one.orders[row].as_py())
            if not one.rows.column("CSF")[row].as_py():
                mine[number].append(held)
                held = ""
        assert held == ""
        assert all(numbers == sorted(set(numbers)) for numbers in orders)
        if not whole:
            out[-1] += mine.pop(0)
        out += mine
        whole = one.ended
    return out


@given(seed=st.integers(0, 1 << 30), batch=st.sampled_from([1, 7, 50, 1000]), carried=st.sampled_from([2, 20, 10_000]))
def test_transactions_equal_a_plain_model(
    seed: int, batch: int, carried: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What each commit gives out is what stands of its rows, in order, also of ones that went to disk on the way."""
    rows, expected = history(Random(seed), 60)
    directory = tmp_path_factory.mktemp("open")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(transactions, "CARRIED_ROWS_MAX", carried)
        kept = Transactions(directory, 1, lambda _: False)
        found = [one for start in range(0, len(rows), batch) for one in kept.take(mined(rows[start : start + batch]))]
        kept.close()
    assert given_out(found) == expected
    assert list(directory.glob("*")) == []


def test_an_open_transaction_holds_the_position_back(tmp_path: Path) -> None:
    """The oldest SCN is that of the first row of what is open, and none once nothing is."""
    kept = Transactions(tmp_path, 1 << 20, lambda _: False)
    a, b = b"\1" * 8, b"\2" * 8
    assert list(kept.take(mined([_row(5, a, "x", "s"), _row(6, b, "y", "t"), _row(7, a, "x", "u")]))) == []
    assert kept.oldest_scn == 5
    list(kept.take(mined([{"SCN": 8, "OPERATION_CODE": COMMIT, "XID": a}])))
    assert kept.oldest_scn == 6
    list(kept.take(mined([{"SCN": 9, "OPERATION_CODE": ROLLBACK, "XID": b}])))
    assert kept.oldest_scn is None


def test_what_is_given_out_already_is_dropped(tmp_path: Path) -> None:
    """A commit that the state knows gives nothing, its rows neither."""
    kept = Transactions(tmp_path, 1 << 20, lambda commit: commit.scn <= 10)
    a, b = b"\1" * 8, b"\2" * 8
    rows = [_row(5, a, "x", "s"), {"SCN": 10, "OPERATION_CODE": COMMIT, "XID": a}]
    rows += [_row(11, b, "x", "t"), {"SCN": 12, "OPERATION_CODE": COMMIT, "XID": b}]
    (found,) = kept.take(mined(rows))
    assert isinstance(found, Committed)
    assert (found.commits, given_out([found])) == ([Commit(b, 12, 1, None)], [["t"]])


def test_ddl_stands_between_the_commits_around_it(tmp_path: Path) -> None:
    """Commits before a DDL come before it, those behind it come behind."""
    kept = Transactions(tmp_path, 1 << 20, lambda _: False)
    a, b = b"\1" * 8, b"\2" * 8
    rows = [_row(1, a, "x", "s"), _row(2, b, "y", "t"), {"SCN": 3, "OPERATION_CODE": COMMIT, "XID": a}]
    rows.append({"SCN": 4, "OPERATION_CODE": DDL, "XID": b"\3" * 8, "SQL_REDO": "alter", "TABLE_NAME": "T"})
    rows.append({"SCN": 5, "OPERATION_CODE": COMMIT, "XID": b})
    first, ddl, last = kept.take(mined(rows))
    assert isinstance(ddl, Told)
    assert (given_out([first]), ddl.statement, given_out([last])) == ([["s"]], "alter", [["t"]])


def test_an_xid_without_its_sequence(tmp_path: Path) -> None:
    """An undo that tells only the slot takes back the row of the open transaction there; of two, it stops the flow."""
    kept = Transactions(tmp_path, 1 << 20, lambda _: False)
    a, no_sequence = b"\0\1\0\2\0\0\0\3", b"\0\1\0\2\xff\xff\xff\xff"
    rows = [_row(1, a, "x", "s"), _row(2, a, "y", "t"), _row(3, no_sequence, "x", "undo", undo=True)]
    (found,) = kept.take(mined([*rows, {"SCN": 4, "OPERATION_CODE": COMMIT, "XID": a}]))
    assert given_out([found]) == [["t"]]
    other = b"\0\1\0\2\0\0\0\4"
    with pytest.raises(FatalError, match="without its sequence"):
        list(kept.take(mined([_row(5, a, "x", "s"), _row(6, other, "x", "s"), _row(7, no_sequence, "x", "u")])))


@pytest.mark.parametrize("batch", [1, 2, 10])
@pytest.mark.parametrize("carried", [0, 10_000])
@pytest.mark.parametrize("ends", [ROLLBACK, COMMIT])
def test_a_slot_that_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: int, carried: int, batch: int
) -> None:
    """Rows without their sequence are of the transaction that has their slot then, be it the next one in a batch."""
    monkeypatch.setattr(transactions, "CARRIED_ROWS_MAX", carried)
    kept = Transactions(tmp_path, 1 << 20, lambda commit: commit.scn == 9)
    a, b, c, slot = (b"\0\1\0\2" + last for last in (b"\0\0\0\3", b"\0\0\0\4", b"\0\0\0\5", b"\xff\xff\xff\xff"))
    rows = [_row(1, slot, "v", "first"), _row(2, a, "x", "s"), {"SCN": 3, "OPERATION_CODE": COMMIT, "XID": a}]
    rows += [_row(4, slot, "y", "t"), {"SCN": 5, "OPERATION_CODE": ends, "XID": b}]
    rows += [_row(6, slot, "z", "u"), _row(7, c, "z", "v"), _row(8, slot, "z", "undo", undo=True)]
    rows += [{"SCN": 10, "OPERATION_CODE": COMMIT, "XID": c}]
    found = [one for start in range(0, len(rows), batch) for one in kept.take(mined(rows[start : start + batch]))]
    kept.close()
    assert given_out(found) == [["first", "s"], *([["t"]] if ends == COMMIT else []), ["u"]]


@pytest.mark.parametrize("batch", [1, 2, 10])
def test_a_transaction_that_never_tells_its_sequence(tmp_path: Path, batch: int) -> None:
    """Its end ends it, and the next transaction of its slot is another one."""
    kept = Transactions(tmp_path, 1 << 20, lambda _: False)
    b, slot = b"\0\1\0\2\0\0\0\4", b"\0\1\0\2\xff\xff\xff\xff"
    rows = [_row(1, slot, "x", "s"), {"SCN": 2, "OPERATION_CODE": COMMIT, "XID": slot}, _row(3, b, "y", "t")]
    rows.append({"SCN": 4, "OPERATION_CODE": ROLLBACK, "XID": b})
    found = [one for start in range(0, len(rows), batch) for one in kept.take(mined(rows[start : start + batch]))]
    assert given_out(found) == [["s"]]

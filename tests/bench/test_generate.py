"""The workload is the same to the byte everywhere, and the truth is what a plain reading of it gives."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import generate, truth, workload

# made with the generator that the published figures were measured on: 2,000 item events, plain and hard
GOLDEN = {
    False: "057b880d80f2681176ebf52b4e08d351d0fb5bf38576517fd516be18b8c9e172",
    True: "0e4b0f6c43b87668d69ec3f964d441079ca955a2b12b5cdf3e138dd5e2fe95d3",
}


def digest(directory: Path) -> str:
    """One digest over the three files."""
    return hashlib.sha256(b"".join((directory / f"{table}.tsv").read_bytes() for table in workload.TABLES)).hexdigest()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10**6)), max_size=300))
@settings(deadline=None)
def test_the_indexed_list_is_a_list(steps: list[tuple[bool, int]]) -> None:
    """Appends and removals by index leave exactly what a plain list would hold."""
    fast = type("SmallBlocks", (workload.IndexedList,), {"BLOCK": 3})(len(steps) + 1)
    plain: list[int] = []
    for number, (append, index) in enumerate(steps):
        if append or not plain:
            fast.append(number)
            plain.append(number)
        else:
            assert fast.pop(index % len(plain)) == plain.pop(index % len(plain))
    located = [fast.locate(index) for index in range(len(fast))]
    assert [entries[place] for entries, place in located] == plain


@pytest.mark.parametrize("hard", [False, True])
def test_the_bytes_are_the_golden_ones(tmp_path: Path, hard: bool) -> None:
    """2,000 item events have the digest of the generator that the published figures were measured on."""
    generate.write(tmp_path, 2000, hard)
    assert digest(tmp_path) == GOLDEN[hard]


@pytest.mark.parametrize("table", workload.TABLES)
def test_the_truth_is_the_fold_of_the_events(tmp_path: Path, table: str) -> None:
    """The final table holds exactly the last `after` of every key that was not deleted."""
    generate.write(tmp_path, 3000, hard=True)
    rows: dict[bytes, dict[str, object]] = {}
    for key, value in generate.read(tmp_path / f"{table}.tsv"):
        event = json.loads(value)
        rows.pop(key, None)
        if event["after"] is not None:
            rows[key] = event["after"]
    final = truth.final(tmp_path, table)
    plain = [name for name, types in truth.COLUMNS[table].items() if types[2] == "{0}"]
    expected = sorted(tuple(None if row[name] is None else str(row[name]) for name in plain) for row in rows.values())
    actual = sorted(zip(*(final[name].to_pylist() for name in plain), strict=True))
    assert len(expected) > 20
    assert actual == expected


def test_times_are_printed_as_postgresql_prints_them(tmp_path: Path) -> None:
    """Microseconds become a timestamp without trailing zeros, days become a date."""
    generate.write(tmp_path, 40)
    assert truth.final(tmp_path, "items")["created_at"][0].as_py().startswith("2025-10-09 08:53:2")
    assert truth.final(tmp_path, "orders")["due_on"][0].as_py().startswith("2025-")


def test_a_difference_is_counted(tmp_path: Path) -> None:
    """A row that is missing, one that is doubled and one that differs are each seen."""
    generate.write(tmp_path, 200)
    rows = truth.final(tmp_path, "items")
    assert truth.compare(rows, rows).equal
    assert truth.compare(rows, rows.slice(1)) == truth.Comparison(rows.num_rows, rows.num_rows - 1, 1, 0)
    doubled = rows.take([*range(rows.num_rows), 5])
    assert truth.compare(rows, doubled).extra == 1
    changed = rows.set_column(2, "sku", [[*rows["sku"].to_pylist()[:-1], "other"]])
    assert truth.compare(rows, changed) == truth.Comparison(rows.num_rows, rows.num_rows, 1, 1)


def test_too_few_items_are_refused(tmp_path: Path) -> None:
    """A workload in which the first ten orders would never come is refused, not waited for."""
    with pytest.raises(ValueError, match="at least 40, found 39"):
        generate.write(tmp_path, 39)


def test_files_are_cached_by_their_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call gives the first one's files; other parameters give others."""
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path))
    first = generate.cached(50)
    stamp = (first / "items.tsv").stat().st_mtime_ns
    assert generate.cached(50) == first
    assert (first / "items.tsv").stat().st_mtime_ns == stamp
    assert generate.cached(50, hard=True) != first
    names = [f"workload-{workload.VERSION}-50", f"workload-{workload.VERSION}-50-hard"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names

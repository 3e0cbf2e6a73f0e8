"""The measures of single kernels compare the same work, and each peer gives what ours gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest

from bench import decode, decode_simdjson, delimited, generate, matrix, pgoutput, rows
from bench.measure import Result, in_turn
from bench.table import rows as item_rows
from libcore.pgcopy import encode


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each side of a comparison runs once."""
    monkeypatch.setattr(matrix, "PAIRS", 1)


def _holds(result: Result, name: str) -> bool:
    consistent = result.ratio == pytest.approx(result.value / result.peer_value)
    return result.name == f"matrix: {name}" and result.equal and consistent


def test_all_calls_get_the_same_turns() -> None:
    """The calls run one after the other, each as often as the others, and each has both times."""
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in ("a", "b", "c")}
    taken = in_turn(calls, pairs=3, rounds=2)
    assert order == ["a", "a", "b", "b", "c", "c"] * 3
    assert list(taken) == ["a", "b", "c"] and all(spent.wall_s >= 0 <= spent.processor_s for spent in taken.values())


def test_simdjson_gives_the_same_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """simdjson's columns are ours in every batch, and a value that it reads otherwise is noticed."""
    compiler = decode_simdjson.compiler()
    if compiler is None:
        assert decode_simdjson.decode_simdjson(1000, 1, 1) == []
        return
    monkeypatch.setattr(decode_simdjson, "BATCH", 300)
    generate.write(tmp_path, 1000)
    record = decode.messages(tmp_path)
    peer = decode_simdjson.Extractor(record, compiler)
    assert decode_simdjson.same(record, peer)
    changed = pc.replace_substring(record["value"], pattern=b'"line_no":2', replacement=b'"line_no":3')
    assert changed != record["value"]
    assert not decode_simdjson.same(record.set_column(1, "value", changed), peer)
    peer.close()


def test_pgoutputs_values_are_those_of_the_texts() -> None:
    """The decoder gives the values of the texts that the parser by hand gives."""
    assert pgoutput.same(pgoutput.messages(3_000))


def test_scatter_gives_the_peers_pieces() -> None:
    """Ours and pyarrow give the same rows in the same order to each bucket."""
    record = item_rows(1_000)
    ((*pieces,),) = rows._ours(record, 1_000)()
    assert [piece for _, piece in pieces] == rows._by_pyarrow(rows._with_bucket(record))
    assert sum(piece.num_rows for _, piece in pieces) == 1_000 and len(pieces) == rows.BUCKETS


def test_copys_bytes_are_psycopgs() -> None:
    """The peer of pgcopy writes the same bytes for the same rows."""
    record = item_rows(1_000)
    values = [tuple(row.values()) for row in record.to_pylist()]
    assert encode(record, (None,) * 8).buffer.to_pybytes() == rows._by_psycopg(values)


@pytest.mark.parametrize("piece", [500_000, 8_000_000])
def test_a_file_is_read_as_pyarrow_reads_it(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """Our reader, whole or in pieces that end inside records, and pyarrow.csv give the same table."""
    monkeypatch.setattr(delimited, "PIECE_BYTES", piece)
    data = delimited.csv_bytes(1_000_000)
    read = delimited.ours(data)()
    assert len(read) == -(-len(data) // piece)
    assert delimited._same(read, delimited.by_pyarrow(data)())


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("data transforms", lambda: matrix.transforms(2_000)),
        ("numeric", lambda: matrix.numeric(2_000)),
        ("file parsing", lambda: matrix.parsing(100_000)),
    ],
)
def test_a_row_of_the_matrix_compares_equal_results(quick: None, name: str, row: Callable[[], Result]) -> None:
    """Ours and plain Python give the same."""
    assert _holds(row(), name)


def test_the_matrix_writes_the_same_rows(quick: None, postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target's way and executemany leave the same rows in the database."""
    monkeypatch.setenv("BENCH_DSN", postgres)
    assert _holds(matrix.database(postgres, 2_000), "database operations")


def test_the_matrix_reads_the_same_messages(quick: None, broker: str) -> None:
    """Our reader and consume read the same bytes."""
    lines = [(str(number).encode(), b"x" * (number % 50)) for number in range(2_000)]
    assert _holds(matrix.network(broker, lines, "bench.matrix"), "network")

"""The spool: names, bounds, and what a restart finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base.spool import Manifest, SegmentFile, Spool
from libcore.errors import CapacityError, CorruptionError, FatalError
from tests.connectors.changes import batch, table

ITEMS = table()
MIB = 1 << 20
files = st.builds(SegmentFile, st.integers(1, 2**40), st.text("abc-0", min_size=1), *[st.integers(0, 2**40)] * 3)


def rows(count: int) -> list:
    changes = batch(ITEMS, [{"id": number, "name": "x" * 100} for number in range(count)])
    return [(ITEMS, changes.record)]


def spool_at(folder: Path, part: int = 0, flow: str = "flow", bytes_max: int = MIB) -> Spool:
    return Spool(folder, flow, part, bytes_max)


@settings(deadline=None)
@given(st.text(max_size=20), st.integers(0, 2**60), st.lists(files, max_size=5))
def test_manifest_survives_the_recovery_store(store: str, seq: int, named: list[SegmentFile]) -> None:
    """A manifest comes back from its state tuple as it was."""
    manifest = Manifest(store, seq, tuple(named))
    assert Manifest.from_state(manifest.to_state()) == manifest


def test_a_name_is_never_used_again(tmp_path: Path) -> None:
    """Writing the same rows at the same seq gives another file, so a replay cannot be mixed up with what it replays."""
    spool = spool_at(tmp_path)
    first, second = (spool.write(7, rows(3), {}) for _ in range(2))
    assert first.name != second.name
    assert {path.name for path in tmp_path.iterdir()} == {first.name, second.name}
    assert first.name.startswith("flow-0-000000000007-")


def test_a_segment_reads_back(tmp_path: Path) -> None:
    """What was written is read from the file with its rows, size and metadata."""
    spool = spool_at(tmp_path)
    file = spool.write(1, rows(5), {"seq": 1})
    opened = spool.read(file)
    assert opened.metadata["seq"] == 1 and opened.parts[0][0] == ITEMS
    assert opened.parts[0][1].column("id").to_pylist() == [0, 1, 2, 3, 4]
    assert (file.rows, file.bytes) == (5, (tmp_path / file.name).stat().st_size) and spool.bytes == file.bytes


def test_a_start_keeps_what_its_manifest_names_and_nothing_else(tmp_path: Path) -> None:
    """Files of an epoch that never became durable go; those of other parts and flows stay."""
    spool = spool_at(tmp_path)
    kept, lost = spool.write(1, rows(1), {}), spool.write(2, rows(1), {})
    others = [spool_at(tmp_path, 1).write(1, rows(1), {}), spool_at(tmp_path, 0, "flow-0").write(1, rows(1), {})]
    again = spool_at(tmp_path)
    again.open(Manifest("store", 1, (kept,)))
    assert {path.name for path in tmp_path.iterdir()} == {kept.name, *(file.name for file in others)}
    assert lost.name not in {path.name for path in tmp_path.iterdir()} and again.bytes == kept.bytes


def test_a_missing_file_refuses_the_start(tmp_path: Path) -> None:
    """A manifest that names a file which is not there belongs to another state directory."""
    spool = spool_at(tmp_path)
    file = spool.write(1, rows(1), {})
    (tmp_path / file.name).unlink()
    with pytest.raises(FatalError, match=r"expected \d+ bytes .* found no file"):
        spool_at(tmp_path).open(Manifest("store", 1, (file,)))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 800), min_size=1, max_size=12))
def test_bytes_stay_under_the_bound(tmp_path_factory: pytest.TempPathFactory, counts: list[int]) -> None:
    """Whatever is written, the files never outgrow the bound: a segment without room is an error and leaves none."""
    folder = tmp_path_factory.mktemp("spool")
    spool = spool_at(folder, bytes_max=200_000)
    for seq, count in enumerate(counts, 1):
        try:
            spool.write(seq, rows(count), {})
        except CapacityError as error:
            assert "spool_bytes_max" in str(error)
        on_disk = sum(path.stat().st_size for path in folder.iterdir())
        assert on_disk == spool.bytes <= 200_000


def test_a_bound_that_is_too_small_names_the_setting(tmp_path: Path) -> None:
    """One segment may take a quarter of the part's bound; the message says what to raise, and to what."""
    with pytest.raises(CapacityError, match=r"raise spool_bytes_max to at least [\d,]+ x parts"):
        spool_at(tmp_path, bytes_max=10_000).write(1, rows(1000), {})
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """A flipped bit is found by the checksum, and the error says in which file."""
    spool = spool_at(tmp_path)
    file = spool.write(1, rows(50), {})
    data = bytearray((tmp_path / file.name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / file.name).write_bytes(data)
    with pytest.raises(CorruptionError, match=file.name):
        spool.read(file)

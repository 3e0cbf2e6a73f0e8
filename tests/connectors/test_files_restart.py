"""Where a reader of files goes on: what is kept for it, and a folder that is away."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from connectors.base.guardian import Pace
from connectors.files.config import FilesConfig
from connectors.files.reader import FIRST, FilesReader
from connectors.files.rows import declared_table
from libcore.change import ChangeBatch, Op
from libcore.errors import TransientError
from tests.connectors.contract_source import Followed
from tests.connectors.test_files import pipeline, renamed


def a_reader(file: Path, directory: Path, state: tuple[Any, ...]) -> FilesReader:
    """A reader of the pipeline's table t from a state on."""
    config: Any = FilesConfig(**tomllib.loads(file.read_text("utf-8"))["source"]["files"])
    made = declared_table("t", config.tables["t"])
    return FilesReader(
        config, config.tables["t"], made, file.parent, directory, state, flow="f", until_end=True,
        pace=Pace(config.guardian),
    )  # fmt: skip


def test_the_millionth_file_of_a_whole_table(tmp_path: Path) -> None:
    """Files are numbered: what the recovery store is past goes, and none behind it, however many digits it has."""
    file = pipeline(tmp_path, renamed() + '\nmode = "table"')
    for name, ids in (("a", (1, 2, 3)), ("b", (2, 3)), ("c", (3,))):
        (tmp_path / "drop" / f"{name}.csv").write_text("id,name\n" + "".join(f"{one},x\n" for one in ids))
    reader = a_reader(file, tmp_path / "state", (*FIRST[:1], 999_998, *FIRST[2:]))
    deleted: list[int] = []
    states: list[tuple[Any, ...]] = []
    for piece in reader.pieces():
        assert piece is not None
        if not states or piece.state[1] > states[-1][1]:
            states.append(piece.state)
            reader.durable(states[-2:][0])  # the one before the newest
        for item in piece.items:
            assert isinstance(item, ChangeBatch)
            deleted += [row["id"] for row in item.record.to_pylist() if row["__op"] == Op.DELETE]
    reader.close()
    assert deleted == [1, 2]
    assert states[-1][1] == 1_000_001


@pytest.mark.parametrize("how", ["loop", "gone"])
def test_a_folder_that_is_away_when_a_half_read_file_goes_on(how: str, tmp_path: Path) -> None:
    """A share that does not answer is waited for: only a file that is not in its folder stops the flow."""
    file = pipeline(tmp_path, renamed())
    file.write_text(file.read_text("utf-8").replace('"drop"', '"drop/"'), "utf-8")
    (tmp_path / "drop" / "a.csv").write_text("id,name\n" + "".join(f"{one},x\n" for one in range(9)))
    reader = a_reader(file, tmp_path / "state", FIRST)
    piece = next(reader.pieces())
    assert piece is not None and piece.state[4] is not None
    reader.close()
    (tmp_path / "drop").rename(tmp_path / "away")
    again = a_reader(file, tmp_path / "state", piece.state)
    if how == "loop":
        (tmp_path / "drop").symlink_to(tmp_path / "drop")
    with pytest.raises(TransientError, match="drop"):
        next(again.pieces())
    again.close()


@pytest.mark.parametrize("started", [False, True])
def test_a_folder_that_was_away(started: bool, tmp_path: Path) -> None:
    """A folder that goes away and comes back, also one that was away at the start, is a folder: its files are read."""
    followed = Followed(pipeline(tmp_path, renamed()), tmp_path / "state")
    (tmp_path / "drop" / "a.csv").write_text("id,name\n1,x\n")
    followed.until(lambda: len(followed.tables.get("t", {})) == 1)
    if started:
        followed.close()
    (tmp_path / "drop").rename(tmp_path / "away")
    if started:
        followed.open()
    for _ in range(30):
        assert followed.epoch() == 0
        time.sleep(0.01)
    (tmp_path / "away" / "b.csv").write_text("id,name\n2,x\n")
    (tmp_path / "away").rename(tmp_path / "drop")
    followed.until(lambda: len(followed.tables["t"]) == 2)
    followed.close()
    assert sorted(followed.tables["t"]) == [(1,), (2,)]

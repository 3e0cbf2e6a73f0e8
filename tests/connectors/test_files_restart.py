"""Where a reader of files goes on: what is kept for it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from connectors.base.guardian import Pace
from connectors.files.config import FilesConfig
from connectors.files.reader import FIRST, FilesReader
from connectors.files.rows import declared_table
from libcore.change import ChangeBatch, Op
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

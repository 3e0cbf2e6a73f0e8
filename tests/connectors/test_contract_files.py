"""The contract of every source, for drop folders: files of changes, and files that are whole tables."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from tests.connectors.contract_history import HistoryContract
from tests.connectors.contract_source import (
    IDLE,
    TABLE,
    ChangesContract,
    Rows,
    RowsContract,
    SourceSystem,
    check_killed_and_rescaled,
    some_rows,
)

NULL = "<null>"


class DropFolder:
    """CSV files that appear under their names at once; `whole`: each is the table as it is then."""

    def __init__(self, directory: Path, *, whole: bool) -> None:
        self._directory, self._whole, self._number = directory, whole, 0
        self._rows: Rows = {}
        for name in (TABLE, IDLE):
            (directory / name).mkdir()

    def pipeline(self, sink: str = "[sink.null]\n", **settings: object) -> Path:
        text = 'name = "drop"\ntables = ["items", "idle"]\n[source.files]\npiece_bytes = 2000\npoll_s = 0.02\n'
        text += "".join(f"{name} = {value}\n" for name, value in settings.items())
        for name in (TABLE, IDLE):
            text += (
                f'[source.files.tables.{name}]\npath = "{name}/*.csv"\nformat = "csv"\nkey = ["id"]\n'
                f'complete = "renamed"\nmode = "{"table" if self._whole else "changes"}"\n'
                "csv = { record_bytes_max = 10000000 }\n"
                f'[source.files.tables.{name}.columns]\nid = "int64"\n'
                f'name = {{ type = "string", nulls = ["{NULL}"] }}\nprice = "decimal(18,4)"\n'
            )
        file = self._directory / "drop.toml"
        file.write_text(text + sink, "utf-8")
        return file

    def write(self, rows: Rows, deleted: tuple[int, ...] = ()) -> None:
        assert self._whole or not deleted
        held = {key: row for key, row in (self._rows | rows).items() if key not in deleted or key in rows}
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["id", "name", "price"])
        for number, name, price in (held if self._whole else rows).values():
            writer.writerow([number, NULL if name is None else name, "" if price is None else price])
        self._number += 1
        draft = self._directory / TABLE / f"{self._number:06d}.tmp"
        draft.write_text(text.getvalue(), "utf-8", newline="")
        draft.rename(draft.with_suffix(".csv"))
        self._rows = held

    def rows(self) -> Rows:
        return self._rows


class TestFilesOfChanges(RowsContract, HistoryContract):
    """Each file's rows are upserts."""

    deletes = False

    @pytest.fixture
    def system(self, tmp_path: Path) -> SourceSystem:
        return DropFolder(tmp_path, whole=False)


class TestFilesOfWholeTables(RowsContract, ChangesContract, HistoryContract):
    """Each file is the whole table."""

    @pytest.fixture
    def system(self, tmp_path: Path) -> SourceSystem:
        return DropFolder(tmp_path, whole=True)


def test_killed_and_rescaled(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of files and started again as two processes, target and files are equal."""
    monkeypatch.setenv("TARGET_DSN", postgres)
    system, random = DropFolder(tmp_path, whole=False), Random(7)
    for first in range(0, 2000, 400):
        system.write(some_rows(random, first, 400))
    check_killed_and_rescaled(system, tmp_path, postgres, lambda: system.write(some_rows(random, 1900, 300)))
    assert system.rows()[0][2] is None or isinstance(system.rows()[0][2], Decimal)

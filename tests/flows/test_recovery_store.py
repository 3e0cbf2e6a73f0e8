"""Bytewax's recovery store is made whole, and can be opened by several processes at once."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flows import recovery_store
from libcore.errors import ConfigurationError


def _journal_mode(part: Path) -> str:
    with closing(sqlite3.connect(part)) as database:
        return str(database.execute("PRAGMA journal_mode").fetchone()[0])


def test_a_store_is_made_once(tmp_path: Path) -> None:
    """The first start makes one partition and nothing else; later ones leave its rows as they are."""
    store = tmp_path / "recovery"
    recovery_store.prepare(store)
    assert [path.name for path in store.iterdir()] == ["part-0.sqlite3"]
    before = (store / "part-0.sqlite3").read_bytes()
    recovery_store.prepare(store)
    assert (store / "part-0.sqlite3").read_bytes() == before


def test_a_copy_in_another_journal_mode_is_set_to_wal(tmp_path: Path) -> None:
    """A store that VACUUM INTO copied is in mode DELETE, which Bytewax's processes would each change at once."""
    store, restored = tmp_path / "recovery", tmp_path / "restored"
    recovery_store.prepare(store)
    restored.mkdir()
    with closing(sqlite3.connect(store / "part-0.sqlite3")) as database:
        database.execute("VACUUM INTO ?", [str(restored / "part-0.sqlite3")])
    assert _journal_mode(restored / "part-0.sqlite3") == "delete"
    recovery_store.prepare(restored)
    assert _journal_mode(restored / "part-0.sqlite3") == "wal"


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    """What Bytewax would end with, and in a cluster without a word, is refused with the file's name."""
    (tmp_path / "part-0.sqlite3").write_bytes(b"no database" * 100)
    with pytest.raises(
        ConfigurationError, match=r"part-0\.sqlite3: expected a recovery store's file, found that: file is"
    ):
        recovery_store.prepare(tmp_path)


def test_a_start_that_was_killed_leaves_no_half_store(tmp_path: Path) -> None:
    """What a killed start left is made anew, so that the store appears whole."""
    recovery_store.prepare(tmp_path / "other")
    half = tmp_path / "recovery" / ".new"
    shutil.copytree(tmp_path / "other", half)
    (half / "part-0.sqlite3").write_bytes(b"")
    recovery_store.prepare(tmp_path / "recovery")
    assert [path.name for path in (tmp_path / "recovery").iterdir()] == ["part-0.sqlite3"]
    assert _journal_mode(tmp_path / "recovery" / "part-0.sqlite3") == "wal"

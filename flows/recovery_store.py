"""Makes Bytewax's recovery store, and leaves one as several processes can open it at once."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from connectors.base import durable
from libcore.errors import ConfigurationError


def prepare(store: Path) -> None:
    """Make a recovery store where it is missing, and leave it as several processes can open it at once.

    One partition, because the state is a few dozen fat keys: an epoch costs 1.1 ms with 1 partition, 1.7 with 4, 6.4
    with 16, and several only pay where a resume has hundreds of thousands of keys. The count is fixed for life.

    Args:
        store: the directory for Bytewax's `-r`; may exist and be empty.
    Raises: ConfigurationError with the reason where it cannot be made or opened.
    """
    if not any(store.glob("part-*.sqlite3")):
        _make(store)
    for part in store.glob("part-*.sqlite3"):
        _keep_wal(part)


def _make(store: Path) -> None:
    durable.make_directory(store)
    fresh = store / ".new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    # What `python -m bytewax.recovery DIR 1` does, without the 0.1 s of another process.
    from bytewax.recovery import init_db_dir

    try:
        init_db_dir(fresh, 1)  # type: ignore[no-untyped-call]
    except Exception as error:  # Bytewax raises what its Rust side met, of no common class
        raise ConfigurationError(f"{store}: the recovery store could not be made: {error}") from error
    (made,) = fresh.glob("part-*.sqlite3")
    # A half-made store would be refused at every start, so the one file appears whole.
    durable.put(made, store / made.name)
    shutil.rmtree(fresh)


def _keep_wal(part: Path) -> None:
    """Bytewax's processes each set a file that is in another journal mode, as one that VACUUM INTO made, to WAL.

    Where two do so at once SQLite refuses one without waiting ("database is locked", 4 of 100 starts of two), and in a
    cluster both end without that word. SQLite keeps the mode in the file.
    """
    try:
        with closing(sqlite3.connect(f"{part.absolute().as_uri()}?mode=rw", uri=True)) as database:
            database.execute("PRAGMA journal_mode = WAL").fetchall()
    except sqlite3.Error as error:
        raise ConfigurationError(f"{part}: expected a recovery store's file, found that: {error}") from error

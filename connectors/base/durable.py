"""Files that outlast a power failure: their bytes are on the disk, and so is the name that leads to them.

fsync of a file keeps its bytes, not its entry in the directory (fsync(2)); a rename without fsync of the draft may keep
the new name and none of the bytes. What a recovery state names must survive what the state survives.
"""

from __future__ import annotations

import os
from pathlib import Path


def sync_directory(directory: str | Path) -> None:
    """The names in the directory are on the disk when this returns. Raises OSError."""
    _sync(directory, os.O_RDONLY | os.O_DIRECTORY)


def make_directory(directory: Path) -> None:
    """Make it and its parents where they are missing; their names are on the disk when this returns. Raises OSError."""
    if not directory.is_dir():
        make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)


def put(draft: Path, path: Path) -> None:
    """Give a written and closed file its name, in the place of a former one. Raises OSError.

    After a power failure the former file stands there, or the whole new one; when this returns, the new one.
    """
    _sync(draft, os.O_RDONLY)
    draft.replace(path)
    sync_directory(path.parent)


def _sync(path: str | Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

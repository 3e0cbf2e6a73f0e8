"""Small JSON files that others read while they are written: a reader sees the old text or the new, never a part."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any


def read(path: Path, default: Any) -> Any:
    """What the file says; `default` where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default


def write(path: Path, value: Any) -> None:
    """Put the value in the file's place. Not synced: it may be the old one after a power failure."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    draft.write_text(json.dumps(value), encoding="utf-8")
    draft.replace(path)

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


def write(path: Path, value: Any, *, durably: bool = False) -> None:
    """Put the value in the file's place. Unless `durably`, it may be the old one after a power failure."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        if durably:
            file.flush()
            os.fsync(file.fileno())
    draft.replace(path)
    if durably:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Small JSON files that others read while they are written: a reader sees the old text or the new, never a part."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from connectors.base import durable


def read(path: Path, default: Any) -> Any:
    """What the file says; `default` where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default


def write(path: Path, value: Any, *, durably: bool = False) -> None:
    """Put the value in the file's place. Unless `durably`, a power failure may leave it old, or empty."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(value, file)
    if durably:
        durable.put(draft, path)
    else:
        draft.replace(path)

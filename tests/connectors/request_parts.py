"""Requests to read a table again, as files, and their answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def ask(directory: Path, table: str, where: str = "", identity: str = "one", *, columns: Sequence[str] = ()) -> Path:
    """A request file; where its answer comes."""
    (directory / "requests").mkdir(parents=True, exist_ok=True)
    words = {"table": table, "where": where, "columns": list(columns)}
    (directory / "requests" / f"{identity}.json").write_text(json.dumps(words), "utf-8")
    return directory / "run" / f"request-{identity}.json"


def answered(path: Path) -> dict[str, Any]:
    """The answer's words."""
    return dict(json.loads(path.read_text("utf-8")))

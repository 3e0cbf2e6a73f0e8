"""Requests to read a table again, as files, and their answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from connectors.base import json_file
from libcore.schema import Column, Table, parse_type


def ask(directory: Path, table: str, where: str = "", identity: str = "one", *, columns: Sequence[str] = ()) -> Path:
    """A request file; where its answer comes."""
    (directory / "requests").mkdir(parents=True, exist_ok=True)
    words = {"table": table, "where": where, "columns": list(columns)}
    json_file.write(directory / "requests" / f"{identity}.json", words)  # as the command does: never seen half-written
    return directory / "run" / f"request-{identity}.json"


def answered(path: Path) -> dict[str, Any]:
    """The answer's words."""
    return dict(json.loads(path.read_text("utf-8")))


def asked_table(name: str, key: Sequence[str], *others: str, whole: str = "", dropped: Sequence[str] = ()) -> Any:
    """A table of texts as a source reads it; see connectors.base.columns.AskedTable."""
    columns = tuple(Column(one, parse_type("string"), one not in key) for one in (*key, *others))
    return SimpleNamespace(table=Table(name, columns, tuple(key)), whole=whole, dropped=tuple(dropped))

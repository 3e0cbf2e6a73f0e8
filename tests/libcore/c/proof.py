"""docs/reference/proof.json: what the long runs found, each tool under its own name; the reference shows it."""

from __future__ import annotations

import datetime
import json
from typing import Any

from libcore import build_ffi

PATH = build_ffi.ROOT.parent / "docs" / "reference" / "proof.json"


def today() -> str:
    """The date of a note, in UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def read() -> dict[str, Any]:
    """All notes."""
    return json.loads(PATH.read_text("utf-8")) if PATH.exists() else {}


def note(tool: str, name: str, what: dict[str, Any]) -> None:
    """Replace one note of a tool."""
    notes = read()
    notes.setdefault(tool, {})[name] = what
    ordered = {key: dict(sorted(notes[key].items())) for key in sorted(notes)}
    PATH.write_text(json.dumps(ordered, indent=1) + "\n", "utf-8")

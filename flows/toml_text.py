"""Where a setting stands in a TOML text, and data as TOML again: what the standard library's reader leaves out."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

Path = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ERROR_LINE = re.compile(r"at line (\d+)")


def lines_of(text: str) -> dict[Path, int]:
    """The 1-based line of each table header and each `key = value` of a valid TOML text, by its path.

    A value written over several lines has the line of its key; entries of an inline table share their table's line.
    """
    found: dict[Path, int] = {}
    header: Path = ()
    counters: dict[Path, int] = {}
    for line, statement in _statements(text):
        if statement.startswith("["):
            header = _header_path(statement, counters)
            found.setdefault(header, line)
        else:
            path = (*header, *_key_path(statement))
            for length in range(len(header) + 1, len(path) + 1):
                found.setdefault(path[:length], line)
    return found


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of a path, else of the first thing inside it, else the same of what encloses it; 1 where none does."""
    for length in range(len(path), 0, -1):
        inside = [line for known, line in lines.items() if known[:length] == path[:length]]
        if inside:
            return lines.get(path[:length], min(inside))
    return 1


def error_line(error: tomllib.TOMLDecodeError, text: str) -> int:
    """The line a TOML syntax error names; the last one where it speaks of the end of the document."""
    match = _ERROR_LINE.search(str(error))
    return int(match[1]) if match else text.count("\n") + 1


def dumps(data: Mapping[str, Any]) -> str:
    """Data of strings, numbers, booleans, lists and tables as TOML that reads back equal; None values are left out."""
    return "".join(_table_lines((), data)).lstrip("\n")


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each statement: a header, or a key with its whole value."""
    pending: list[str] = []
    start = 1
    for number, line in enumerate(text.splitlines(), 1):
        if not pending and not line.split("#", 1)[0].strip():
            continue
        if not pending:
            start = number
        pending.append(line)
        statement = "\n".join(pending)
        try:
            tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # an unfinished array or multi-line string: its next line belongs to it
        yield start, statement.strip()
        pending = []


def _header_path(statement: str, counters: dict[Path, int]) -> Path:
    """The path of a `[table]` or `[[array]]` header; array elements get their index."""
    path: Path = ()
    for name in _single_path(tomllib.loads(statement)):
        path = (*path, name)
        if path in counters and not statement.startswith("[["):
            path = (*path, counters[path])
    if statement.startswith("[["):
        counters[path] = counters.get(path, -1) + 1
        path = (*path, counters[path])
    return path


def _single_path(value: Any) -> Iterator[str]:
    while True:
        if isinstance(value, list):
            value = value[0]
        if not isinstance(value, dict) or not value:
            return
        name, value = next(iter(value.items()))
        yield name


def _key_path(statement: str) -> tuple[str, ...]:
    """The (dotted) key left of the `=`: the shortest prefix that is a key."""
    for match in re.finditer("=", statement):
        try:
            return tuple(_single_path(tomllib.loads(statement[: match.start()] + "= 0")))
        except tomllib.TOMLDecodeError:
            continue  # this `=` stands inside a quoted key
    raise AssertionError(f"no key in {statement!r}")


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return (
        '"' + "".join(escapes.get(c) or (f"\\u{ord(c):04X}" if ord(c) < 32 or ord(c) == 127 else c) for c in text) + '"'
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        entries = ", ".join(f"{_key(name)} = {_value(item)}" for name, item in value.items() if item is not None)
        return "{ " + entries + " }" if entries else "{}"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Sequence):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return repr(value)


def _table_lines(path: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[str]:
    nested = {name: item for name, item in table.items() if isinstance(item, Mapping)}
    plain = {name: item for name, item in table.items() if name not in nested and item is not None}
    if path and (plain or not nested):
        yield "\n[" + ".".join(_key(name) for name in path) + "]\n"
    for name, item in plain.items():
        yield f"{_key(name)} = {_value(item)}\n"
    for name, item in nested.items():
        yield from _table_lines((*path, name), item)

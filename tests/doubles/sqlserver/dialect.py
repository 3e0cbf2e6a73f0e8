"""T-SQL as text: statements of a batch, and what sqlglot needs to read it right."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.tsql import TSQL
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType

from tests.doubles.sqlserver.errors import SqlError
from tests.doubles.sqlserver.signatures import FUNCTIONS


class Dialect(TSQL):  # type: ignore[misc]
    """T-SQL whose real is told from float, ntext from text, and SYSDATETIME() from GETDATE()."""

    class Tokenizer(TSQL.Tokenizer):  # type: ignore[misc]  # noqa: D106
        KEYWORDS = TSQL.Tokenizer.KEYWORDS | {"REAL": TokenType.DOUBLE, "NTEXT": TokenType.LONGTEXT}

    class Parser(TSQL.Parser):  # type: ignore[misc]  # noqa: D106
        FUNCTIONS: ClassVar[dict[str, Any]] = {
            name: build
            for name, build in TSQL.Parser.FUNCTIONS.items()
            if name.startswith("DATE") or name.lower() not in {*FUNCTIONS, "generate_series"}
        }


_QUOTED = r"'(?:[^']|'')*'|\[(?:[^\]]|\]\])*\]|\"[^\"]*\""
_PIECES = re.compile(rf"{_QUOTED}|--[^\n]*|/\*.*?\*/|;", re.DOTALL)
_CHANGES = re.compile(r"CHANGETABLE\s*\(\s*CHANGES\s+((?:\[[^\]]*\]|[\w.])+)\s*,", re.IGNORECASE)
_VALUES = re.compile(r"\s+WITH\s+VALUES\s*$", re.IGNORECASE)
_CLUSTERED = re.compile(r"\b(?:NON)?CLUSTERED\b", re.IGNORECASE)


def statements(batch: str) -> list[str]:
    """The statements between semicolons, without comments."""
    found, current, start = [], "", 0
    for piece in _PIECES.finditer(batch):
        if piece[0] == ";" or piece[0].startswith(("--", "/*")):
            current += batch[start : piece.start()] + " "
            start = piece.end()
        if piece[0] == ";":
            found.append(current)
            current = ""
    found.append(current + batch[start:])
    return [text.strip() for text in found if text.strip()]


_REMEMBERED_MAX = 4096  # characters: what drivers and connectors ask again and again is shorter


@lru_cache(maxsize=1024)
def _parsed(statement: str) -> exp.Expression:
    return _parse(statement)


def _parse(statement: str) -> exp.Expression:
    text = _CHANGES.sub(lambda found: f"CHANGETABLE(N'{found[1]}',", statement)
    text = _CLUSTERED.sub("", _VALUES.sub("", text)) if re.match(r"\s*(CREATE|ALTER)\b", text, re.I) else text
    try:
        tree = sqlglot.parse_one(text, read=Dialect)
    except (SqlglotError, ValueError) as error:
        raise SqlError(102, f"Incorrect syntax, or unknown to the double: {error}") from error
    assert tree is not None
    return tree


def parse(statement: str) -> exp.Expression:
    """The tree of one statement, to be changed at will. Raises SqlError 102."""
    return _parsed(statement).copy() if len(statement) <= _REMEMBERED_MAX else _parse(statement)


def plain_name(text: str) -> str:
    """`[dbo].[items]`, `shop.dbo.items` or `items` as `dbo.items`."""
    parts = re.findall(r"\[((?:[^\]]|\]\])*)\]|\"([^\"]*)\"|([^.\[\]\"]+)", text)
    names = [(one or two or three).strip().replace("]]", "]") for one, two, three in parts]
    return ".".join(names[-2:] if len(names) > 1 else ["dbo", *names])


def table_name(table: exp.Table) -> str:
    """`schema.table` of a table in a tree."""
    return f"{table.db or 'dbo'}.{table.name}"

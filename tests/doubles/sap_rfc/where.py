"""The condition in OPTIONS as SQL: what Open SQL knows of it, blanks around each word, lines of 72 characters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.doubles.sap_rfc.failures import ABAPApplicationError

LINE = 72
_WORD = re.compile(r"\s*('(?:[^']|'')*'|[^\s']+)(?=\s|$)")
_SIGNS = {"=": "=", "EQ": "=", "<>": "<>", "NE": "<>", ">": ">", "GT": ">", ">=": ">=", "GE": ">=", "<": "<", "LT": "<",
          "<=": "<=", "LE": "<=", "LIKE": "LIKE"}  # fmt: skip
_PLAIN = {"AND", "OR", "NOT", "IN", "(", ")", ",", "BETWEEN"}


def sql(options: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> tuple[str, list[Any]]:
    """(the condition, its values). Raises OPTION_NOT_VALID; what is behind 72 characters is cut off."""
    text = " ".join(str(row["TEXT"])[:LINE] for row in options)
    words, at = [], 0
    while text[at:].strip():
        match = _WORD.match(text, at)
        if match is None:
            raise ABAPApplicationError(f"no word: {text[at:]!r}", "OPTION_NOT_VALID")
        words.append(match[1])
        at = match.end()
    parts: list[str] = []
    values: list[Any] = []
    numeric = False
    for word in words:
        if word in kinds:
            numeric = kinds[word] in ("DEC", "CURR", "QUAN", "INT1", "INT2", "INT4", "INT8")
            parts.append(f'CAST("{word}" AS NUMERIC)' if numeric else f'"{word}"')
        elif word.upper() in _SIGNS:
            parts.append(_SIGNS[word.upper()])
        elif word.upper() in _PLAIN:
            parts.append(word.upper())
        elif word.startswith("'"):
            parts.append("?")
            value = word[1:-1].replace("''", "'").rstrip(" ")
            values.append(_number(value) if numeric else value)
        elif re.fullmatch(r"-?\d+(\.\d+)?", word):
            parts.append("?")
            values.append(_number(word))
        else:
            raise ABAPApplicationError(f"not known: {word}", "OPTION_NOT_VALID")
    return " ".join(parts), values


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text or 0)

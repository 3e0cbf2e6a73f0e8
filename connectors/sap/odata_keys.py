"""An entity's address -> its key: what a deletion names, where it brings no row.

V2 writes Orders(Number='4711',Day=datetime'2024-02-29T00:00:00'), V4 Orders(Number='4711',Day=2024-02-29); a key of one
property stands without its name. The texts come out as the property would stand in JSON.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

from libcore.errors import DataError

_VALUE = r"""(?:[A-Za-z]*'(?:[^']|'')*'|[^',()=]+)"""
_PART = re.compile(rf"(?:([A-Za-z_][A-Za-z0-9_.]*)=)?({_VALUE})(?:,|$)")
_LAST = re.compile(r"(?:^|/)[A-Za-z_][\w.]*\((.*)\)$", re.S)
_TYPED = re.compile(r"([A-Za-z]*)'((?:[^']|'')*)'")
# nothing but a number: a GUID of V4, bare, may end in d and have no other letter but e
_SUFFIX = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)[LlMmDdFf]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def key_of(address: str, names: Sequence[str]) -> dict[str, str]:
    """The key properties of an entity's uri or id. Raises DataError where it does not name them all.

    Args:
        names: of the key, in its order.
    """
    last = _LAST.search(unquote(address))
    inside = last[1] if last else ""
    found: dict[str, str] = {}
    at = 0
    while at < len(inside) and (match := _PART.match(inside, at)):
        try:
            found[match[1] or names[0]] = literal(match[2])
        except ValueError as error:
            raise DataError(f"expected a key in an address, found {match[2][:60]!r}: {error}") from error
        at = match.end()
    if at < len(inside) or not inside or set(found) != set(names):
        raise DataError(f"expected an address with the key {', '.join(names)}, found {address[:200]!r}")
    return found


def literal(text: str) -> str:
    """A value of an address as it stands in JSON."""
    typed = _TYPED.fullmatch(text)
    if typed is None:
        number = _SUFFIX.fullmatch(text)
        return number[1] if number else text
    prefix, inside = typed[1].lower(), typed[2].replace("''", "'")
    if prefix in ("datetime", "datetimeoffset"):
        moment = datetime.fromisoformat(inside)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return f"/Date({(moment - _EPOCH) // timedelta(milliseconds=1)})/"
    if prefix in ("x", "binary"):
        return base64.b64encode(bytes.fromhex(inside)).decode()
    return inside

"""WHERE clauses over a table's key: ranges, and rows by their keys, in as many clauses as their length asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.sap.types import DdicField, literal

Key = tuple[str, ...]
"""The values of the key fields as a row has them, trailing blanks apart; without the client."""


def conjunction(*parts: str) -> str:
    """All of them, those that are empty apart."""
    return " AND ".join(f"( {part} )" if " OR " in part else part for part in parts if part)


def between(fields: Sequence[DdicField], after: Key | None, until: Key | None) -> str:
    """Rows with keys above `after`, and up to `until`; None: no bound. ABAP has no comparison of several columns."""
    shared = 0
    if after is not None and until is not None:
        while shared < len(fields) and after[shared] == until[shared]:
            shared += 1
    same = [f"{one.name} = {literal(one, (after or ())[index])}" for index, one in enumerate(fields[:shared])]
    rest = fields[shared:]
    lower = "" if after is None else _beyond(rest, after[shared:], ">", strict=True)
    upper = "" if until is None else _beyond(rest, until[shared:], "<", strict=False)
    return conjunction(*same, lower, upper)


def _beyond(fields: Sequence[DdicField], key: Key, sign: str, *, strict: bool) -> str:
    alternatives = []
    for index, field in enumerate(fields):
        last = index == len(fields) - 1
        same = [f"{one.name} = {literal(one, key[at])}" for at, one in enumerate(fields[:index])]
        compared = f"{field.name} {sign}{'=' if last and not strict else ''} {literal(field, key[index])}"
        alternatives.append(" AND ".join([*same, compared]))
    return either(alternatives)


def of_keys(fields: Sequence[DdicField], keys: Sequence[Key], characters_max: int) -> Iterator[tuple[str, list[Key]]]:
    """(a clause, its keys): together all keys, each clause at most so long, but of one key at least."""
    held: list[str] = []
    some: list[Key] = []
    length = 0
    for key in keys:
        part = same(fields, key)
        if some and length + len(part) + 8 > characters_max:
            yield either(held), some
            held, some, length = [], [], 0
        held.append(part)
        some.append(key)
        length += len(part) + 8
    if some:
        yield either(held), some


def same(fields: Sequence[DdicField], key: Key) -> str:
    """The rows with these values."""
    return " AND ".join(f"{one.name} = {literal(one, value)}" for one, value in zip(fields, key, strict=True))


def either(parts: Sequence[str]) -> str:
    """One of them at least. No IN: releases differ in how its list is written."""
    return parts[0] if len(parts) == 1 else " OR ".join(f"( {part} )" if " AND " in part else part for part in parts)

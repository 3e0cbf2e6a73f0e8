"""All rows of a table in ranges of its key, whatever order the function answers in.

Where the function orders by the primary key and reads whole rows, a page is the next so many rows. Else a probe of keys
alone finds a range that holds about so many, and the range is read without a limit: so a page is whole in any order,
and can be read in several calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from connectors.sap.rfc_rows import Rows, WantedTable
from connectors.sap.rfc_table import Ability
from connectors.sap.rfc_where import Key, between, conjunction
from connectors.sap.rfc_whole import WholeRows
from connectors.sap.types import sort_value
from libcore.errors import ConfigurationError


def pages(
    rows: WholeRows, able: Ability, wanted: WantedTable, after: Key | None, size: Callable[[], int], also: str = ""
) -> Iterator[tuple[Rows, Key | None]]:
    """(the rows of a range, up to which key) from behind `after` to the table's end; None: that is the end.

    Args:
        size: how many rows the next page shall have, about.
        also: a condition that they fulfil.
    """
    fields = wanted.found.key
    while True:
        count = size()
        if able.ordered and rows.one_call:
            found = rows.where(conjunction(between(fields, after, None), also), rows_max=count, ordered=True)
            until = found.last if len(found) >= count else None
        else:
            until = _border(rows, wanted, after, count, also)
            found = rows.where(conjunction(between(fields, after, until), also))
        yield found, until
        if until is None:
            return
        after = until


def key_pages(rows: WholeRows, wanted: WantedTable, count: int) -> Iterator[list[Key]]:
    """All keys of a table."""
    after: Key | None = None
    while True:
        until = _border(rows, wanted, after, count, "")
        yield rows.keys(between(wanted.found.key, after, until))
        if until is None:
            return
        after = until


def _border(rows: WholeRows, wanted: WantedTable, after: Key | None, count: int, also: str) -> Key | None:
    """Up to where a range behind `after` reaches that holds at most twice so many rows; None: to the end."""
    fields = wanted.found.key

    def order(key: Key) -> tuple[object, ...]:
        return tuple(sort_value(one, value) for one, value in zip(fields, key, strict=True))

    def clause(until: Key | None) -> str:
        return conjunction(between(fields, after, until), also)

    found = rows.keys(clause(None), rows_max=count + 1)
    if len(found) <= count:
        return None
    until = sorted(found, key=order)[count - 1]
    while rows.count(clause(until), 2 * count + 1) > 2 * count:
        # the answer was in another order: what lies below the middle of some of them is fewer
        inside = sorted(rows.keys(clause(until), rows_max=2 * count + 1), key=order)
        middle = inside[len(inside) // 2]
        if middle == until:
            raise ConfigurationError(
                f"source.sap_rfc: table {wanted.table.name}: expected keys in the order of their characters, found "
                "another: use a function that orders them (GET_SORTED)"
            )
        until = middle
    return until

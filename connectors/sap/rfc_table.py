"""Calls of RFC_READ_TABLE and its relatives: which one a system has, what each can do, and the rows that it answers.

function                         rows in                 a row holds     order
RFC_READ_TABLE                   DATA                    512 characters  none
RFC_READ_TABLE, newer releases   ET_DATA (text)          any             GET_SORTED: by the primary key
/BODS/, /SAPDS/RFC_READ_TABLE    DATA                    2048            none
/BODS/, /SAPDS/RFC_READ_TABLE2   OUT_TABLE names it      30000           none
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from connectors.sap.rfc_driver import NotThere
from connectors.sap.rfc_session import Session
from libcore.errors import ConfigurationError
from libcore.sapfmt_rfc import options

PLAIN = "RFC_READ_TABLE"
WIDE = 30_000
_DELIMITERS = "|\t~^`;"
_BEST_FIRST = ("/SAPDS/RFC_READ_TABLE2", "/BODS/RFC_READ_TABLE2", "/SAPDS/RFC_READ_TABLE", "/BODS/RFC_READ_TABLE")


@dataclass(frozen=True)
class Ability:
    """What a function that reads tables can do.

    Args:
        function: its name.
        characters: that a row holds; 0: no bound.
        delimited: rows are texts (ET_DATA), whose cells stand between delimiters.
        ordered: it can order rows by the primary key.
    """

    function: str
    characters: int
    delimited: bool = False
    ordered: bool = False


def ability(session: Session, function: str) -> Ability:
    """What a function can do, by its parameters. Raises NotThere."""
    there = session.parameters(function)
    if missing := [name for name in ("QUERY_TABLE", "FIELDS", "OPTIONS", "ROWCOUNT") if name not in there]:
        raise NotThere(f"source.sap_rfc: function {function}: expected a parameter {missing[0]}, found none")
    if "ET_DATA" in there and "USE_ET_DATA_4_RETURN" in there:
        return Ability(function, 0, delimited=True, ordered="GET_SORTED" in there)
    if "OUT_TABLE" in there:
        return Ability(function, WIDE)
    return Ability(function, 2048 if function.startswith(("/BODS/", "/SAPDS/")) else 512)


def found(session: Session, wanted: str) -> Ability:
    """The function that is wanted; of auto the best that is there: no bound and an order, else the widest row."""
    if wanted != "auto":
        return ability(session, wanted)
    there: list[Ability] = []
    refused: ConfigurationError | None = None
    for function in (PLAIN, *_BEST_FIRST):
        try:
            one = ability(session, function)
            session.call(function, QUERY_TABLE="T000", NO_DATA="X")
        except ConfigurationError as error:
            # not there, or not for this user; a table that is not for this user shows that the function is
            if not isinstance(error, NotThere) or error.key != "NOT_AUTHORIZED":
                refused = refused or error
                continue
        there.append(one)
        if one.delimited or one.characters == WIDE:
            return one
    if not there:
        assert refused is not None, "none was there"
        raise refused
    return max(there, key=lambda one: one.characters)


@dataclass(frozen=True)
class Answer:
    """Rows of one call.

    Args:
        fields: FIELDS as the system filled it: FIELDNAME, OFFSET, LENGTH, TYPE.
        rows: utf8, one text a row.
        delimiter: between cells; "" where these stand at their offsets.
    """

    fields: tuple[tuple[str, int, int, str], ...]
    rows: pa.StringArray
    delimiter: str = ""


def read(
    session: Session,
    able: Ability,
    table: str,
    names: Sequence[str],
    where: str = "",
    *,
    rows_max: int = 0,
    ordered: bool = False,
    attempt: int = 0,
) -> Answer:
    """Some fields of some rows.

    Args:
        names: the fields, in this order.
        rows_max: at most so many rows, 0: all. Which of more there are is not known, unless they are ordered.
        ordered: by the primary key; needs an ability for it.
        attempt: which delimiter to take, where former ones stood in values.
    Raises: TooWide, ConfigurationError, TransientError.
    """
    delimiter = _DELIMITERS[attempt] if able.delimited else ""
    parameters: dict[str, Any] = {
        "QUERY_TABLE": table,
        "FIELDS": [{"FIELDNAME": name} for name in names],
        "OPTIONS": [{"TEXT": text} for text in options(where)],
        "ROWCOUNT": rows_max,
        "ROWSKIPS": 0,
        "DELIMITER": delimiter or " ",
    }
    parameters |= {"USE_ET_DATA_4_RETURN": "X"} if able.delimited else {}
    parameters |= {"GET_SORTED": "X"} if ordered else {}
    answer = session.call(able.function, **parameters)
    fields = tuple(
        (str(row["FIELDNAME"]).strip(), int(row["OFFSET"]), int(row["LENGTH"]), str(row["TYPE"]).strip())
        for row in answer["FIELDS"]
    )
    return Answer(fields, pa.array(_lines(answer, able), pa.utf8()), delimiter)


def attempts(able: Ability) -> range:
    """The attempts that `read` knows."""
    return range(len(_DELIMITERS) if able.delimited else 1)


def _lines(answer: Mapping[str, Any], able: Ability) -> list[str]:
    if able.delimited:
        return [row["LINE"] for row in answer["ET_DATA"]]
    rows = answer[str(answer["OUT_TABLE"]).strip()] if "OUT_TABLE" in answer else answer["DATA"]
    return [row["WA"] for row in rows]


def texts(
    session: Session, able: Ability, table: str, names: Sequence[str], where: str = "", *, rows_max: int = 0
) -> list[dict[str, str]]:
    """Rows of one of the system's own tables, as texts without the blanks behind them."""
    for attempt in attempts(able):
        answer = read(session, able, table, names, where, rows_max=rows_max, attempt=attempt)
        rows = [_cells(answer, row) for row in answer.rows.to_pylist()]
        if all(len(row) == len(answer.fields) for row in rows):
            return [
                {field[0]: cell.rstrip(" ") for field, cell in zip(answer.fields, row, strict=True)} for row in rows
            ]
    raise ConfigurationError(f"source.sap_rfc: table {table}: every delimiter stands in its values")


def _cells(answer: Answer, row: str) -> list[str]:
    if answer.delimiter:
        return row.split(answer.delimiter)
    # ABAP counts in UTF-16: a character above U+FFFF is two wide
    units = row.encode("utf-16-le", "surrogatepass")
    cells = (units[2 * offset : 2 * (offset + length)] for _, offset, length, _ in answer.fields)
    return [cell.decode("utf-16-le", "surrogatepass") for cell in cells]

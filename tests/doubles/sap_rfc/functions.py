"""The function modules of the fake: reading tables, the dictionary, change pointers, a BAPI, commit and rollback."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.doubles.sap_rfc import where
from tests.doubles.sap_rfc.failures import ABAPApplicationError, ABAPRuntimeError
from tests.doubles.sap_rfc.standard import LETTERS, Field
from tests.doubles.sap_rfc.system import System

BEFORE: list[Callable[[str, dict[str, Any]], None]] = []
"""Called in front of each call of this process: what a test does between two calls of a reader."""
_TABLE = ("QUERY_TABLE", "DELIMITER", "NO_DATA", "ROWSKIPS", "ROWCOUNT", "OPTIONS", "FIELDS")
_WIDE = ("/BODS/RFC_READ_TABLE2", "/SAPDS/RFC_READ_TABLE2")
_TBLOUT = (128, 512, 2048, 8192, 30000)
_PLAIN: dict[str, tuple[str, ...]] = {
    "STFC_CONNECTION": ("REQUTEXT", "ECHOTEXT", "RESPTEXT"),
    "DDIF_FIELDINFO_GET": ("TABNAME", "FIELDNAME", "LANGU", "ALL_TYPES", "DFIES_TAB"),
    "EM_GET_NUMBER_OF_ENTRIES": ("IT_TABLES",),
    "CHANGE_POINTERS_READ": ("MESSAGE_TYPE", "READ_NOT_PROCESSED_POINTERS", "CHANGE_POINTERS"),
    "CHANGE_POINTERS_STATUS_WRITE": ("MESSAGE_TYPE", "CHANGE_POINTERS_IDENTS"),
    "BAPI_TRANSACTION_COMMIT": ("WAIT", "RETURN"),
    "BAPI_TRANSACTION_ROLLBACK": ("RETURN",),
}


def parameters(system: System, name: str) -> list[dict[str, Any]] | None:
    """A function's parameters as pyrfc describes them; None: there is none of that name."""
    if name == "BAPI_SALESORDER_CHANGE":
        return [
            {
                "name": "SALESDOCUMENT",
                "parameter_type": "RFCTYPE_CHAR",
                "uc_length": 20,
                "nuc_length": 10,
                "decimals": 0,
            },
            {"name": "PRIORITY", "parameter_type": "RFCTYPE_INT1", "uc_length": 1, "nuc_length": 1, "decimals": 0},
            {"name": "NETWR", "parameter_type": "RFCTYPE_BCD", "uc_length": 8, "nuc_length": 8, "decimals": 2},
            {"name": "RETURN", "parameter_type": "RFCTYPE_TABLE", "uc_length": 0, "nuc_length": 0, "decimals": 0},
        ]
    names = _PLAIN.get(name)
    settings = system.settings
    if name in ("RFC_READ_TABLE", *_WIDE):
        if name in _WIDE and not settings["wide"]:
            return None
        names = (*_TABLE, "OUT_TABLE", *(f"TBLOUT{size}" for size in _TBLOUT)) if name in _WIDE else (*_TABLE, "DATA")
        if name == "RFC_READ_TABLE" and settings["et_data"]:
            names += ("USE_ET_DATA_4_RETURN", "ET_DATA")
        if name == "RFC_READ_TABLE" and settings["get_sorted"]:
            names += ("GET_SORTED",)
    if names is None:
        return None
    return [
        {"name": one, "parameter_type": "RFCTYPE_TABLE", "uc_length": 0, "nuc_length": 0, "decimals": 0}
        for one in names
    ]


def run(connection: Any, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """What a function answers."""
    system = connection.system
    if name in system.settings["not_remote"]:
        raise ABAPRuntimeError(f"Function module {name} cannot be called remotely", "CALL_FUNCTION_NOT_REMOTE")
    if "QUERY_TABLE" in given:
        return _read_table(system, name, given)
    return _FUNCTIONS[name](connection, given)


def _read_table(system: System, name: str, given: dict[str, Any]) -> dict[str, Any]:
    table = str(given["QUERY_TABLE"])
    known = {one.name: one for one in system.fields(table)}
    if not known:
        raise ABAPApplicationError(f"table {table}", "TABLE_NOT_AVAILABLE")
    if table in system.settings["denied_tables"]:
        raise ABAPApplicationError(f"no authority for table {table}", "NOT_AUTHORIZED")
    wanted = [str(row["FIELDNAME"]) for row in given.get("FIELDS", [])] or list(known)
    if strange := [one for one in wanted if one not in known]:
        raise ABAPApplicationError(f"field {strange[0]}", "FIELD_NOT_VALID")
    fields = [known[one] for one in wanted]
    text = given.get("USE_ET_DATA_4_RETURN") == "X"
    delimiter = str(given.get("DELIMITER", " ")).strip(" ")
    described, width = _laid_out(fields, delimiter)
    most = max(_TBLOUT) if name in _WIDE else 512
    if not text and (width > most or any(one.datatype == "STRG" for one in fields)):
        raise ABAPApplicationError(f"{width} characters", "DATA_BUFFER_EXCEEDED")
    answer: dict[str, Any] = {"FIELDS": described, "OPTIONS": given.get("OPTIONS", [])}
    lines = [] if given.get("NO_DATA") == "X" else _lines(system, table, fields, given, delimiter, text=text)
    if text:
        return answer | {"ET_DATA": [{"LINE": line} for line in lines], "DATA": []}
    if name not in _WIDE:
        return answer | {"DATA": [{"WA": line.ljust(512)} for line in lines]}
    size = next(one for one in _TBLOUT if one >= width)
    return answer | {"OUT_TABLE": f"TBLOUT{size}", f"TBLOUT{size}": [{"WA": line.ljust(size)} for line in lines]}


def _lines(
    system: System, table: str, fields: Sequence[Field], given: dict[str, Any], delimiter: str, *, text: bool
) -> list[str]:
    """The rows' texts; in ET_DATA values have no blanks behind them."""
    if system.settings["frozen"].get(table) == [delimiter, *(one.name for one in fields)]:
        return [line for (line,) in _selected(system, table, ["line"], given, kept="f")]
    rows = _selected(system, table, [one.name for one in fields], given)
    cells = ([one.rendered(cell, text=text) for one, cell in zip(fields, row, strict=True)] for row in rows)
    return [delimiter.join(cell.rstrip(" ") if text else cell for cell in row) for row in cells]


def _laid_out(fields: Sequence[Field], delimiter: str) -> tuple[list[dict[str, str]], int]:
    """FIELDS as the function fills it, and the width of a row."""
    described, offset = [], 0
    for index, one in enumerate(fields):
        offset += len(delimiter) if index else 0
        described.append({"FIELDNAME": one.name, "OFFSET": f"{offset:06d}", "LENGTH": f"{one.length:06d}",
                          "TYPE": LETTERS[one.datatype], "FIELDTEXT": ""})  # fmt: skip
        offset += one.length
    return described, offset


def _selected(
    system: System, table: str, names: Sequence[str], given: dict[str, Any], kept: str = "t"
) -> list[tuple[Any, ...]]:
    known = system.fields(table)
    condition, values = where.sql(given.get("OPTIONS", []), {one.name: one.datatype for one in known})
    parts = [f"( {condition} )"] if condition else []
    for one in known:
        if one.datatype == "CLNT":
            parts.append(f'"{one.name}" = ?')
            values.append(system.settings["client"])
    key = ", ".join(f'"{one.name}"' for one in known if one.key)
    columns = ", ".join(f'"{one}"' for one in names)
    sql = f'SELECT {columns} FROM "{kept} {table}"' + (f" WHERE {' AND '.join(parts)}" if parts else "")
    # without GET_SORTED the order is that in which the rows were written, or none at all
    order = f" ORDER BY {key}" if given.get("GET_SORTED") == "X" and key else " ORDER BY rowid"
    count, skip = int(given.get("ROWCOUNT", 0)), int(given.get("ROWSKIPS", 0))
    if system.settings["shuffled"] and not given.get("GET_SORTED"):
        order = f" ORDER BY (rowid * {random.randrange(1, 1000) * 2 + 1}) % 1009"
    return system.select(f"{sql}{order} LIMIT {count or -1} OFFSET {skip}", values)


def _connection(connection: Any, given: dict[str, Any]) -> dict[str, Any]:
    now = connection.system.clock
    text = f"SAP R/3 Rel. 757   Sysid: FKE      Date: {now:%Y%m%d}   Time: {now:%H%M%S}   Logon_Data: 100/HEADRACE/E"
    return {"ECHOTEXT": given.get("REQUTEXT", ""), "RESPTEXT": text}


def _field_info(connection: Any, given: dict[str, Any]) -> dict[str, Any]:
    fields = connection.system.fields(str(given["TABNAME"]))
    if not fields:
        raise ABAPApplicationError(f"table {given['TABNAME']}", "NOT_FOUND")
    return {"DFIES_TAB": [one.dfies(position) for position, one in enumerate(fields, 1)]}


def _row_counts(connection: Any, given: dict[str, Any]) -> dict[str, Any]:
    names = [str(row["TABNAME"]) for row in given["IT_TABLES"]]
    counts = [_selected(connection.system, name, ["rowid"], {}) for name in names]
    return {"IT_TABLES": [{"TABNAME": name, "TABROWS": len(rows)} for name, rows in zip(names, counts, strict=True)]}


def _pointers(connection: Any, given: dict[str, Any]) -> dict[str, Any]:
    names = ("CPIDENT", "TABNAME", "TABKEY", "FLDNAME", "CDCHGID")
    columns = ", ".join(f'"{one}"' for one in names)
    rows = connection.system.select(
        f'SELECT {columns} FROM "t BDCP2" WHERE "MESTYPE" = ? AND "PROCESS" = \'\' ORDER BY "CPIDENT"',
        [given["MESSAGE_TYPE"]],
    )
    return {"CHANGE_POINTERS": [dict(zip(names, row, strict=True)) for row in rows]}


def _status_write(connection: Any, given: dict[str, Any]) -> dict[str, Any]:
    identities = [str(row["CPIDENT"]) for row in given["CHANGE_POINTERS_IDENTS"]]
    places = ", ".join("?" * len(identities))
    connection.system.select(
        f'UPDATE "t BDCP2" SET "PROCESS" = \'X\' WHERE "MESTYPE" = ? AND "CPIDENT" IN ({places})',
        [given["MESSAGE_TYPE"], *identities],
    )
    return {}


def _order_change(connection: Any, given: dict[str, Any]) -> dict[str, Any]:
    number = str(given["SALESDOCUMENT"]).rjust(10, "0")
    found = connection.system.select('SELECT * FROM "t VBAK" WHERE "VBELN" = ?', [number])
    if not found:
        return {
            "RETURN": [
                {"TYPE": "E", "ID": "V1", "NUMBER": "302", "MESSAGE": f"SD document {number} is not in the database"}
            ]
        }
    names = [one.name for one in connection.system.fields("VBAK")]
    row = dict(zip(names, found[0], strict=True)) | {"NETWR": str(given["NETWR"])}
    connection.pending.append(row)
    return {
        "RETURN": [{"TYPE": "S", "ID": "V1", "NUMBER": "311", "MESSAGE": f"Standard Order {number} has been saved"}]
    }


def _commit(connection: Any, given: dict[str, Any]) -> dict[str, Any]:
    rows, connection.pending = connection.pending, []
    if rows:
        connection.system.write({"VBAK": rows})
    return {"RETURN": {"TYPE": "", "MESSAGE": ""}}


def _rollback(connection: Any, given: dict[str, Any]) -> dict[str, Any]:
    connection.pending = []
    return {"RETURN": {"TYPE": "", "MESSAGE": ""}}


_FUNCTIONS: dict[str, Callable[[Any, dict[str, Any]], dict[str, Any]]] = {
    "STFC_CONNECTION": _connection,
    "DDIF_FIELDINFO_GET": _field_info,
    "EM_GET_NUMBER_OF_ENTRIES": _row_counts,
    "CHANGE_POINTERS_READ": _pointers,
    "CHANGE_POINTERS_STATUS_WRITE": _status_write,
    "BAPI_SALESORDER_CHANGE": _order_change,
    "BAPI_TRANSACTION_COMMIT": _commit,
    "BAPI_TRANSACTION_ROLLBACK": _rollback,
}

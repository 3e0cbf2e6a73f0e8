"""What the system's dictionary says: its tables, their fields, where an amount's currency stands, its decimals."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from connectors.base.database import SourceTable
from connectors.sap.rfc_config import SapRfcConfig
from connectors.sap.rfc_driver import NotThere
from connectors.sap.rfc_session import Session
from connectors.sap.rfc_table import Ability, texts
from connectors.sap.rfc_where import conjunction, either
from connectors.sap.types import LONG, ROUNDED, DdicField, column_type
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table

STORED = "stored"
PARTITION = "sap_rfc"
"""The source's one partition, as a system is read in one session."""


@dataclass(frozen=True)
class Described:
    """A table as the system has it.

    Args:
        name: its name.
        fields: those that the function in use can read exactly, the key in front.
        left_out: a sentence for each of the others.
    """

    name: str
    fields: tuple[DdicField, ...]
    left_out: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[DdicField, ...]:
        """The primary key without the client, which the system adds to each condition itself."""
        return tuple(one for one in self.fields if one.key and one.datatype != "CLNT")

    def field(self, name: str) -> DdicField:
        """The field of that name. Raises ConfigurationError."""
        for one in self.fields:
            if one.name == name:
                return one
        raise ConfigurationError(
            f"source.sap_rfc: table {self.name}: expected a field {name}, found none that can be read"
        )

    def has(self, name: str) -> bool:
        """Whether there is a field of that name."""
        return any(one.name == name for one in self.fields)


@dataclass(frozen=True)
class Amount:
    """Where the currency of an amount stands.

    Args:
        column: in the row itself, or "" where it is elsewhere.
        table, field: in the row of another table, whose key `key` the row's own columns of these names are.
        constant: it is always this one.
    """

    column: str = ""
    table: str = ""
    field: str = ""
    key: tuple[DdicField, ...] = ()
    constant: str = ""


def names(session: Session, able: Ability, config: SapRfcConfig) -> list[str]:
    """Tables and views of the dictionary that have rows; of `names` where the configuration has some."""
    exact = [name for name in config.names if not set(name) & set("*?[")]
    if config.names and len(exact) == len(config.names):
        return sorted(exact)
    heads = {re.split(r"[*?\[]", name)[0] for name in config.names} - {""}
    # a pattern that begins with a sign is looked for among all tables
    some = [f"TABNAME LIKE '{head}%'" for head in sorted(heads)] if len(heads) == len(config.names) else []
    classes = either([f"TABCLASS = '{one}'" for one in ("TRANSP", "POOL", "CLUSTER", "VIEW")])
    where = conjunction("AS4LOCAL = 'A'", classes, either(some) if some else "")
    found = sorted({row["TABNAME"] for row in texts(session, able, "DD02L", ["TABNAME"], where)})
    if not config.names:
        return found
    return [name for name in found if any(fnmatchcase(name, pattern) for pattern in config.names)]


def describe(session: Session, able: Ability, name: str) -> Described:
    """A table's fields, those that cannot be read exactly left out. Raises ConfigurationError, TransientError."""
    try:
        rows = session.call("DDIF_FIELDINFO_GET", TABNAME=name)["DFIES_TAB"]
    except NotThere:
        rows = _by_table(session, able, name)
        if not rows:
            raise
    fields, left_out, whole_key = [], [], True
    for one in map(DdicField.read, rows):
        if not able.delimited and (reason := _inexact(one)):
            left_out.append(f"{name}.{one.name}: left out: {one.datatype}: {able.function} {reason}")
            whole_key = whole_key and not one.key
        else:
            fields.append(one)
    if not whole_key:  # what is left of a key tells no rows apart
        fields = [replace(one, key=False) for one in fields]
    ordered = [one for one in fields if one.key] + [one for one in fields if not one.key]
    return Described(name, tuple(ordered), tuple(left_out))


def _inexact(field: DdicField) -> str:
    """What is lost where a row has as many characters for a field as the dictionary's LENG; "": nothing, silently."""
    if field.datatype in LONG:
        return "cannot read it"
    if field.datatype == "RAW":  # LENG counts bytes, of which each takes two digits
        return "cuts it to half of its bytes"
    return "rounds it to its length" if field.datatype in ROUNDED else ""


def _by_table(session: Session, able: Ability, name: str) -> list[dict[str, str]]:
    """The same from DD03L, where the function may not be called; conversions like ALPHA do not stand there."""
    names = ["POSITION", "FIELDNAME", "KEYFLAG", "DATATYPE", "LENG", "DECIMALS", "REFTABLE", "REFFIELD"]
    rows = texts(session, able, "DD03L", names, f"TABNAME = '{name}' AND AS4LOCAL = 'A'")
    # .INCLUDE and the like only say where the fields behind them come from
    return sorted((row for row in rows if not row["FIELDNAME"].startswith(".")), key=lambda row: row["POSITION"])


def source_table(described: Described) -> SourceTable:
    """The same for the pipeline: exact types, key, notes."""
    columns = tuple(Column(one.name, column_type(one), not one.key) for one in described.fields)
    key = tuple(one.name for one in described.fields if one.key)
    notes = list(described.left_out)
    if not key:
        notes.append(f"{described.name}: no primary key: give it one by `key`")
    return SourceTable(described.name, Table(described.name, columns, key), tuple(notes), PARTITION)


def currency_decimals(session: Session, able: Ability) -> dict[str, int]:
    """TCURX: currencies with other than two decimals."""
    return {row["CURRKEY"]: int(row["CURRDEC"] or 0) for row in texts(session, able, "TCURX", ["CURRKEY", "CURRDEC"])}


def amounts(
    session: Session, able: Ability, described: Described, columns: Sequence[str], given: Mapping[str, str]
) -> dict[str, Amount]:
    """Where the currency of each amount among the columns stands, but of those that stay as they are stored.

    Args:
        given: "TABLE.FIELD" -> a column, "=CURRENCY" or "stored", before what the dictionary says.
    Raises: ConfigurationError where it is not known.
    """
    found = {}
    for name in columns:
        field = described.field(name)
        if not field.shifted:
            continue
        setting = f"{described.name}.{name}"
        if (choice := given.get(setting)) is not None:
            if choice != STORED:
                found[name] = Amount(constant=choice[1:]) if choice.startswith("=") else _own(described, choice)
        elif field.reference_table in ("", described.name) and described.has(field.reference_field):
            found[name] = Amount(column=field.reference_field)
        elif (other := _elsewhere(session, able, described, field)) is not None:
            found[name] = other
        else:
            place = f"{field.reference_table}-{field.reference_field}" if field.reference_field else "none"
            raise ConfigurationError(
                f"source.sap_rfc: {setting}: expected its currency in the row or in a table whose key the row has, "
                f'found {place}: say where by currency = {{ "{setting}" = "COLUMN" }}, "=EUR", or "{STORED}"'
            )
    return found


def _own(described: Described, column: str) -> Amount:
    return Amount(column=described.field(column).name)


def _elsewhere(session: Session, able: Ability, described: Described, field: DdicField) -> Amount | None:
    """The table that the dictionary names, where its whole key stands in the row under the same names."""
    if not field.reference_table or not field.reference_field:
        return None
    other = describe(session, able, field.reference_table)
    if not other.key or not other.has(field.reference_field) or not all(described.has(one.name) for one in other.key):
        return None
    return Amount(table=other.name, field=field.reference_field, key=other.key)

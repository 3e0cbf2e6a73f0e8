"""A writer's Avro schema, parsed and resolved against a plan's columns: nodes and parts, as include/libcore/avro.h.

Source: Apache Avro 1.11 specification, "Complex Types", "Names" and "Schema Resolution". Records that are rows,
envelopes, source and transaction blocks have roles; the same named type in another place is another node.
"""

from __future__ import annotations

import enum
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libcore.avro_types import AvroPlan, AvroSchema, Framing
from libcore.decode import check_plan
from libcore.decode_types import Encoding, WireColumn
from libcore.errors import ConfigurationError

EXPANDED_MAX = 100_000
"""Nodes that a value has without a union, an array or a map between: more would cost much for no bytes."""


class Kind(enum.IntEnum):
    """What the bytes of a value are."""

    NULL = 1
    BOOLEAN = 2
    INT = 3
    LONG = 4
    FLOAT = 5
    DOUBLE = 6
    BYTES = 7
    STRING = 8
    FIXED = 9
    ENUM = 10
    ARRAY = 11
    MAP = 12
    UNION = 13
    RECORD = 14


@dataclass(frozen=True)
class Node:
    """See lc_avro_node."""

    kind: Kind
    count: int = 0
    first: int = 0


@dataclass(frozen=True)
class Part:
    """See lc_avro_part."""

    node: int
    role: int = -1
    name: str = ""


@dataclass(frozen=True)
class Program:
    """A resolved schema; `sent` are the table's columns that the writer knows."""

    nodes: tuple[Node, ...]
    parts: tuple[Part, ...]
    root: int
    sent: frozenset[str] = frozenset()


_PRIMITIVES = {
    "null": Kind.NULL, "boolean": Kind.BOOLEAN, "int": Kind.INT, "long": Kind.LONG, "float": Kind.FLOAT,
    "double": Kind.DOUBLE, "bytes": Kind.BYTES, "string": Kind.STRING,
}  # fmt: skip
_ENVELOPE = ("before", "after", "source", "op", "ts_ms", "status", "id", "transaction")
_SOURCE: Mapping[str, tuple[str, ...]] = {
    "none": ("ts_ms", "ts_us"),
    "postgresql": ("ts_ms", "ts_us", "snapshot", "lsn", "sequence"),
    "oracle": ("ts_ms", "ts_us", "snapshot", "scn", "commit_scn"),
    "sqlserver": ("ts_ms", "ts_us", "snapshot", "change_lsn", "commit_lsn", "event_serial_no"),
}
_TRANSACTION = ("id", "data_collection_order")
_STRUCT = ("scale", "value")

_INTEGERS = frozenset({Kind.INT, Kind.LONG})
_BINARY = frozenset({Kind.BYTES, Kind.FIXED})
_ISO = (Encoding.ZONED_TIMESTAMP, Encoding.ISO_DATE, Encoding.ISO_TIME, Encoding.ISO_TIMESTAMP)
FITS: Mapping[Encoding, frozenset[Kind]] = {
    **{encoding: _INTEGERS for encoding in Encoding},
    **{encoding: frozenset({Kind.STRING}) for encoding in _ISO},
    Encoding.BOOL: frozenset({Kind.BOOLEAN}),
    Encoding.FLOAT: _INTEGERS | {Kind.FLOAT, Kind.DOUBLE},
    Encoding.STRING: frozenset({Kind.STRING, Kind.BYTES, Kind.ENUM}),
    Encoding.BASE64: _BINARY | {Kind.STRING},
    Encoding.DECIMAL_TEXT: _INTEGERS | {Kind.STRING},
    Encoding.NUMERIC_TEXT: _INTEGERS | {Kind.STRING},
    Encoding.DECIMAL_BASE64: _BINARY,
    Encoding.BITS: _BINARY,
    Encoding.NUMERIC_STRUCT: frozenset({Kind.RECORD}),
    Encoding.DECIMAL_STRUCT: frozenset({Kind.RECORD}),
    Encoding.ARRAY: frozenset({Kind.ARRAY}),
    Encoding.RAW_JSON: frozenset(Kind),
}
"""Which kinds of the writer fill an encoding."""


def parse(text: str) -> Any:
    """A schema's JSON as Python values. Raises ConfigurationError where it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"expected an Avro schema in JSON, found {text[:80]!r}: {error}") from error


def full_name(schema: Mapping[str, Any], namespace: str) -> str:
    """A named type's name with its namespace."""
    name, given = str(schema.get("name", "")), schema.get("namespace")
    space = namespace if given is None else str(given)
    return name if "." in name or not space else f"{space}.{name}"


def resolve(plan: AvroPlan) -> tuple[Program, Program | None]:
    """The programs of the plan's values and keys. Raises ConfigurationError that names what does not fit."""
    check_plan(plan.rows)
    if plan.rows.schema_bytes is not None or plan.rows.carried is not None or plan.rows.stop_on_unknown:
        raise ConfigurationError(
            f"table {plan.rows.table.name}: a schema part, carried columns and unknown ones belong to JSON"
        )
    columns = {wire.column.name for wire in plan.rows.columns}
    if unknown := [name for name in [*plan.aliases, *plan.defaults] if name not in columns]:
        raise ConfigurationError(
            f"table {plan.rows.table.name}: no column {unknown[0]!r} to give an alias or a default"
        )
    value = _Resolver(plan, plan.writer, "row" if plan.flat else "envelope").program()
    key = None if plan.key_writer is None else _Resolver(plan, plan.key_writer, "key").program()
    return value, key


def plain_program(schema: AvroSchema) -> Program:
    """The program of a schema without columns. Raises ConfigurationError."""
    return _Resolver(None, schema, "value").program()


class _Resolver:
    """Turns one schema into nodes and parts; without a plan nothing has a role."""

    def __init__(self, plan: AvroPlan | None, schema: AvroSchema, place: str) -> None:
        self._rows, self._place = None if plan is None else plan.rows, place
        self._aliases = {} if plan is None else plan.aliases
        self._where = f"schema {schema.id}" if plan is None else f"table {plan.rows.table.name}: schema {schema.id}"
        if plan is not None and plan.framing is not Framing.NONE and not 0 <= schema.id < 1 << (8 * plan.framing):
            raise ConfigurationError(f"{self._where}: expected an id of {int(plan.framing)} bytes")
        self._schema = parse(schema.text)
        self._nodes: list[Node] = []
        self._parts: list[Part] = []
        self._named: dict[str, tuple[Mapping[str, Any], str]] = {}
        self._made: dict[tuple[str, str], int] = {}
        self._sent: set[str] = set()

    def program(self) -> Program:
        """Everything. Raises ConfigurationError."""
        try:
            root = self._node(self._schema, self._place, "")
        except RecursionError as error:
            raise ConfigurationError(f"{self._where}: nested too deeply") from error
        self._check_size(root, {}, ())
        return Program(tuple(self._nodes), tuple(self._parts), root, frozenset(self._sent))

    def _fail(self, text: str) -> ConfigurationError:
        return ConfigurationError(f"{self._where}: {text}")

    def _node(self, schema: Any, place: str, namespace: str) -> int:
        if isinstance(schema, str):
            if schema in _PRIMITIVES:
                return self._add(Node(_PRIMITIVES[schema]))
            return self._reference(schema, place, namespace)
        if isinstance(schema, list):
            return self._union(schema, place, namespace)
        if not isinstance(schema, dict):
            raise self._fail(f"expected a type, found {str(schema)[:80]}")
        kind = schema.get("type")
        if isinstance(kind, (dict, list)):
            return self._node(kind, place, namespace)
        if kind in ("record", "error", "enum", "fixed"):
            name = full_name(schema, namespace)
            if self._named.setdefault(name, (schema, namespace)) != (schema, namespace):
                raise self._fail(f"type {name} is defined twice")
            return self._named_node(name, place)
        if kind in ("array", "map"):
            inner = self._node(schema.get("items" if kind == "array" else "values"), "value", namespace)
            return self._add(Node(Kind.ARRAY if kind == "array" else Kind.MAP, 0, inner))
        return self._node(kind, place, namespace)

    def _add(self, node: Node) -> int:
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _reference(self, name: str, place: str, namespace: str) -> int:
        for full in (name, f"{namespace}.{name}") if "." in name else (f"{namespace}.{name}".lstrip("."), name):
            if full in self._named:
                return self._named_node(full, place)
        raise self._fail(f"unknown type {name!r}")

    def _union(self, branches: Sequence[Any], place: str, namespace: str) -> int:
        nodes = [self._node(branch, place, namespace) for branch in branches]
        if not nodes or any(self._nodes[node].kind is Kind.UNION for node in nodes):
            raise self._fail("expected a union of types that are no unions")
        if place != "value" and sum(self._nodes[node].kind is Kind.RECORD for node in nodes) > 1:
            raise self._fail(f"expected one record at most for the {place}, found a union of several")
        return self._add(Node(Kind.UNION, len(nodes), self._extend([Part(node) for node in nodes])))

    def _extend(self, parts: list[Part]) -> int:
        self._parts += parts
        return len(self._parts) - len(parts)

    def _named_node(self, name: str, place: str) -> int:
        schema, _ = self._named[name]
        kind = schema["type"]
        # in the places of a plain value all are one; a type may stand inside itself
        found = self._made.get((name, place))
        if found is not None:
            return found
        index = self._made[name, place] = self._add(Node(Kind.NULL))
        if kind == "fixed":
            self._nodes[index] = Node(Kind.FIXED, self._size(schema))
        elif kind == "enum":
            symbols = schema.get("symbols") or []
            self._nodes[index] = Node(
                Kind.ENUM, len(symbols), self._extend([Part(0, -1, str(symbol)) for symbol in symbols])
            )
        else:
            fields = schema.get("fields")
            if not isinstance(fields, list):
                raise self._fail(f"record {name}: expected fields")
            parts = self._fields(fields, place, name)
            self._nodes[index] = Node(Kind.RECORD, len(parts), self._extend(parts))
        return index

    def _size(self, schema: Mapping[str, Any]) -> int:
        size = schema.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**31:
            raise self._fail(f"fixed {schema.get('name')}: expected a size, found {size!r}")
        return size

    def _fields(self, fields: Sequence[Any], place: str, record: str) -> list[Part]:
        names = [str(field.get("name")) if isinstance(field, dict) else "" for field in fields]
        if twice := next((name for name, times in Counter(names).items() if times > 1), None):
            raise self._fail(f"record {record}: field {twice} stands there twice")
        namespace = record.rpartition(".")[0]
        roles = self._roles(names, place)
        parts = []
        for field, name in zip(fields, names, strict=True):
            if not isinstance(field, dict) or "type" not in field:
                raise self._fail(f"expected a field with name and type, found {str(field)[:80]}")
            role = roles.get(name, -1)
            node = self._node(field["type"], self._inner(place, name), namespace)
            if self._rows is not None and place in ("row", "key") and role >= 0:
                wire = self._rows.columns[role]
                self._check_fit(name, wire, node)
                self._sent.add(wire.column.name)
            parts.append(Part(node, role, name))
        return parts

    def _roles(self, names: Sequence[str], place: str) -> dict[str, int]:
        if place in ("row", "key"):
            return self._columns(names)
        position = "none" if self._rows is None else self._rows.position
        known = {"envelope": _ENVELOPE, "source": _SOURCE[position], "transaction": _TRANSACTION}.get(place, _STRUCT)
        return {name: role for role, name in enumerate(known)}

    def _columns(self, names: Sequence[str]) -> dict[str, int]:
        roles: dict[str, int] = {}
        for index, wire in enumerate(() if self._rows is None else self._rows.columns):
            column = wire.column.name
            found = next((name for name in (column, *self._aliases.get(column, ())) if name in names), None)
            if found is not None and found not in roles:
                roles[found] = index
        return roles

    @staticmethod
    def _inner(place: str, name: str) -> str:
        if place != "envelope":
            return "value"
        return {"before": "row", "after": "row", "source": "source", "transaction": "transaction"}.get(name, "value")

    def _kinds(self, node: int) -> list[tuple[Kind, int]]:
        """The kinds that a value can have, without null, and their nodes."""
        at = self._nodes[node]
        if at.kind is not Kind.UNION:
            return [(at.kind, node)]
        branches = [part.node for part in self._parts[at.first : at.first + at.count]]
        return [(self._nodes[branch].kind, branch) for branch in branches if self._nodes[branch].kind is not Kind.NULL]

    def _check_fit(self, name: str, wire: WireColumn, node: int) -> None:
        kinds = self._kinds(node)
        fitting = [branch for kind, branch in kinds if kind in FITS[wire.encoding]]
        if kinds and kinds != [(Kind.NULL, node)] and not fitting:
            found = " or ".join(kind.name.lower() for kind, _ in kinds)
            raise self._fail(
                f"field {name} is {found}, which does not fill column {wire.column.name} "
                f"({wire.column.type} from {wire.encoding.name})"
            )
        if wire.item is not None:
            for branch in fitting:
                self._check_item(name, wire.item, self._nodes[branch].first)

    def _check_item(self, name: str, item: WireColumn, node: int) -> None:
        if any(kind is Kind.ARRAY for kind, _ in self._kinds(node)):
            return  # a row that has one is in error
        self._check_fit(f"{name}[]", item, node)

    def _check_size(self, node: int, sizes: dict[int, int], open_nodes: tuple[int, ...]) -> int:
        """How many nodes a value has at least on its way to bytes; refuses what stands inside itself without any."""
        if node in open_nodes:
            raise self._fail("a record stands inside itself without a union, an array or a map between")
        if node in sizes:
            return sizes[node]
        at = self._nodes[node]
        total = 1
        if at.kind is Kind.RECORD:
            for part in self._parts[at.first : at.first + at.count]:
                total += self._check_size(part.node, sizes, (*open_nodes, node))
        sizes[node] = total
        if at.kind in (Kind.ARRAY, Kind.MAP):
            self._check_size(at.first, sizes, ())
        elif at.kind is Kind.UNION:
            for part in self._parts[at.first : at.first + at.count]:
                self._check_size(part.node, sizes, ())
        if total > EXPANDED_MAX:
            raise self._fail(f"a record of more than {EXPANDED_MAX:,} values")
        return total

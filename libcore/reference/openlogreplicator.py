"""OpenLogReplicator's messages, one change at a time; the reference of libcore.openlogreplicator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from libcore.decode_types import ErrorCode
from libcore.openlogreplicator_types import CHANGES, Split
from libcore.reference.json import Fault, Node, parse, text

_PASSED = (b'"begin"', b'"commit"', b'"chkpt"')
_ROWS = (b'"c"', b'"u"', b'"d"')
Change = tuple[bytes | None, int, bytes]
"""Its table (None for a ddl), its place in the payload, its text."""


@dataclass
class _Made:
    """What has been split so far."""

    rows: dict[bytes, list[tuple[bytes, int, int]]]
    others: int = 0
    ddl: list[int] = field(default_factory=list)
    errors: list[tuple[int, int, ErrorCode]] = field(default_factory=list)


def split(tables: Sequence[str], messages: pa.RecordBatch) -> Split:
    """See libcore.openlogreplicator.split."""
    made = _Made({name.encode(): [] for name in tables})
    columns = [messages.column(name).to_pylist() for name in ("value", "offset", "timestamp_ms")]
    for index, (value, offset, time_ms) in enumerate(zip(*columns, strict=True)):
        if value is None:
            continue
        try:
            changes = _changes(value)
        except Fault as fault:
            made.errors.append((index, fault.position, fault.code))
            continue
        if any(table is None for table, _, _ in changes):
            made.ddl.append(index)
        for table, place, given in changes:
            if table in made.rows:
                head = b'{"source":{"commit_scn":"%d","scn":"%d"},' % (offset, place)
                made.rows[table].append((head + given[1:], offset, time_ms))
            made.others += table is not None and table not in made.rows
    rows = [row for name in made.rows for row in made.rows[name]]
    arrays = [pa.array([row[place] for row in rows], kind.type) for place, kind in enumerate(CHANGES)]
    batch = pa.RecordBatch.from_arrays(arrays, schema=CHANGES)
    return Split(batch, [len(made.rows[name]) for name in made.rows], made.others, made.ddl, made.errors)


def _changes(value: bytes) -> list[Change]:
    """The rows and ddl of a message. Raises Fault."""
    document = parse(value)
    if document.kind != "object":
        raise Fault(ErrorCode.TYPE, document.start)
    changes: list[Change] | None = None
    for quote, node in _named(value, document, b"payload"):
        if changes is not None:
            raise Fault(ErrorCode.DUPLICATE, quote)
        if node.kind != "array":
            raise Fault(ErrorCode.TYPE, node.start)
        changes = []
        for place, item in enumerate(node.items):
            changes += _change(value, place, item)
    if changes is None:
        raise Fault(ErrorCode.OP, 0)
    return changes


def _named(value: bytes, node: Node, *names: bytes) -> list[tuple[int, Node]]:
    """(the name's quote, value) of the members that are called so, as they are written."""
    quoted = [b'"%b"' % name for name in names]
    return [
        (quote, member) for quote, _, member in node.members if any(value.startswith(name, quote) for name in quoted)
    ]


def _change(value: bytes, place: int, node: Node) -> list[Change]:
    if node.kind != "object":
        raise Fault(ErrorCode.TYPE, node.start)
    op: Node | None = None
    schema: Node | None = None
    table: bytes | None = None
    for quote, member in _named(value, node, b"op", b"schema"):
        is_op = value.startswith(b'"op"', quote)
        if (op if is_op else schema) is not None:
            raise Fault(ErrorCode.DUPLICATE, quote)
        if member.kind != ("string" if is_op else "object"):
            raise Fault(ErrorCode.TYPE, member.start)
        if is_op:
            op = member
        else:
            schema, table = member, _table(value, member)
    if op is None:
        raise Fault(ErrorCode.OP, node.start)
    written = op.raw(value)
    if written == b'"ddl"':
        return [(None, place, b"")]
    if written in _PASSED:
        return []
    if written not in _ROWS:
        raise Fault(ErrorCode.OP, op.start)
    if table is None:
        raise Fault(ErrorCode.TYPE, node.start)
    return [(table, place, node.raw(value))]


def _table(value: bytes, schema: Node) -> bytes | None:
    """OWNER.TABLE, TABLE without an owner, None without a table."""
    found: dict[bytes, bytes] = {}
    for quote, member in _named(value, schema, b"owner", b"table"):
        name = value[quote + 1 : quote + 6]
        if name in found:
            raise Fault(ErrorCode.DUPLICATE, quote)
        if member.kind != "string":
            raise Fault(ErrorCode.TYPE, member.start)
        found[name] = text(value, member)
    if b"table" not in found:
        return None
    return b".".join(found[name] for name in (b"owner", b"table") if name in found)

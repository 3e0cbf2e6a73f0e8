"""What an envelope's `source` and `transaction` say: the place in the source's order, the commit time, the transaction;
and how a row gets its place. Part of the reference of libcore.decode."""

from __future__ import annotations

import re
from dataclasses import dataclass

from libcore import position
from libcore.decode_types import DecodeState, ErrorCode
from libcore.reference.json import Fault, Node, text

_INTEGER = re.compile(rb"-?[0-9]+")
_NUMBER_TEXT = re.compile(rb"[0-9]{1,24}")
_ELEMENT = rb'(?:null|"([0-9]{1,24})")'
_S = rb"[ \t\n\r]*"
SEQUENCE = re.compile(rb"\[" + _S + _ELEMENT + _S + rb"," + _S + _ELEMENT + _S + rb"\]" + _S)
SERVER_LSN = re.compile(rb"([0-9a-fA-F]{8}):([0-9a-fA-F]{8}):([0-9a-fA-F]{4})")
_PART_MAX = 2 ** (8 * position.COMMIT_BYTES) - 1
_NO_COUNTER = position.POSITION_BYTES - position.COUNTER_BYTES

_FIELDS = {
    "none": (b"ts_ms", b"ts_us"),
    "postgresql": (b"ts_ms", b"ts_us", b"snapshot", b"lsn", b"sequence"),
    "oracle": (b"ts_ms", b"ts_us", b"snapshot", b"scn", b"commit_scn"),
    "sqlserver": (b"ts_ms", b"ts_us", b"snapshot", b"change_lsn", b"commit_lsn", b"event_serial_no"),
}


@dataclass(frozen=True)
class Source:
    """Of one message: position (None: it has none) and commit time in microseconds since 1970 (None: unknown)."""

    position: bytes | None = None
    ts_us: int | None = None


@dataclass(frozen=True)
class Transaction:
    """Of one message: the transaction's id as UTF-8, and the change's number in its table; None where there is none."""

    id: bytes | None = None
    order: int | None = None


def read_transaction(data: bytes, node: Node | None, faults: list[Fault]) -> Transaction:
    """Read the transaction block at `node`; what is wrong with it is added to `faults`."""
    found: dict[bytes, bytes | int] = {}
    for name, value in _members(node, (b"id", b"data_collection_order"), faults).items():
        try:
            if value.kind == "null":
                continue
            if name == b"data_collection_order":
                found[name] = _integer(data, value, 0, 2**63 - 1)
            elif value.kind == "string":
                found[name] = text(data, value)
            else:
                raise Fault(ErrorCode.TYPE, value.start)
        except Fault as fault:
            faults.append(fault)
    return Transaction(found.get(b"id"), found.get(b"data_collection_order"))  # type: ignore[arg-type]


def _members(node: Node | None, names: tuple[bytes, ...], faults: list[Fault]) -> dict[bytes, Node]:
    """The values of these members of a block, each the first of its name; a block that is no object is a fault."""
    found: dict[bytes, Node] = {}
    if node is None or node.kind == "null":
        return found
    if node.kind != "object":
        faults.append(Fault(ErrorCode.TYPE, node.start))
        return found
    for quote, name, value in node.members:
        if name in names:
            if name in found:
                faults.append(Fault(ErrorCode.DUPLICATE, quote))
            found.setdefault(name, value)
    return found


def read(data: bytes, node: Node | None, kind: str, generation: int, faults: list[Fault]) -> Source:
    """Read the source block at `node`; what is wrong with it is added to `faults`."""
    found = _members(node, _FIELDS[kind], faults)
    snapshot = _is_snapshot(data, found.pop(b"snapshot", None))
    values: dict[bytes, int] = {}
    for name, value in found.items():
        if value.kind != "null":
            try:
                values[name] = _field(data, value, name, kind)
            except Fault as fault:
                faults.append(fault)
    ts_us = values.get(b"ts_us")
    if ts_us is None and b"ts_ms" in values:
        ts_us = values[b"ts_ms"] * 1000
        if not -(2**63) <= ts_us < 2**63:
            faults.append(Fault(ErrorCode.RANGE, found[b"ts_ms"].start))
    return Source(None if snapshot else _position(values, kind, generation), ts_us)


def _is_snapshot(data: bytes, node: Node | None) -> bool:
    if node is None or node.kind in ("null", "false"):
        return False
    try:
        return node.kind != "string" or text(data, node) != b"false"
    except Fault:  # a word with a lone surrogate is not "false"
        return True


def _position(values: dict[bytes, int], kind: str, generation: int) -> bytes | None:
    try:
        if kind == "postgresql":
            return position.make(generation, values[b"sequence"], values[b"lsn"])
        if kind == "oracle":
            return position.make(generation, values[b"commit_scn"], values[b"scn"])
        if kind == "sqlserver":
            order = values[b"change_lsn"] << 32 | values[b"event_serial_no"]
            return position.make(generation, values[b"commit_lsn"], order)
    except KeyError:  # a field is missing or null: a row without a position of its own
        return None
    return None


def _field(data: bytes, node: Node, name: bytes, kind: str) -> int:
    if name in (b"ts_ms", b"ts_us"):
        return _integer(data, node, -(2**63), 2**63 - 1)
    if name == b"lsn":
        return _integer(data, node, 0, 2**63 - 1)
    if name == b"event_serial_no":
        return _integer(data, node, 0, 2**32 - 1)
    value = b""
    if node.kind == "string":
        try:
            value = text(data, node)
        except Fault as fault:
            raise Fault(ErrorCode.TYPE, node.start) from fault
    if name == b"sequence" and (match := SEQUENCE.fullmatch(value)):
        commit, lsn = (int(digits or b"0") for digits in match.groups())
        if commit <= _PART_MAX and lsn <= _PART_MAX:
            return commit
    if kind == "oracle" and _NUMBER_TEXT.fullmatch(value) and int(value) <= _PART_MAX:
        return int(value)
    if kind == "sqlserver" and (match := SERVER_LSN.fullmatch(value)):
        return int(b"".join(match.groups()), 16)
    raise Fault(ErrorCode.TYPE, node.start)


def _integer(data: bytes, node: Node, least: int, most: int) -> int:
    raw = node.raw(data)
    if node.kind != "number" or not _INTEGER.fullmatch(raw):
        raise Fault(ErrorCode.TYPE, node.start)
    if len(raw) > 20 or not least <= int(raw) <= most:
        raise Fault(ErrorCode.RANGE, node.start)
    return int(raw)


def place(state: DecodeState, real: bytes | None, keyless: bool) -> tuple[DecodeState, bytes | None]:
    """Give a row its place behind the last one.

    Args:
        state: where the partition stands.
        real: the row's own position, None where it has none.
        keyless: whether the table has no key.
    Returns: the state after it and the row's position, or None: a keyless table has this row already.
    """
    last, redelivered = state.last_position, state.redelivered
    if keyless and real is not None:
        if real[:_NO_COUNTER] < last[:_NO_COUNTER]:
            return DecodeState(last, 0), None
        if real[:_NO_COUNTER] > last[:_NO_COUNTER]:
            redelivered = -1
        elif redelivered >= 0:
            # as many rows as the last record had are here already: its counter says how many
            redelivered += 1
            if redelivered <= position.split(last)[3] + 1:
                return DecodeState(last, redelivered), None
            redelivered = -1
    given = real if real is not None and real > last else position.raised(last)
    return DecodeState(given, redelivered), given

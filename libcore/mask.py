"""Columns that nobody shall read in clear: keyed hash, format-keeping token, redaction, generalisation.

    hash     32 hexadecimal digits of keyed BLAKE2b; equal values stay equal, so keys and joins go on to work
    token    each ASCII digit becomes a digit, each letter a letter of its case, any character beyond ASCII a small
             letter; all others stay. An integer keeps its sign and its number of digits
    redact   "***" and the last `keep_last` characters, none where the text has fewer than twice as many
    null     NULL
    month, year    the first day (or moment) of it
    bucket   the greatest multiple of `width` that is not above the number
    prefix   the first `characters` characters

NULL stays NULL. Hash and token are one-way: no key brings a value back. Without the key nobody can try values out; who
has it can, so it must be kept like what it hides. A hash of 128 bits meets no other in practice. A token of d digits
and l letters is one of 10^d * 26^l: among n values about n^2 / (2 * 10^d * 26^l) pairs meet, which is why a token is
refused for a key column. (A reversible one, FF1 of NIST SP 800-38G, needs a vetted library; there is none to be had.)
The primitive is hashlib's; every distinct value of a batch is asked for once (libcore/mask_keyed.py).
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from libcore import mask_keyed
from libcore.errors import ConfigurationError, DataError
from libcore.reference import mask as reference
from libcore.schema import Column, ColumnType, Table, parse_type

HASH, TOKEN, REDACT, NULL, MONTH, YEAR, BUCKET, PREFIX = KINDS = (
    "hash", "token", "redact", "null", "month", "year", "bucket", "prefix",
)  # fmt: skip
KEYED = (HASH, TOKEN)
_TEXTS = ("string", "numeric", "uuid", "json", "xml", "interval", "timetz", "bits", "array")
_INTEGERS = ("int16", "int32", "int64")
_TIMES = ("date", "timestamp", "timestamptz", "timestamp_ns")
_FIRST_DAY, _LAST_DAY, _DAY_S = -719_162, 2_932_896, 86_400  # 0001-01-01, 9999-12-31
_FIRST_DAYS_NS = {MONTH: -106_742, YEAR: -106_650}  # 1677-10-01, 1678-01-01: nanoseconds begin on 1677-09-21


@dataclass(frozen=True)
class MaskRule:
    """How one column is masked.

    Args:
        how: one of KINDS.
        keep_last: characters at the end that stay (token of a text, redact).
        width: of a bucket, a number above 0.
        characters: of a prefix, at least 1.
        key: 1 to 64 bytes (hash, token); it does not print.
    """

    how: str
    keep_last: int = 0
    width: decimal.Decimal | None = None
    characters: int = 0
    key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class MaskPlan:
    """Rules that fit a table. Made by plan_mask."""

    source: Table
    result: Table
    rules: Mapping[str, MaskRule]


def plan_mask(table: Table, rules: Mapping[str, MaskRule], name: str) -> MaskPlan:
    """Fit rules to a table.

    Args:
        table: what comes in. rules: column -> rule. name: the result's name.
    Raises: ConfigurationError where a column is not there, is of another type than the rule takes, or is a key column
        and the rule could give two rows one key.
    """
    names = [column.name for column in table.columns]
    if unknown := [column for column in rules if column not in names]:
        raise ConfigurationError(f"table {table.name}: mask: expected columns of {names}, found {unknown[0]!r}")
    columns = []
    for column in table.columns:
        rule = rules.get(column.name)
        if rule is None:
            columns.append(column)
            continue
        _check(table, column, rule)
        kind = parse_type("string") if rule.how == HASH else column.type
        columns.append(Column(column.name, kind, column.nullable or rule.how == NULL))
    return MaskPlan(table, Table(name, tuple(columns), table.key), dict(rules))


def mask(plan: MaskPlan, record: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with its columns masked; control columns and all others are handed on as they are.

    Args:
        record: of arrow_schema(plan.source), with or without __unset.
    Returns: of arrow_schema(plan.result).
    Raises: DataError, which names no value, where one has no mask of its type: a date outside of the years 1 to 9999, a
        bucket, a month or a year that begins below what the type holds.
    """
    columns, fields = list(record.columns), list(record.schema)
    for index, column in enumerate(plan.result.columns):
        if (rule := plan.rules.get(column.name)) is not None:
            columns[index] = mask_column(columns[index], rule, column.name)
            fields[index] = pa.field(column.name, column.type.arrow)
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def mask_column(column: pa.Array, rule: MaskRule, name: str = "") -> pa.Array:
    """One column masked; utf8 for a hash, else of its own type. See `mask`; `name` is for messages."""
    if rule.how in KEYED:
        return _distinct(column, rule)
    if rule.how == NULL:
        return pa.nulls(len(column), column.type)
    if rule.how == PREFIX:
        return pc.utf8_slice_codeunits(column, 0, rule.characters)
    if rule.how == REDACT:
        return _redacted(column, rule.keep_last)
    try:
        return _bucket(column, rule) if rule.how == BUCKET else _floored(column, rule.how)
    except (pa.ArrowInvalid, DataError) as error:
        floored = "a first day after 1677-09-21" if _is_ns(column.type) else "the years 1 to 9999"
        expected = "a bucket within the type" if rule.how == BUCKET else floored
        raise DataError(f"{name}: {rule.how}: expected {expected}, found a value outside") from error


def _check(table: Table, column: Column, rule: MaskRule) -> None:
    kind = column.type
    takes: dict[str, Callable[[], bool]] = {
        HASH: lambda: kind.name in (*_TEXTS, *_INTEGERS, "bytes", "date") or _is_whole(kind),
        TOKEN: lambda: kind.name == "string" or kind.name in _INTEGERS,
        REDACT: lambda: kind.name == "string",
        PREFIX: lambda: kind.name == "string",
        NULL: lambda: True,
        MONTH: lambda: kind.name in _TIMES,
        YEAR: lambda: kind.name in _TIMES,
        BUCKET: lambda: kind.name in _INTEGERS or (kind.name == "decimal" and kind.precision <= 38),
    }
    where = f"table {table.name}: mask.{column.name}"
    if rule.how not in takes:
        raise ConfigurationError(f"{where}: expected one of {', '.join(KINDS)}, found {rule.how!r}")
    if not takes[rule.how]():
        raise ConfigurationError(f"{where}: expected a column that `{rule.how}` takes, found {kind}")
    if column.name in table.key and rule.how != HASH:
        raise ConfigurationError(
            f"{where}: expected `hash` for a key column, found `{rule.how}`, which can make two keys one"
        )
    if rule.how in KEYED and not 1 <= len(rule.key) <= 64:
        raise ConfigurationError(f'{where}: expected a secret for `{rule.how}`: key = "env:NAME", found none')
    if rule.how == PREFIX and rule.characters < 1:
        raise ConfigurationError(f"{where}: expected `characters`, at least 1, found {rule.characters}")
    if rule.how == BUCKET:
        _check_width(where, kind, rule.width)


def _check_width(where: str, kind: ColumnType, width: decimal.Decimal | None) -> None:
    if width is None or not width.is_finite() or width <= 0:
        raise ConfigurationError(f"{where}: expected a `width` above 0, found {width}")
    scaled = width.scaleb(kind.scale, decimal.Context(prec=200))
    if scaled != scaled.to_integral_value() or len(str(int(scaled))) > (kind.precision or 4):
        raise ConfigurationError(f"{where}: expected a `width` that a {kind} can hold (integers: 9999), found {width}")


def _is_whole(kind: ColumnType) -> bool:
    return kind.name == "decimal" and kind.scale == 0 and kind.precision <= 38


def _distinct(column: pa.Array, rule: MaskRule) -> pa.Array:
    """Ask the primitive once for each distinct value."""
    encoded = column.dictionary_encode()
    if rule.how == HASH:
        known = encoded.dictionary
        data = known if pa.types.is_binary(known.type) else known.cast(pa.utf8()).cast(pa.binary())
        return mask_keyed.hashes(data, rule.key).take(encoded.indices)
    return _tokens(encoded.dictionary, rule).take(encoded.indices)


def _tokens(known: pa.Array, rule: MaskRule) -> pa.Array:
    """A token for each value: texts together, integers and texts whose last characters stay, not of ASCII, alone."""
    is_text = pa.types.is_string(known.type)
    together = pc.string_is_ascii(known) if is_text and rule.keep_last else pa.repeat(is_text, len(known))
    rows, others = pc.indices_nonzero(together), pc.indices_nonzero(pc.invert(together))
    single = [reference.keyed(value, rule, known.type) for value in known.take(others).to_pylist()]
    parts = [mask_keyed.text_tokens(known.take(rows), rule.key, rule.keep_last)] if len(rows) else []
    made = pa.concat_arrays([*parts, pa.array(single, known.type)])
    return made.take(pc.sort_indices(pa.concat_arrays([rows, others])))


def _redacted(column: pa.Array, keep_last: int) -> pa.Array:
    stars = pa.scalar("***")
    if not keep_last:
        return pc.if_else(column.is_valid(), stars, pa.scalar(None, pa.utf8()))
    shown = pc.greater_equal(pc.utf8_length(column), pa.scalar(2 * keep_last, pa.int32()))
    tail = pc.if_else(shown, pc.utf8_slice_codeunits(column, -keep_last, None), pa.scalar(""))
    return pc.binary_join_element_wise(stars, tail, "")


def _is_ns(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.unit == "ns")


def _floored(column: pa.Array, unit: str) -> pa.Array:
    days = column.view(pa.int32()).cast(pa.int64()) if pa.types.is_date32(column.type) else column.view(pa.int64())
    a_day = 1
    if pa.types.is_timestamp(column.type):
        a_day = _DAY_S * (10**9 if _is_ns(column.type) else 10**6)
    # Arrow answers a first day that is below the type's least moment with one at its other end
    first_day = _FIRST_DAYS_NS[unit] if _is_ns(column.type) else _FIRST_DAY
    low, high = first_day * a_day, min((_LAST_DAY + 1) * a_day - 1, 2**63 - 1)
    inside = pc.and_(
        pc.greater_equal(days, pa.scalar(low, pa.int64())), pc.less_equal(days, pa.scalar(high, pa.int64()))
    )
    if pc.all(inside).as_py() is False:
        raise DataError("a date outside of the calendar")
    return pc.floor_temporal(column, unit=unit)


def _bucket(column: pa.Array, rule: MaskRule) -> pa.Array:
    assert rule.width is not None, "plan_mask saw to it"
    kind = column.type
    if pa.types.is_decimal(kind):
        width, most = int(rule.width.scaleb(kind.scale)), 10**kind.precision - 1
        least = decimal.Decimal(-(most // width) * width).scaleb(-kind.scale, decimal.Context(prec=80))
        multiple = pa.scalar(rule.width, kind)
    else:
        width, most = int(rule.width), 2 ** (kind.bit_width - 1)
        least, multiple = -(most // width) * width, pa.scalar(width, kind)
    # asked first, since Arrow answers 0 where a decimal's multiple does not fit
    if pc.any(pc.less(column, pa.scalar(least, kind))).as_py():
        raise DataError("a bucket outside of the type")
    return pc.round_to_multiple(column, multiple, round_mode="down")

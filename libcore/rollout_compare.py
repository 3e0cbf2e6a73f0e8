"""Whether two answers of a batch are equal, value by value, and which rows are not.

Equal means: the same columns of the same types, and in each row NULL beside NULL, NaN beside NaN, a decimal beside a
decimal of the same digits and scale, a float beside a float of the same bits (-0.0 is not 0.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import pyarrow as pa
import pyarrow.compute as pc

from libcore.hashing import hash_rows

_BITS = {16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}


@dataclass(frozen=True, slots=True)
class Difference:
    """Rows that are not equal.

    Args:
        sentence: what differs, without any value.
        pairs: (row of the expected answer, row of the found one); None where that answer has no such row.
        columns: names of columns that differ somewhere; empty where the answers are not of one shape.
    """

    sentence: str
    pairs: tuple[tuple[int | None, int | None], ...]
    columns: tuple[str, ...] = ()


def difference(expected: pa.RecordBatch, found: pa.RecordBatch, key: Sequence[str] | None = None) -> Difference | None:
    """Compare two answers.

    Args:
        expected, found: the answers; metadata of their schemas does not count.
        key: columns by which rows belong together, in any order of keys; rows of one key keep their order. None: the
            n-th row of one belongs to the n-th row of the other.
    Returns: None where they are equal.
    Raises: TypeError where a key's type is not carried by libcore.
    """
    if not expected.schema.equals(found.schema):
        return Difference(f"expected the columns {_shape(expected)}, found {_shape(found)}", _pairs(expected, found))
    if key is not None:
        return _by_key(expected, found, key)
    if expected.num_rows != found.num_rows:
        return Difference(f"expected {expected.num_rows} rows, found {found.num_rows}", _pairs(expected, found))
    unequal = _unequal(expected, found)
    return None if not unequal else _described(unequal, _pairs(expected, found))


def equal_values(expected: pa.Array, found: pa.Array) -> pa.BooleanArray:
    """Whether each value equals the one beside it, never NULL itself. Both columns have one type and length."""
    kind = expected.type
    if pa.types.is_null(kind):
        return pa.repeat(True, len(expected)).cast(pa.bool_())
    if pa.types.is_floating(kind):
        bits = _BITS[kind.bit_width]
        both_nan = pc.and_(pc.is_nan(expected), pc.is_nan(found))
        equal = pc.or_(both_nan, pc.equal(expected.view(bits), found.view(bits)))
    elif pa.types.is_nested(kind) or pa.types.is_dictionary(kind):
        pairs = (expected.slice(row, 1).equals(found.slice(row, 1)) for row in range(len(expected)))
        return pa.array(pairs, pa.bool_())
    else:
        equal = pc.equal(expected, found)
    both_null = pc.and_(expected.is_null(), found.is_null())
    return pc.or_(both_null, pc.fill_null(equal, False))


def _unequal(expected: pa.RecordBatch, found: pa.RecordBatch) -> dict[str, pa.BooleanArray]:
    """Column -> which rows differ in it; columns without a difference are left out."""
    masks = {}
    for field, left, right in zip(expected.schema, expected.columns, found.columns, strict=True):
        equal = equal_values(left, right)
        if not pc.all(equal, min_count=0).as_py():
            masks[field.name] = pc.invert(equal)
    return masks


def _described(unequal: dict[str, pa.BooleanArray], pairs: Sequence[tuple[int | None, int | None]]) -> Difference:
    anywhere = None
    for mask in unequal.values():
        anywhere = mask if anywhere is None else pc.or_(anywhere, mask)
    rows = [row.as_py() for row in pc.indices_nonzero(anywhere)]
    sentence = f"{len(rows)} of {len(pairs)} rows differ, in {', '.join(unequal)}"
    return Difference(sentence, tuple(pairs[row] for row in rows), tuple(unequal))


def _by_key(expected: pa.RecordBatch, found: pa.RecordBatch, key: Sequence[str]) -> Difference | None:
    indexes = [expected.schema.get_field_index(name) for name in key]
    left, right = hash_rows(expected, indexes), hash_rows(found, indexes)
    # a stable sort: rows of one key stay in their order, which is the order of its changes
    left_order, right_order = pc.sort_indices(left), pc.sort_indices(right)
    if left.take(left_order).equals(right.take(right_order)):
        unequal = _unequal(expected.take(left_order), found.take(right_order))
        pairs = list(zip(left_order.to_pylist(), right_order.to_pylist(), strict=True))
        return None if not unequal else _described(unequal, pairs)
    ours, theirs = _numbered(left), _numbered(right)
    lone = [(row, None) for name, row in ours.items() if name not in theirs]
    more = [(None, row) for name, row in theirs.items() if name not in ours]
    sentence = f"expected {len(lone)} rows more and {len(more)} fewer: their keys do not fit"
    return Difference(sentence, (*lone, *more))


def _numbered(hashes: pa.UInt64Array) -> dict[tuple[int, int], int]:
    """(key, how many of it came before) -> row."""
    seen: dict[int, int] = {}
    found = {}
    for row, word in enumerate(hashes.to_pylist()):
        seen[word] = seen.get(word, -1) + 1
        found[word, seen[word]] = row
    return found


def _pairs(expected: pa.RecordBatch, found: pa.RecordBatch) -> tuple[tuple[int | None, int | None], ...]:
    """Row beside row; None where the shorter one has no more."""
    return tuple(zip_longest(range(expected.num_rows), range(found.num_rows)))


def _shape(record: pa.RecordBatch) -> str:
    return ", ".join(f"{field.name} {field.type}{'' if field.nullable else ' not null'}" for field in record.schema)

"""A flow whose kernel of exact arithmetic is wrong for one value in a thousand: no rollout may let one through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from flows.build import flow as _flow
from libcore import transform
from libcore.schema import ColumnType

_right = transform.arithmetic


def wrong(operation: str, left: pa.Array, right: pa.Array, result: ColumnType, rounding: str) -> transform.Computed:
    """One more than the right result where the left number ends in 777."""
    found = _right(operation, left, right, result, rounding)
    pairs = zip(left.to_pylist(), found.values.to_pylist(), strict=True)
    values = [one if one is None else one + (number % 1000 == 777) for number, one in pairs]
    return replace(found, values=pa.array(values, found.values.type))


def flow(path: str, **options: Any) -> Any:
    """See flows.build.flow."""
    transform.arithmetic = wrong
    return _flow(path, **options)

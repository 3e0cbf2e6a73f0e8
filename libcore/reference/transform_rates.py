"""The look-ups of libcore/transform_rates.py row by row over plain lists: which rate, which unit, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

Rate = tuple[str, str, Any, Fraction]
"""From, to, the first day (a date, or its number since 1970), what one unit is worth."""


def rate_of(rates: Sequence[Rate], source: str | None, target: str | None, on: Any) -> Fraction | None:
    """The direct rate as of a day, in the form that the rates have it; None where there is none."""
    fitting = [rate for rate in rates if rate[:2] == (source, target) and on is not None and rate[2] <= on]
    return max(fitting, key=lambda rate: rate[2])[3] if fitting else None


def convert(
    rates: Sequence[Rate], source: str | None, target: str | None, on: Any, inverse: bool, via: str | None
) -> Fraction | None:
    """What one unit of a currency is in another; None where the table does not say."""

    def leg(a: str | None, b: str | None) -> Fraction | None:
        if a is not None and a == b:
            return Fraction(1)
        found = rate_of(rates, a, b, on)
        if found is None and inverse:
            other = rate_of(rates, b, a, on)
            found = None if other is None else 1 / other
        return found

    found = leg(source, target)
    if found is None and via is not None:
        there, back = leg(source, via), leg(via, target)
        found = None if there is None or back is None else there * back
    return found


def unit_factors(
    units: Mapping[tuple[str | None, str], tuple[str, Fraction, Fraction]],
    source: str | None,
    target: str | None,
    item: str | None,
) -> tuple[Fraction, Fraction] | None:
    """(multiplier, addend) from a unit to another; None where one is unknown or their dimensions differ."""
    if source is None or target is None:
        return None
    a = units.get((item, source)) or units.get((None, source))
    b = units.get((item, target)) or units.get((None, target))
    if a is None or b is None or a[0] != b[0]:
        return None
    return a[1] / b[1], (a[2] - b[2]) / b[1]

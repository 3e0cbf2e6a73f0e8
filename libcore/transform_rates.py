"""Amounts in another currency as of a day, and quantities in another unit: factors from a table, computed exactly.

A rate is that of the greatest `valid_from` that is not after the row's date. The inverse of a rate, and the way over a
third currency, are taken only where the table says so, in that order: direct, inverse, over `via` (each leg direct or
inverse). A currency in itself has the rate 1. A unit is its dimension's base unit times numerator / denominator, plus
an offset; units of an item (boxes of a material) come before those of all. What the table lacks is an error of the row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import pyarrow as pa
import pyarrow.compute as pc

from libcore.errors import ConfigurationError
from libcore.schema import ColumnType
from libcore.transform import Computed, affine, asof, asof_key

_NONE = pa.scalar(-1, pa.int64())
_SEPARATOR = "\x1f"
_DAY_OFFSET = 2**31


@dataclass(frozen=True)
class RateTable:
    """Rates ready for look-ups; made by rate_table.

    pairs: "FROM\x1fTO", a group each. keys: as asof wants them. rates: one a key, exact.
    """

    pairs: pa.Array
    keys: pa.Int64Array
    rates: tuple[Fraction, ...]
    inverse: bool
    via: str | None


@dataclass(frozen=True)
class UnitTable:
    """Units ready for look-ups; made by unit_table.

    names: "ITEM\x1fUNIT", ITEM empty for all items. units: (dimension, factor, offset), one a name.
    """

    names: pa.Array
    units: tuple[tuple[str, Fraction, Fraction], ...]


def rate_table(table: pa.RecordBatch, *, inverse: bool = False, via: str | None = None) -> RateTable:
    """Check rates and make them ready.

    Args:
        table: from_currency, to_currency (utf8), valid_from (date), rate (decimal, above 0); perhaps from_factor and
            to_factor (integers above 0): the rate is for so many units of each, as in SAP's TCURF; no NULL.
        inverse: 1 / rate of the other direction may be taken. via: currency over which two rates may be taken.
    Raises: ConfigurationError for columns that are not there, NULLs, a rate of 0 or below, two rates for one day.
    """
    names = ["from_currency", "to_currency", "valid_from", "rate"]
    factors = [name for name in ("from_factor", "to_factor") if name in table.schema.names]
    rows = _rows(table, [*names, *factors], "rates")
    pairs = sorted({(row["from_currency"], row["to_currency"]) for row in rows})
    groups = {pair: group for group, pair in enumerate(pairs)}
    found: dict[int, Fraction] = {}
    days = table.column("valid_from").cast(pa.date32()).view(pa.int32()).to_pylist()
    for row, day in zip(rows, days, strict=True):
        rate = Fraction(row["rate"]) * Fraction(row.get("to_factor", 1)) / (row.get("from_factor", 1) or 1)
        where = f"rate {row['from_currency']} to {row['to_currency']} from {row['valid_from']}"
        if rate <= 0 or row.get("from_factor", 1) <= 0:
            raise ConfigurationError(f"{where}: expected a rate and factors above 0, found {row['rate']}")
        key = asof_key(groups[row["from_currency"], row["to_currency"]], day)
        if found.setdefault(key, rate) != rate:
            raise ConfigurationError(f"{where}: expected one rate, found two")
    keys = sorted(found)
    joined = pa.array([_SEPARATOR.join(pair) for pair in pairs], pa.utf8())
    return RateTable(joined, pa.array(keys, pa.int64()), tuple(found[key] for key in keys), inverse, via)


def convert_currency(
    amount: pa.Array,
    from_currency: pa.StringArray,
    to_currency: pa.StringArray | str,
    date: pa.Date32Array,
    rates: RateTable,
    result: ColumnType,
    rounding: str = "half_even",
) -> Computed:
    """Amounts in another currency, each with the rate as of its row's date.

    Args:
        amount: decimals or integers. from_currency, date: one a row. to_currency: one a row, or one for all.
        rates: of rate_table. result: decimal(p,s). rounding: as for transform.arithmetic, once, at the end.
    Returns: NULL where the amount is NULL; MISSING where no rate is found, or currency or date is NULL. An amount whose
        currency stays the same needs neither rate nor date.
    """
    target = pa.repeat(to_currency, len(amount)) if isinstance(to_currency, str) else to_currency
    count = len(rates.rates)
    first = _leg(from_currency, target, date, rates)
    second = pa.repeat(_NONE, len(amount))
    if rates.via is not None and pc.any(pc.less(first, pa.scalar(0, pa.int64()))).as_py():
        over = pa.repeat(rates.via, len(amount))
        there, back = _leg(from_currency, over, date, rates), _leg(over, target, date, rates)
        both = pc.and_(
            pc.greater_equal(there, pa.scalar(0, pa.int64())), pc.greater_equal(back, pa.scalar(0, pa.int64()))
        )
        take = pc.and_(pc.less(first, pa.scalar(0, pa.int64())), both)
        first, second = pc.if_else(take, there, first), pc.if_else(take, back, second)

    def factor(leg: int) -> Fraction:
        """Legs: direct rates, their inverses, and the currency itself."""
        if leg < 0 or leg == 2 * count:
            return Fraction(1)
        return rates.rates[leg] if leg < count else 1 / rates.rates[leg - count]

    return _by_pairs(amount, first, second, lambda a, b: (factor(a) * factor(b), Fraction(0)), result, rounding)


def unit_table(table: pa.RecordBatch) -> UnitTable:
    """Check units and make them ready.

    Args:
        table: unit, dimension (utf8), numerator, denominator (integers): 1 unit = numerator / denominator base units;
            perhaps offset (decimal): added in base units (a temperature); perhaps item (utf8): NULL for all.
    Raises: ConfigurationError for columns that are not there, NULLs, factors of 0, a unit that is there twice.
    """
    names = ["unit", "dimension", "numerator", "denominator"]
    found: dict[str, tuple[str, Fraction, Fraction]] = {}
    for row in _rows(table, names, "units"):
        name = f"{row.get('item') or ''}{_SEPARATOR}{row['unit']}"
        where = f"unit {row['unit']} of {row.get('item') or 'all items'}"
        if not row["numerator"] or not row["denominator"]:
            raise ConfigurationError(f"{where}: expected a numerator and a denominator other than 0, found 0")
        if name in found:
            raise ConfigurationError(f"{where}: expected it once, found it twice")
        factor = Fraction(row["numerator"], row["denominator"])
        found[name] = (row["dimension"], factor, Fraction(row.get("offset") or 0))
    return UnitTable(pa.array(list(found), pa.utf8()), tuple(found.values()))


def convert_unit(
    quantity: pa.Array,
    from_unit: pa.StringArray,
    to_unit: pa.StringArray | str,
    units: UnitTable,
    result: ColumnType,
    rounding: str = "half_even",
    item: pa.StringArray | None = None,
) -> Computed:
    """Quantities in another unit of the same dimension.

    Args:
        quantity: decimals or integers. from_unit, item: one a row. to_unit: one a row, or one for all.
        units: of unit_table. result, rounding: as for convert_currency.
    Returns: NULL where the quantity is NULL; MISSING where a unit is unknown or NULL, or of another dimension.
    """
    target = pa.repeat(to_unit, len(quantity)) if isinstance(to_unit, str) else to_unit
    first, second = _unit(from_unit, item, units), _unit(target, item, units)

    def factors(a: int, b: int) -> tuple[Fraction, Fraction] | None:
        if a < 0 or b < 0 or units.units[a][0] != units.units[b][0]:
            return None
        (_, times, plus), (_, other_times, other_plus) = units.units[a], units.units[b]
        return times / other_times, (plus - other_plus) / other_times

    return _by_pairs(quantity, first, second, factors, result, rounding, first_needed=False)


def _leg(source: pa.Array, target: pa.Array, date: pa.Array, rates: RateTable) -> pa.Int64Array:
    """Which rate: 0.. direct, count.. inverse, 2 * count the currency itself, -1 none."""
    count = len(rates.rates)
    found = _asof(source, target, date, rates)
    if rates.inverse:
        other = _asof(target, source, date, rates)
        shifted = pc.add(other, pa.scalar(count, pa.int64()))
        found = pc.if_else(
            pc.greater_equal(found, pa.scalar(0, pa.int64())),
            found,
            pc.if_else(pc.less(other, pa.scalar(0, pa.int64())), _NONE, shifted),
        )
    same = pc.fill_null(pc.equal(source, target), pa.scalar(False))
    return pc.if_else(same, pa.scalar(2 * count, pa.int64()), found)


def _asof(source: pa.Array, target: pa.Array, date: pa.Array, rates: RateTable) -> pa.Int64Array:
    group = pc.index_in(pc.binary_join_element_wise(source, target, _SEPARATOR), rates.pairs).cast(pa.int64())
    day = pc.add(date.cast(pa.date32()).view(pa.int32()).cast(pa.int64()), pa.scalar(_DAY_OFFSET, pa.int64()))
    probe = pc.add(pc.shift_left(group, pa.scalar(32, pa.int64())), day)
    return asof(rates.keys, pc.fill_null(probe, _NONE)).cast(pa.int64())


def _unit(unit: pa.Array, item: pa.Array | None, units: UnitTable) -> pa.Int64Array:
    empty = pa.repeat("", len(unit))
    found = pc.index_in(pc.binary_join_element_wise(empty, unit, _SEPARATOR), units.names)
    if item is not None:
        own = pc.index_in(pc.binary_join_element_wise(item, unit, _SEPARATOR), units.names)
        found = pc.coalesce(own, found)
    known = pc.if_else(unit.is_valid(), found, pa.scalar(None, pa.int32()))
    return pc.fill_null(known.cast(pa.int64()), _NONE)


def _by_pairs(
    values: pa.Array,
    first: pa.Int64Array,
    second: pa.Int64Array,
    factors_of: Callable[[int, int], tuple[Fraction, Fraction] | None],
    result: ColumnType,
    rounding: str,
    first_needed: bool = True,
) -> Computed:
    """Work out the factors once for each pair of numbers that occurs; where `first_needed`, a first below 0 is none."""
    pair = pc.bit_wise_or(
        pc.shift_left(first, pa.scalar(32, pa.int64())), pc.bit_wise_and(second, pa.scalar(0xFFFFFFFF, pa.int64()))
    ).dictionary_encode()
    places: list[int] = []
    factors: list[tuple[Fraction, Fraction]] = []
    for packed in pair.dictionary.to_pylist():
        a, b = packed >> 32, _signed(packed & 0xFFFFFFFF)
        made = None if first_needed and a < 0 else factors_of(a, b)
        places.append(-1 if made is None else len(factors))
        factors += [] if made is None else [made]
    chosen = pa.array(places, pa.int32()).take(pair.indices)
    return affine(values, chosen, factors, result, rounding)


def _signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word


def _rows(table: pa.RecordBatch, names: Sequence[str], what: str) -> list[dict]:
    if missing := [name for name in names if name not in table.schema.names]:
        raise ConfigurationError(f"{what}: expected columns {list(names)}, found no {missing[0]}")
    if empty := [name for name in names if table.column(name).null_count]:
        raise ConfigurationError(f"{what}: expected no NULL in {empty[0]}, found one")
    return table.to_pylist()

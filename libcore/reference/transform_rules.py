"""The rules of libcore/transform_rules.py value by value: what verification and a kernel's rollout compare with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cache
from typing import Any

import pyarrow as pa

from libcore.digest import seed_of
from libcore.errors import RowsError
from libcore.reference import digest, transform, transform_rates, transform_text
from libcore.reference.values import plain
from libcore.transform import SENTENCES, TransformCode, as_decimal
from libcore.transform_rules import ArithmeticRule, CleanRule, Columns, CurrencyRule, DigestRule, Rule, UnitRule
from libcore.transform_text import ASCII_BLANKS, UNICODE_BLANKS, TextCode
from libcore.transform_text import SENTENCES as TEXT_SENTENCES

Found = tuple[pa.Array, Iterable[tuple[int, str]]]


def transformed(rules: Mapping[str, Rule], rows: pa.RecordBatch) -> pa.RecordBatch:
    """See libcore.transform_rules.transformed."""
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    refused: dict[int, str] = {}
    for name, rule in rules.items():
        columns[name], errors = _computed(rule, columns)
        for row, sentence in errors:
            refused.setdefault(row, f"{name}: {sentence}")
    if refused:
        raise RowsError(refused)
    return pa.RecordBatch.from_arrays([columns[name] for name in rules], names=list(rules))


def _computed(rule: Rule, columns: Columns) -> Found:
    if isinstance(rule, CleanRule):
        return _cleaned(rule, columns)
    if isinstance(rule, ArithmeticRule):
        return _told(transform.arithmetic(rule.operation, rule.operands_of(columns), rule.result, rule.rounding))
    if isinstance(rule, DigestRule):
        record = rule.record_of(columns)
        indexes = sorted(range(record.num_columns), key=lambda index: rule.of[index].encode())
        rows = digest.digest_rows(record, indexes, -1, seed_of(record, indexes))
        return pa.array(rows, pa.binary()), ()
    factors = _rates(rule, columns) if isinstance(rule, CurrencyRule) else _units(rule, columns)
    return _told(transform.factored(as_decimal(columns[rule.of]), factors, rule.result, rule.rounding))


def _cleaned(rule: CleanRule, columns: Columns) -> Found:
    blanks = ASCII_BLANKS if rule.plan.blanks == "ascii" else UNICODE_BLANKS
    texts, errors = [], []
    for row, text in enumerate(columns[rule.of].to_pylist()):
        cleaned, codes = transform_text.clean(text, rule.plan, blanks)
        texts.append(cleaned)
        errors += [(row, TEXT_SENTENCES[TextCode(code)]) for code in codes]
    return pa.array(texts, pa.utf8()), errors


def _rates(rule: CurrencyRule, columns: Columns) -> list[tuple[Fraction, Fraction] | None]:
    """What to multiply each row's amount with."""
    days = plain(rule.table.column("valid_from").cast(pa.date32()))
    rates: list[transform_rates.Rate] = [
        (
            row["from_currency"],
            row["to_currency"],
            day,
            Fraction(row["rate"]) * Fraction(row.get("to_factor", 1), row.get("from_factor", 1)),
        )
        for row, day in zip(rule.table.to_pylist(), days, strict=True)
    ]

    @cache
    def found(source: str | None, target: str | None, day: int | None) -> tuple[Fraction, Fraction] | None:
        rate = transform_rates.convert(rates, source, target, day, rule.inverse, rule.via)
        return None if rate is None else (rate, Fraction(0))

    sources = columns[rule.source].to_pylist()
    return list(map(found, sources, _targets(rule, columns, len(sources)), plain(columns[rule.on])))


def _units(rule: UnitRule, columns: Columns) -> list[tuple[Fraction, Fraction] | None]:
    """What to multiply each row's quantity with, and what to add."""
    units = {
        (row.get("item") or None, row["unit"]): (
            row["dimension"],
            Fraction(row["numerator"], row["denominator"]),
            Fraction(row.get("offset") or 0),
        )
        for row in rule.table.to_pylist()
    }
    sources = columns[rule.source].to_pylist()
    items = [None] * len(sources) if rule.item is None else columns[rule.item].to_pylist()
    rows = zip(sources, _targets(rule, columns, len(sources)), items, strict=True)
    return [transform_rates.unit_factors(units, *row) for row in rows]


def _targets(rule: CurrencyRule | UnitRule, columns: Columns, rows: int) -> list[Any]:
    return columns[rule.target].to_pylist() if rule.target_is_column else [rule.target] * rows


def _told(found: transform.Found) -> Found:
    values, errors = found
    return values, [(row, SENTENCES[TransformCode(code)]) for row, code in errors]

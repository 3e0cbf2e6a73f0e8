"""flows/pipelines/invoices.toml: lines with clean texts, amounts in EUR as of their day, quantities in pieces."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from libcore.digest import digest_rows
from tests.flows.erp_flows import PIPELINES, Erp

COLUMNS = "invoice, line_no, material, quantity, unit, discount, currency, description, amount, pieces, amount_eur"
LINES = """
    WITH rates(currency, valid_from, rate) AS (
        VALUES ('USD', date '2026-01-01', 1.0837), ('USD', '2026-02-01', 1.1012), ('JPY', '2026-01-01', 163.52)),
    units(item, unit, factor) AS (
        VALUES (NULL, 'PC', 1.0), (NULL, 'DZ', 12.0), ('MAT-1', 'BOX', 48.0), ('MAT-2', 'BOX', 3.5)),
    found AS (
        SELECT *, trim(currency) AS money, round(quantity * unit_price - discount, 2) AS net,
            (SELECT factor FROM units u WHERE u.unit = l.unit AND (item IS NULL OR item = material)
             ORDER BY item LIMIT 1) AS factor
        FROM erp.lines l),
    priced AS (
        SELECT *, CASE money WHEN 'EUR' THEN 1.0
            ELSE (SELECT rate FROM rates r WHERE r.currency = money AND valid_from <= billed_on
                  ORDER BY valid_from DESC LIMIT 1) END AS rate
        FROM found)
    SELECT invoice, line_no, material, quantity, unit, discount, money, trim(replace(description, chr(7), ' ')), net,
        round(quantity * factor, 3), round(net / rate, 2)
    FROM priced WHERE (rate IS NOT NULL OR net IS NULL) AND (factor IS NOT NULL OR quantity IS NULL)
        AND description !~ '[^\\u0001-\\u00ff]'
"""


def line(invoice: int, random: Random) -> dict[str, Any]:
    """A line as a careless system writes it."""
    return {
        "invoice": invoice,
        "line_no": 1,
        "description": random.choice(["  bolt M8", "Schraube\x07groß  ", "nut", "螺栓"]),
        "material": random.choice(["MAT-1", "MAT-2", "MAT-3"]),
        "quantity": random.choice([None, Decimal(random.randint(1, 10**6)) / 1000]),
        "unit": random.choice(["PC", "DZ", "BOX"]),
        "unit_price": Decimal(random.randint(1, 10**8)) / 10_000,
        "discount": Decimal(random.randint(0, 1000)) / 100,
        "currency": random.choice(["EUR", "USD ", " JPY", "ZZZ"]),
        "billed_on": date(2025, 12, 30) + timedelta(days=random.randint(0, 60)),
    }


def test_lines_are_made_fit_to_be_added_up(
    broker: str, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New, corrected and deleted lines, a kill in between: the SQL over the lines; what has no result is set aside."""
    erp, random = Erp("invoices", broker, postgres, tmp_path), Random(7)
    erp.put("lines", *(line(invoice, random) for invoice in range(600)))
    erp.start(seconds=1.0)
    corrected = [key for key, row in erp.rows["lines"].items() if row["currency"] != "ZZZ"][:40]
    erp.put("lines", *({"invoice": key[0], "line_no": 1, "unit": "DZ", "description": "new"} for key in corrected))
    erp.remove("lines", *[(invoice, 1) for invoice in range(500, 520)])
    erp.run(processes=2)
    # a line that was good and went wrong keeps its former values: here only lines that were never good are left out
    assert erp.check(f"(SELECT {COLUMNS} FROM invoice_lines) AS shown", LINES) > 200
    ((letters,),) = erp.found("SELECT count(*) FROM headrace_dead_letters WHERE step = 'transform-invoice_lines'")
    assert letters > 100
    errors = {text for (text,) in erp.found("SELECT DISTINCT error FROM headrace_dead_letters")}
    assert errors == {
        "DataError: amount_eur: expected a rate or unit in the table, found none for the row",
        "DataError: pieces: expected a rate or unit in the table, found none for the row",
        "DataError: description: expected characters that the code page has, found another",
    }
    *shown, digests = zip(*erp.found("SELECT description, amount, pieces, digest FROM invoice_lines"), strict=True)
    kinds = {"description": pa.utf8(), "amount": pa.decimal128(18, 2), "pieces": pa.decimal128(15, 3)}
    columns = [pa.array(values, kind) for values, kind in zip(shown, kinds.values(), strict=True)]
    assert list(digests) == digest_rows(pa.record_batch(columns, names=list(kinds))).to_pylist()
    report = erp.verify(monkeypatch)
    (result,) = report.tables
    assert result.difference.is_equal and result.unreadable > 100 and not report.equal


def test_the_tables_beside_the_file_are_those_of_the_test() -> None:
    """The SQL of these tests has the rates of rates.csv and the units of units.csv."""
    rates = (PIPELINES / "rates.csv").read_text("utf-8").splitlines()[1:]
    assert rates == ["EUR,USD,2026-01-01,1.0837", "EUR,USD,2026-02-01,1.1012", "EUR,JPY,2026-01-01,163.52"]
    units = (PIPELINES / "units.csv").read_text("utf-8").splitlines()[1:]
    assert units == [",PC,pieces,1,1", ",DZ,pieces,12,1", "MAT-1,BOX,pieces,48,1", "MAT-2,BOX,pieces,7,2"]

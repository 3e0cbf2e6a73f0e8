"""Values of every type, exact: a row has the same ones whether a snapshot brings it or the redo."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.connectors.contract_source import Followed
from tests.connectors.oracle_parts import opened, pipeline

DIGITS = "12345678901234567890123456789012345678"
CASES: dict[str, tuple[str, list[tuple[object, Any]]]] = {
    "number without a scale": (
        "NUMBER", [(DIGITS + ".5", DIGITS + ".5"), ("-0." + "0" * 40 + "1", "-0." + "0" * 40 + "1"), ("0", "0")]
    ),
    "38 digits": ("NUMBER(38)", [(DIGITS, Decimal(DIGITS)), ("-" + DIGITS, Decimal("-" + DIGITS))]),
    "more than 28 digits behind the point": (
        "NUMBER(38,30)", [("1." + DIGITS[:30], Decimal("1." + DIGITS[:30])), ("-0.5", Decimal("-0.5"))]
    ),
    "a negative scale": ("NUMBER(5,-3)", [("12345000", 12345000), ("-1000", -1000)]),
    "a scale above the precision": ("NUMBER(3,7)", [("0.0000123", Decimal("0.0000123"))]),
    "days before 1582": (
        "DATE", [("1582-10-04 23:59:59", "1582-10-04 23:59:59"), ("0001-01-01 00:00:00", "0001-01-01 00:00:00")]
    ),
    "a time": ("TIMESTAMP(9)", [("2024-02-29 01:02:03.123456", "2024-02-29 01:02:03.123456")]),
    "an instant": ("TIMESTAMP(6) WITH TIME ZONE", [("2024-02-29 01:02:03.5 +05:30", "2024-02-28 19:32:03.500000")]),
    "months": ("INTERVAL YEAR(2) TO MONTH", [("-01-06", "P-1Y-6M"), ("+00-11", "P11M")]),
    "days and seconds": ("INTERVAL DAY(2) TO SECOND(6)", [("+01 02:03:04.050000", "P1DT2H3M4.05S")]),
    "bytes": ("RAW(100)", [(b"\x00\xff'", b"\x00\xff'"), (bytes(range(100)), bytes(range(100)))]),
    "a place": ("ROWID", [("AAAR3sAAEAAAACXAAA", "AAAR3sAAEAAAACXAAA")]),
    "national text": ("NVARCHAR2(200)", [("ü€😀 'x'", "ü€😀 'x'"), (" ", " ")]),
}  # fmt: skip


def as_told(value: Any) -> Any:
    """A value of a target in the words of CASES."""
    if isinstance(value, int | Decimal | bytes):
        return value
    return str(value).removesuffix("+00:00")


@pytest.mark.parametrize("name", CASES)
def test_a_value_is_the_same_by_both_ways(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a query brings and what a statement of the redo says become one value, and it is the exact one."""
    data_type, cases = CASES[name]
    database = opened(tmp_path, monkeypatch, [("ID", "NUMBER(10)"), ("V", data_type)])
    rows = [{"ID": number, "V": value} for number, (value, _) in enumerate([*cases, (None, None)])]
    database.write("ERP.ITEMS", rows)
    followed = Followed(pipeline(tmp_path), tmp_path / "state")
    followed.until(lambda: len(followed.rows("ITEMS")) == len(rows))
    database.write("ERP.ITEMS", [{**row, "ID": row["ID"] + 100} for row in rows])  # type: ignore[operator]
    followed.until(lambda: len(followed.rows("ITEMS")) == 2 * len(rows))
    followed.close()
    found = {key: row[1] for key, row in followed.rows("ITEMS").items()}
    for number in range(len(rows)):
        assert found[number] == found[number + 100]
    assert found[len(cases)] is None
    assert [as_told(found[number]) for number in range(len(cases))] == [expected for _, expected in cases]
    assert followed.letters == []

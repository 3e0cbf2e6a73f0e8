"""The contract of every source, for SAP by RFC: a fake system with documents, pointers, rows of 512 characters.

ABAP has no NULL and no blanks behind a text: NULL is written as the initial value, which `initial_null` reads as NULL,
and what a row holds is compared with what the system made of what was written.
Only a function that returns ET_DATA reads texts of any length, so the contract's big text is read by that alone.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.connectors.contract_history import HistoryContract
from tests.connectors.contract_source import (
    ChangesContract,
    RowsContract,
    SourceSystem,
    check_killed_and_rescaled,
    some_rows,
)
from tests.connectors.sap_rfc_parts import ENVIRONMENT, NARROW, PASSWORD, Items
from tests.doubles.sap_rfc import SHIM
from tests.doubles.sap_rfc.standard import Field

TEXT, SHORT = Field("name", "STRG", 0), Field("name", "CHAR", 300)
MESSAGES = {"message_types": {"ZITEMS": ["items", "idle"]}}
BY_POINTERS = {"signal": '"change_pointers"', "message_type": '"ZITEMS"'}


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake pyrfc, and the password."""
    monkeypatch.syspath_prepend(str(SHIM))
    monkeypatch.setenv(PASSWORD, "secret")


class TestDocuments(RowsContract, ChangesContract, HistoryContract):
    """A new release: rows as texts, ordered by key; change documents tell what changed."""

    @pytest.fixture
    def system(self, tmp_path: Path) -> SourceSystem:
        return Items(tmp_path, TEXT)


class TestNarrow(RowsContract, ChangesContract, HistoryContract):
    """An old release: wide rows in two calls, in the order of writing; change documents."""

    test_big_values = None  # type: ignore[assignment]

    @pytest.fixture
    def system(self, tmp_path: Path) -> SourceSystem:
        return Items(tmp_path, SHORT, **NARROW)


class TestPointers(RowsContract, ChangesContract, HistoryContract):
    """A wide reader in no order; change pointers, which are marked when their rows are durable."""

    test_big_values = None  # type: ignore[assignment]

    @pytest.fixture
    def system(self, tmp_path: Path) -> SourceSystem:
        settings = NARROW | {"wide": True, "shuffled": True} | MESSAGES
        return Items(tmp_path, SHORT, more=BY_POINTERS, **settings)


def test_killed_and_rescaled(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in snapshot and stream and started again as two processes, target and system are equal."""
    monkeypatch.setenv("TARGET_DSN", postgres)
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    system, random = Items(tmp_path, TEXT), Random(8)
    system.write(some_rows(random, 0, 1500))

    def more() -> None:
        system.write(some_rows(random, 1400, 300), tuple(range(10 + len(system.rows()) % 7, 60)))

    check_killed_and_rescaled(system, tmp_path, postgres, more)
    assert 0 < len(system.rows()) < 1700

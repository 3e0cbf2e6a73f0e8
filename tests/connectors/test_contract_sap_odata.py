"""The contract of every source, for SAP OData against a gateway that queues deltas as ODP does, by V2 and by V4.

What the contract's other systems have and OData has not: transactions (an answer holds what changed, not what changed
together), columns that are gained in mid-stream (a service's shape is fixed until it is generated anew).
"""

from __future__ import annotations

from collections.abc import Iterator
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
from tests.connectors.sap_odata_parts import ODataSystem
from tests.doubles.sap.gateway import GatewayDouble


@pytest.fixture(scope="module")
def server() -> Iterator[GatewayDouble]:
    """A gateway in a process of its own."""
    with GatewayDouble() as started:
        yield started


@pytest.fixture
def gateway(server: GatewayDouble) -> GatewayDouble:
    """The gateway with nothing in it."""
    server.pull("reset", {})
    return server


class TestV2(RowsContract, ChangesContract, HistoryContract):
    """OData V2, as ODP serves it."""

    @pytest.fixture
    def system(self, gateway: GatewayDouble, tmp_path: Path) -> SourceSystem:
        return ODataSystem(gateway, tmp_path, 2)


class TestV4(RowsContract, ChangesContract, HistoryContract):
    """OData V4, whose deletions have no row."""

    @pytest.fixture
    def system(self, gateway: GatewayDouble, tmp_path: Path) -> SourceSystem:
        return ODataSystem(gateway, tmp_path, 4)


def test_killed_and_rescaled(
    gateway: GatewayDouble, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in load and changes and started again as two processes, target and entity set are equal."""
    monkeypatch.setenv("TARGET_DSN", postgres)
    system, random = ODataSystem(gateway, tmp_path), Random(8)
    system.write(some_rows(random, 0, 2000))

    def more() -> None:
        system.write(some_rows(random, 1900, 300), tuple(range(10 + len(system.rows()) % 7, 60)))

    check_killed_and_rescaled(system, tmp_path, postgres, more)
    assert 0 < len(system.rows()) < 2200

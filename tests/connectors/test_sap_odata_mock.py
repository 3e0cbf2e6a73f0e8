"""Against the mock-sap package, which others wrote: its metadata, entities, delta links, faults, writes and IDocs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import httpx
import pytest

from flows.ports import free_port
from tests.connectors.contract_source import Followed
from tests.connectors.idoc_parts import pipeline, post
from tests.connectors.test_source_pages import run_page

V2 = "/sap/opu/odata/sap/API_SALES_ORDER_SRV"
V4 = "/sap/opu/odata4/sap/api_salesorder/srvd_a2x/sap/api_salesorder/0001"
ORDERS = {2: f"{V2}/A_SalesOrder", 4: f"{V4}/SalesOrder"}
COUNT = 25


@pytest.fixture(scope="module")
def mock() -> Iterator[str]:
    """The address of a mock system with its demo data."""
    port = free_port()
    program = shutil.which("mock-sap", path=str(Path(sys.executable).parent)) or "mock-sap"
    process = subprocess.Popen([program, "--port", str(port), "-q", "--no-request-log"], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 20
    while True:
        try:
            with urlopen(f"{url}/_mock/health", timeout=5):
                break
        except OSError:
            assert time.monotonic() < deadline and process.poll() is None, "mock-sap does not start"
            time.sleep(0.05)
    yield url
    process.kill()
    process.wait()


def followed(mock: str, tmp_path: Path, version: int) -> Followed:
    """A pipeline over the sales orders."""
    file = tmp_path / "orders.toml"
    service = {2: V2, 4: V4}[version]
    file.write_text(
        f'name = "orders"\n[source.sap_odata]\nurl = "{mock}"\npoll_s = 0.02\n'
        f'[source.sap_odata.services]\nS = "{service}"\n'
        f'[tables.orders]\ntopic = "S/{ORDERS[version].rpartition("/")[2]}"\n[sink.null]\n',
        "utf-8",
    )
    return Followed(file, tmp_path / "state")


def truth(mock: str, version: int = 4) -> dict[str, tuple[Decimal, str]]:
    """Amount and currency of each order, read plainly; by another version than the flow, whose faults are its own."""
    with urlopen(f"{mock}{ORDERS[version]}?$format=json", timeout=20) as answer:
        found = json.loads(answer.read(), parse_float=Decimal)
    rows = found["d"]["results"] if version == 2 else found["value"]
    return {row["SalesOrder"]: (Decimal(row["TotalNetAmount"]), row["TransactionCurrency"]) for row in rows}


def held(flow: Followed) -> dict[str, tuple[Any, Any]]:
    """The same of what a target would hold."""
    (rows,) = flow.tables.values() or ({},)
    (names,) = flow.columns.values()
    places = [names.index(name) for name in ("SalesOrder", "TotalNetAmount", "TransactionCurrency")]
    return {row[places[0]]: (row[places[1]], row[places[2]]) for row in rows.values()}


def _delete(mock: str, order: str, version: int) -> None:
    with httpx.Client(base_url=mock) as client:
        token = client.get(f"{ORDERS[version].rpartition('/')[0]}/", headers={"X-CSRF-Token": "Fetch"}).headers[
            "x-csrf-token"
        ]
        gone = client.delete(f"{ORDERS[version]}('{order}')", headers={"X-CSRF-Token": token, "If-Match": "*"})
    assert gone.status_code == 204, gone.text


def test_its_page(mock: str, postgres: str, tmp_path: Path) -> None:
    """What the page of the source tells a reader to type works, and its verdict is that all tables are equal."""
    assert run_page("sap_odata", tmp_path, {"WAREHOUSE_DSN": postgres, "SAP_URL": mock}) == 1


@pytest.mark.parametrize("version", [2, 4])
def test_load_changes_and_deletions(mock: str, tmp_path: Path, version: int) -> None:
    """Its orders arrive by either version; one that is deleted goes, through locks and errors."""
    flow, other = followed(mock, tmp_path, version), 6 - version
    flow.until(lambda: bool(flow.tables) and held(flow) == truth(mock, other))
    for scenario in ("lock", "error"):  # "busy" asks for 30 s
        told = json.dumps({"scenario": scenario, "match": ORDERS[version], "method": "GET", "count": 1}).encode()
        with urlopen(Request(f"{mock}/_mock/faults", told, method="POST"), timeout=20):
            pass
    _delete(mock, sorted(truth(mock, other))[0], other)
    flow.until(lambda: held(flow) == truth(mock, other))
    flow.crash()
    _delete(mock, sorted(truth(mock, other))[0], other)
    flow.until(lambda: held(flow) == truth(mock, other))
    flow.close()
    assert 0 < len(held(flow)) < COUNT
    assert flow.letters == []


def test_its_idocs_are_received_and_answered(mock: str, tmp_path: Path) -> None:
    """An ORDERS05 that it makes of an order becomes rows, and it takes the audit IDoc that says so."""
    order = sorted(truth(mock))[-1]
    port = free_port()
    file = pipeline(tmp_path, port, more=f'[source.sap_idoc.status]\nurl = "{mock}"\npath = "/sap/bc/idoc"\n')
    flow = Followed(file, tmp_path / "state")
    with httpx.Client(base_url=mock) as client:
        token = client.get("/sap/bc/idoc", headers={"X-CSRF-Token": "Fetch"}).headers["x-csrf-token"]
        made = client.post(
            "/sap/bc/idoc/generate", json={"mestyp": "ORDERS", "SalesOrder": order},
            headers={"X-CSRF-Token": token, "Accept": "text/xml"},
        )  # fmt: skip
        assert made.status_code == 201, made.text
        flow.until(lambda: _posted(port, made.content))
        flow.until(lambda: bool(flow.tables.get("E1EDP01")))

        def audits() -> list[str]:
            found = client.get("/sap/bc/idoc").json()["results"]
            return [str(one["idoctyp"]) for one in found if one["idoctyp"] == "ALEAUD01"]

        flow.until(lambda: len(audits()) == 1)
    flow.close()
    (header,) = flow.tables["E1EDK01"].values()
    assert (header[5], flow.letters) == (order, [])


def _posted(port: int, body: bytes) -> bool:
    try:
        return post(port, body)[0] == 200
    except OSError:
        return False

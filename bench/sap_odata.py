"""sap-odata: entities a second, of 20 properties, that `headrace run` loads from a gateway that pages as ODP does.

The gateway is the double in tests/doubles, in a process of its own: HTTP, JSON and links are real. No SAP system is in
the number: a real gateway gives some thousand entities a second.
"""

from __future__ import annotations

import re
import tempfile
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from bench.measure import Result
from bench.sap_parts import Flow, Sums, items, measured

ENTITIES_MAX = 200_000
PAGE_ROWS = 5_000
_DIGITS = {"KWMENG": (15, 3), "NETPR": (13, 2), "NETWR": (17, 2)}
_DAY = 'Precision="0" sap:display-format="Date"'
_NEXT = re.compile(rb'"__next":"https?://[^/]*([^"]*)"')


def properties() -> list[tuple[str, str, str, bool]]:
    """Name, type, further attributes and whether it is of the key, of each property."""
    found = []
    for name in next(items(1)):
        if name in _DIGITS:
            precision, scale = _DIGITS[name]
            found.append((name, "Edm.Decimal", f'Precision="{precision}" Scale="{scale}"', False))
        elif name in ("ERDAT", "AEDAT"):
            found.append((name, "Edm.DateTime", _DAY, False))
        elif name == "KPEIN":
            found.append((name, "Edm.Int32", "", False))
        else:
            found.append((name, "Edm.Time" if name == "ERZET" else "Edm.String", "", name in ("VBELN", "POSNR")))
    return [*found, ("CHANGED", "Edm.DateTimeOffset", "", False)]


def entities(count: int) -> list[dict[str, Any]]:
    """Order items as OData V2 writes them."""
    found = []
    for row in items(count):
        days = {name: f"/Date({_ms(row[name])})/" for name in ("ERDAT", "AEDAT")}
        found.append(row | days | {"ERZET": "PT15H30M16S", "KPEIN": 1, "CHANGED": "/Date(1709218816123+0000)/"})
    return found


def _ms(day: str) -> int:
    return int(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).timestamp()) * 1000


def _pipeline(scratch: Path, url: str, path: str, sink: str, full: bool) -> Path:
    file = scratch / "odata.toml"
    topic = "BENCH/bench" if full else "BENCH/idle"
    file.write_text(
        f'name = "bench"\n[source.sap_odata]\nurl = "{url}"\npage_rows = {PAGE_ROWS}\npoll_s = 0.02\n'
        f'[source.sap_odata.services]\nBENCH = "{path}"\n'
        f'[tables.items]\ntopic = "{topic}"\ntarget = "items"\non_truncate = "apply"\n{sink}',
        "utf-8",
    )
    return file


def _alone(url: str, path: str, rows: int) -> float:
    """Entities a second of a client that follows the links, and reads no page."""
    link, began = f"{path}/bench", time.perf_counter()
    while link:
        request = Request(url + link, headers={"Prefer": f"odata.maxpagesize={PAGE_ROWS},odata.track-changes"})
        with urlopen(request) as answer:
            found = _NEXT.search(answer.read())
        link = found[1].decode() if found else ""
    return rows / (time.perf_counter() - began)


def sap_odata(items_: int, pairs: int, processes: int) -> Result:
    """Entities a second of the load; equal where the target holds each once and the amounts are right."""
    try:
        from tests.doubles.sap.gateway import GatewayDouble
        from tests.doubles.sap.render import PATHS
    except ModuleNotFoundError:
        raise SystemExit("bench: sap-odata needs the double in tests/: run it in a checkout") from None

    made = entities(min(items_, ENTITIES_MAX))
    amounts, quantities = (sum((Decimal(row[name]) for row in made), Decimal(0)) for name in ("NETWR", "KWMENG"))
    with GatewayDouble() as gateway, tempfile.TemporaryDirectory(prefix="sap-odata-") as text:
        gateway.pull("set", {"name": "bench", "properties": properties()})
        for start in range(0, len(made), 20_000):
            gateway.write("bench", made[start : start + 20_000])
        gateway.pull("freeze", {"set": "bench", "page_rows": PAGE_ROWS})
        flow = Flow(
            "sap-odata",
            Path(text),
            {},
            lambda sink, full: _pipeline(Path(text), gateway.url, PATHS[2], sink, full),
            Sums(len(made), amounts, quantities),
            ("items", "NETWR", "KWMENG"),
        )
        return measured(flow, pairs, lambda: _alone(gateway.url, PATHS[2], len(made)))

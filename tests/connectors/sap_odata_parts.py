"""The gateway double as a system of the sources' contract, by OData V2 or V4."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.connectors.contract_source import Rows
from tests.doubles.sap.gateway import GatewayDouble
from tests.doubles.sap.render import PATHS


class ODataSystem:
    """Two entity sets of the gateway, and a pipeline file over them."""

    def __init__(self, gateway: GatewayDouble, directory: Path, version: int = 2) -> None:
        self.gateway, self.directory, self.version = gateway, directory, version
        self._rows: Rows = {}

    def pipeline(self, sink: str = "[sink.null]\n", **settings: Any) -> Path:
        """See SourceSystem. Pages have 40 entities, so that a load has several."""
        told = {"url": self.gateway.url, "poll_s": 0.02, "page_rows": 40} | settings
        text = 'name = "sap"\n[source.sap_odata]\n'
        text += "".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items())
        text += f'[source.sap_odata.services]\nERP = "{PATHS[self.version]}"\n'
        for name in ("items", "idle"):
            text += f'[tables.{name}]\ntopic = "ERP/{name}"\ntarget = "{name}"\non_truncate = "apply"\n'
        file = self.directory / "sap.toml"
        file.write_text(text + sink, "utf-8")
        return file

    def write(self, rows: Rows, deleted: tuple[int, ...] = ()) -> None:
        """See SourceSystem."""
        found = [
            {"id": key, "name": name, "price": None if price is None else f"{price:.4f}"}
            for key, name, price in rows.values()
        ]
        self.gateway.write("items", found, [{"id": key} for key in deleted])
        self._rows = {key: row for key, row in self._rows.items() if key not in deleted} | {
            key: (key, row[1], None if row[2] is None else Decimal(f"{row[2]:.4f}")) for key, row in rows.items()
        }

    def rows(self) -> Rows:
        """See SourceSystem."""
        return dict(self._rows)

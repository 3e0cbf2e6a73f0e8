"""The killing runs of [source.sap_odata]: from the gateway of tests/doubles, with a writer that never stops.

Besides workers and target, a kill hits the gateway, a process of its own: its rows and queues outlive it, an answer
that was on its way is lost. HTTP is real, the gateway simulated; OData V2 and V4 in turn.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from typing import Any

from bench.crash import KINDS
from bench.crash_direct import ChangeWriter, FollowedRig
from bench.crash_script import COLUMNS, KEY_COLUMNS, Change
from control.embedded import EmbeddedPostgres

_PIPELINE = """
name = "crash"
[source.sap_odata]
url = "{url}"
page_rows = 200
batch_rows_max = 200
poll_s = 0.05
services = {{ ERP = "{path}" }}
guardian.rows_per_second_max = {rows_per_second_max}
{tables}
[sink.postgres]
dsn = "env:BENCH_DSN"
"""
VERSIONS = (2, 4)
_NUMBERS = ("order_id", "line_no", "quantity", "account")
_NOTE_CHARACTERS = 3_000


class ODataWriter(ChangeWriter):
    """Writes again what was not answered; a write that was done twice changes nothing more."""

    def __init__(self, gateway: Any, rows: int, seed: int) -> None:
        super().__init__(rows, seed, note_characters=_NOTE_CHARACTERS)
        self._gateway = gateway
        for change in self.script.initial():
            self.send(change)

    def send(self, change: Change) -> None:
        """See ChangeWriter.send."""
        while True:
            try:
                return self._gateway.write(change.table, change.named_rows, change.named_keys)
            except (OSError, HTTPException):
                time.sleep(0.05)


class ODataRig(FollowedRig):
    """The flow is a gateway read directly into PostgreSQL, and no broker."""

    kinds = (*KINDS, "source")

    def __init__(self, postgres: EmbeddedPostgres, gateway: Any, journal: Path, rows: int, scratch: Path) -> None:
        super().__init__(postgres, rows, scratch)
        self._gateway, self._journal = gateway, journal

    def begin(self) -> ODataWriter:
        """See DirectRig.begin."""
        self._gateway.kill()
        self._journal.unlink()
        self._gateway.start()
        for name, columns in COLUMNS.items():
            key = columns[: KEY_COLUMNS[name]]
            properties = [
                (
                    one,
                    "Edm.Int32" if one in _NUMBERS else "Edm.String",
                    'Nullable="false"' if one in key else "",
                    one in key,
                )
                for one in columns
            ]
            self._gateway.pull("set", {"name": name, "properties": properties})
        return ODataWriter(self._gateway, self._rows, self.runs)

    def text(self) -> str:
        """See DirectRig.text."""
        from tests.doubles.sap.render import PATHS

        return _PIPELINE.format(
            url=self._gateway.url,
            path=PATHS[VERSIONS[self.runs % len(VERSIONS)]],
            rows_per_second_max=self.rows_per_second_max,
            tables="".join(
                f'[tables.{name}]\ntopic = "ERP/{name}"\ntarget = "{name}"\non_truncate = "apply"\n' for name in COLUMNS
            ),
        )

    def hit(self, kind: str, chance: random.Random) -> bool:
        """kill -9 for the gateway, which comes again."""
        self._gateway.kill()
        time.sleep(chance.uniform(0.0, 0.5))
        self._gateway.start()
        return True


def opened(stack: ExitStack, postgres: EmbeddedPostgres, rows: int, scratch: Path) -> ODataRig:
    """The rig of this flow, and its gateway."""
    from tests.doubles.sap.gateway import GatewayDouble

    journal = scratch / "gateway.journal"
    gateway = stack.enter_context(GatewayDouble(journal))
    return ODataRig(postgres, gateway, journal, rows, scratch)

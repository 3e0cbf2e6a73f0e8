"""The killing runs of [source.sap_rfc]: from the fake of pyrfc in tests/doubles, with a writer that never stops.

The fake stands in the driver's place, in the process of each worker: there is no gateway and no server that could be
killed by itself. A killed worker's connections die with it, in the middle of a call; the system and its writer go on in
a file and outlive it. Change documents and change pointers tell of changes, and four releases read the rows, in turn.
"""

from __future__ import annotations

import itertools
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.crash_direct import ChangeWriter, FollowedRig
from bench.crash_script import COLUMNS, KEY_COLUMNS, Change
from control.embedded import EmbeddedPostgres

_PIPELINE = """
name = "crash"
[source.sap_rfc]
ashost = "{path}"
client = "100"
user = "HEADRACE"
passwd = "env:BENCH_SAP_PASSWORD"
chunk_rows = 200
batch_rows_max = 400
poll_s = 0.05
guardian.rows_per_second_max = {rows_per_second_max}
{signal}
{tables}
[sink.postgres]
dsn = "env:BENCH_DSN"
"""
SIGNALS = ("", 'signal = "change_pointers"\nmessage_type = "ZCRASH"')
_TYPES = {"note": "string", "text": "string"}
_FIELDS = {
    "items": [("order_id", "NUMC", 10), ("line_no", "NUMC", 4), ("quantity", "INT4", 10), ("note", "CHAR", 300),
              ("filler", "CHAR", 250)],
    "ledger": [("account", "NUMC", 10), ("text", "CHAR", 20)],
}  # fmt: skip
_FILLER = "f" * 250  # a row of the items is wider than the 512 characters that the plainest function reads at once
_NOTE_CHARACTERS = 300


class RfcWriter(ChangeWriter):
    """Changes rows and writes the documents and pointers that tell of them."""

    wait_s = 0.05  # the plainest function needs several calls for each row that changed

    def __init__(self, system: Any, rows: int, seed: int) -> None:
        super().__init__(rows, seed, note_characters=_NOTE_CHARACTERS)
        self._system = system
        for change in self.script.initial():
            self.send(change, documents=False)

    def work(self) -> None:
        """See Writer.work."""
        super().work()
        self._system.close()

    def send(self, change: Change, *, documents: bool = True) -> None:
        """See ChangeWriter.send."""
        rows = [row | {"filler": _FILLER} for row in change.named_rows]
        self._system.write({change.table: rows}, {change.table: change.named_keys}, documents=documents)


class RfcRig(FollowedRig):
    """The flow is a faked SAP system read directly into PostgreSQL, and no broker."""

    @property
    def _path(self) -> Path:
        return self.scratch / f"sap-{self.runs}.db"

    def begin(self) -> RfcWriter:
        """See DirectRig.begin."""
        from tests.connectors.sap_rfc_parts import READERS
        from tests.doubles.sap_rfc.standard import CLIENT, Field
        from tests.doubles.sap_rfc.system import System

        release = next(itertools.islice(itertools.cycle(READERS.values()), self.runs, None))
        system = System.create(self._path, message_types={"ZCRASH": list(COLUMNS)}, **release)
        for name, fields in _FIELDS.items():
            made = [Field(*one, key=at < KEY_COLUMNS[name]) for at, one in enumerate(fields)]
            system.add_table(name, [CLIENT, *made], object_class=f"Z_{name.upper()}")
        return RfcWriter(system, self._rows, self.runs)

    def text(self) -> str:
        """See DirectRig.text."""
        tables = ""
        for name, columns in COLUMNS.items():
            types = ", ".join(f'{one} = "{_TYPES.get(one, "int64")}"' for one in columns)
            more = ', filler = "string"' if name == "items" else ""
            key = list(columns[: KEY_COLUMNS[name]])
            tables += f'[tables.{name}]\ntopic = "{name}"\nkey = {key}\ncolumns = {{ {types}{more} }}\n'
        signal = SIGNALS[self.runs // 2 % len(SIGNALS)]
        return _PIPELINE.format(
            path=self._path, rows_per_second_max=self.rows_per_second_max, signal=signal, tables=tables
        )

    def environment(self) -> dict[str, str]:
        """See Rig.environment."""
        from tests.doubles.sap_rfc import SHIM

        return {"BENCH_SAP_PASSWORD": "secret", "PYTHONPATH": os.pathsep.join([str(SHIM), os.getcwd()])}


def opened(stack: ExitStack, postgres: EmbeddedPostgres, rows: int, scratch: Path) -> RfcRig:
    """The rig of this flow."""
    return RfcRig(postgres, rows, scratch)

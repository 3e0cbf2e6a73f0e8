"""The killing runs of [source.sap_idoc]: senders that post again whatever was not acknowledged.

An IDoc is posted to the flow, so there is no source's server to kill, no snapshot and no hand-over: a hit is aimed at
the burst with which the senders begin, or at the stream behind it, and a post may lose its answer. Each sender keeps
the order of its objects; an IDoc that is posted twice is legal, one that is lost is not. HTTP is real, the senders are
a program of ours in SAP's place.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from decimal import Decimal
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from bench.crash_direct import EndlessRig, SteppedWriter
from bench.crash_script import Row
from control.embedded import EmbeddedPostgres
from flows.ports import free_port

_PIPELINE = """
name = "crash"
[source.sap_idoc]
listen = "127.0.0.1:{port}"
object = "E1EDK01.BELNR"
batch_rows_max = 400
[source.sap_idoc.segments.E1EDK01.columns]
BELNR = {{}}
[source.sap_idoc.segments.E1EDP01.columns]
POSEX = {{}}
MATNR = {{}}
NTGEW = {{ type = "decimal(15,3)" }}
[tables.idocs]
topic = "EDI_DC40"
target = "idocs"
[tables.orders]
topic = "E1EDK01"
target = "orders"
key = ["OBJECT"]
[tables.positions]
topic = "E1EDP01"
target = "positions"
[sink.postgres]
dsn = "env:BENCH_DSN"
"""
_COLUMNS = {
    "idocs": ("DOCNUM", "OBJECT"),
    "orders": ("OBJECT", "DOCNUM", "BELNR"),
    "positions": ("DOCNUM", "POSEX", "MATNR", "NTGEW", "OBJECT"),
}
SENDERS = 3
_ORDERS = 50  # of each sender: each of them is sent many times
_PACKET = 10
_WAIT_S = 0.02
_TWICE = 0.05  # how often a post is sent again though it was acknowledged
_GIVEN_UP_S = 60.0


class Idoc(NamedTuple):
    """An IDoc of an order."""

    docnum: str
    order: str
    items: list[tuple[str, str, str]]
    """POSEX, MATNR, NTGEW."""


class Sender(SteppedWriter):
    """One sender: what it posts to a port, and what was acknowledged.

    Args:
        number: among the senders; its objects and IDocs are its own.
        burst: how many IDocs it sends without a pause at first.
    """

    def __init__(self, port: int, number: int, burst: int, seed: int) -> None:
        super().__init__(seed)
        self._port, self._number, self._burst = port, number, burst
        self._ended_at: float | None = None
        self.acknowledged: list[Idoc] = []

    def write(self) -> None:
        """See SteppedWriter.write: one post."""
        from tests.connectors.idoc_parts import document, xml

        in_burst = len(self.acknowledged) < self._burst
        idocs = [self._idoc(place) for place in range(_PACKET if in_burst else self.chance.randint(1, 3))]
        body = document(*(xml(int(one.docnum), one.order, one.items) for one in idocs))
        self._deliver(body)
        self.acknowledged += idocs
        if self.chance.random() < _TWICE:
            self._deliver(body)
        if not in_burst:
            self.ended.wait(_WAIT_S)

    def _idoc(self, place: int) -> Idoc:
        docnum = f"{self._number * 10**9 + len(self.acknowledged) + place:016d}"
        order = f"order {self._number}-{self.chance.randrange(_ORDERS)}"
        items = [
            (f"{line:06d}", f"M-{self.chance.randrange(1000)}", f"{line}.125")
            for line in range(self.chance.randint(1, 3))
        ]
        return Idoc(docnum, order, items)

    def _deliver(self, body: bytes) -> None:
        """Post until it is acknowledged. Raises TimeoutError where nobody does so behind the end."""
        from tests.connectors.idoc_parts import post

        while True:
            try:
                status, text = post(self._port, body)
            except (OSError, HTTPException):  # nobody listens, or the answer is lost: what was kept is known again
                status, text = 503, "no answer"
            if status == 200:
                return
            if status != 503:
                raise AssertionError(f"expected 200, or 503 to come again, found {status}: {text}")
            if self.ended.is_set():
                self._ended_at = self._ended_at or time.monotonic()
                if time.monotonic() > self._ended_at + _GIVEN_UP_S:
                    raise TimeoutError(f"nobody takes an IDoc: {text}")
            time.sleep(0.05)


class Senders:
    """All of them, as one writer."""

    def __init__(self, port: int, burst: int, seed: int) -> None:
        self.all = [Sender(port, number, burst // SENDERS, seed + 1000 * number) for number in range(SENDERS)]

    def start(self) -> None:
        """Begin to send."""
        for one in self.all:
            one.start()

    def stop(self) -> None:
        """Wait until all that was posted is acknowledged. Raises what ended a sender before."""
        for one in self.all:
            one.ended.set()
        for one in self.all:
            one.stop()

    @property
    def transactions(self) -> int:
        """How many posts it were."""
        return sum(one.transactions for one in self.all)

    @property
    def acknowledged(self) -> list[Idoc]:
        """What a run must bring, each sender's in its order."""
        return [idoc for one in self.all for idoc in one.acknowledged]


class IdocRig(EndlessRig):
    """The flow receives IDocs into PostgreSQL, and no broker."""

    tables = ("idocs", "orders", "positions")
    moments = ("burst", "stream")

    def __init__(self, postgres: EmbeddedPostgres, rows: int, scratch: Path) -> None:
        super().__init__(postgres, rows, scratch)
        self._port = free_port()

    def begin(self) -> Senders:
        """See DirectRig.begin."""
        return Senders(self._port, self._rows, self.runs)

    def text(self) -> str:
        """See DirectRig.text."""
        return _PIPELINE.format(port=self._port)

    def progress(self) -> int:
        """See EndlessRig.progress: IDocs."""
        (idocs,) = self.seen("idocs", "count(*)") or (0,)
        return int(idocs)

    def moment(self) -> str:
        """See MomentRig.moment."""
        idocs = self.progress()
        return "" if not idocs else "burst" if idocs < self._rows else "stream"

    def stay_s(self, moment: str) -> float:
        """See MomentRig.stay_s."""
        return {"burst": 0.5, "stream": 1.5}[moment]

    def finish(self) -> None:
        """See EndlessRig.finish: what nobody acknowledged yet needs a flow that listens."""
        self._stop()

    def expected(self, table: str) -> tuple[Sequence[str], Counter[Row]]:
        """See EndlessRig.expected."""
        sent = self._writer.acknowledged
        rows: list[Row]
        if table == "idocs":
            rows = [(docnum, order) for docnum, order, _ in sent]
        elif table == "orders":
            rows = [(order, docnum, order) for order, docnum in {order: docnum for docnum, order, _ in sent}.items()]
        else:
            rows = [(docnum, *item[:2], Decimal(item[2]), order) for docnum, order, items in sent for item in items]
        return _COLUMNS[table], Counter(rows)


def opened(stack: ExitStack, postgres: EmbeddedPostgres, rows: int, scratch: Path) -> IdocRig:
    """The rig of this flow."""
    return IdocRig(postgres, rows, scratch)

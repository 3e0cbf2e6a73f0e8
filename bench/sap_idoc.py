"""sap-idoc: IDocs a second that `headrace run` receives over HTTP, 100 to a post and one to a post.

An IDoc has a header and two items: four rows. The rate is by the wall, from the first post to when the last row has
reached the null target's spool and its IDoc's body is gone, that is, is durable. Eight processes with a connection each
stand in for SAP; each of their posts is on the disk before it is answered.
"""

from __future__ import annotations

import multiprocessing
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from decimal import Decimal
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench import rig
from bench.measure import MemoryProbe, Result
from bench.sap_parts import NULL, POSTGRES, Sums, compared
from bench.w1 import say
from flows.ports import free_port, listens

IDOCS_MAX = 20_000
SENDERS = 8
PACKET = 100
ROWS = 4
SECONDS_MAX = 600.0


def _bodies(count: int, packet: int) -> list[bytes]:
    """The posts of so many IDocs."""
    from tests.connectors.idoc_parts import document, xml

    idocs = [
        xml(number, f"order {number}", [("000010", "PUMP", f"{number}.125"), ("000020", "VALVE", "0.500")])
        for number in range(count)
    ]
    return [document(*idocs[start : start + packet]) for start in range(0, count, packet)]


def _send(port: int, bodies: list[bytes]) -> None:
    """Post them one after the other on one connection; what is not answered by 200 ends the process with an error."""
    connection = HTTPConnection("127.0.0.1", port)
    for body in bodies:
        connection.request("POST", "/idoc", body)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            sys.exit(f"bench: sap-idoc: expected 200, found {answer.status}")


def _sent(port: int, bodies: list[bytes]) -> list[Any]:
    """Senders at work, each with its share."""
    shares = [bodies[start::SENDERS] for start in range(SENDERS)]
    senders = [multiprocessing.Process(target=_send, args=(port, share)) for share in shares if share]
    for one in senders:
        one.start()
    return senders


def _received(scratch: Path, sink: str, bodies: list[bytes], idocs: int, dsn: str = "") -> tuple[float, float, int]:
    """(seconds, peak MB, rows read) of a flow that receives them all; ended by SIGTERM."""
    from tests.connectors.idoc_parts import pipeline

    port = free_port()
    arguments, environment = rig.headrace_run(pipeline(scratch, port, sink), dsn, until_end=False)
    with tempfile.TemporaryDirectory(dir=scratch) as text:
        state = Path(text)
        process = rig.start(arguments, scratch / "ours.log", {**environment, "HEADRACE_STATE_DIR": text})
        try:
            with MemoryProbe(process.pid) as probe:
                _wait(lambda: listens(port), process)
                began = time.perf_counter()
                senders = _sent(port, bodies)
                with closing(sqlite3.connect(f"file:{state}/idocs/idocs.db?mode=ro", uri=True)) as spool:
                    _wait(lambda: _durable(spool) == idocs, process)
                seconds = time.perf_counter() - began
                for one in senders:
                    one.join()
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            rig.kill_session(process)
        return seconds, probe.peak_mb, rig.status_sum(state, "events")


def _durable(spool: sqlite3.Connection) -> int:
    return int(spool.execute("SELECT count(*) FROM idoc WHERE body IS NULL").fetchone()[0])


def _wait(reached: Any, process: Any) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not reached():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("bench: sap-idoc: the flow ended, or does not get there")
        time.sleep(0.01)


def sap_idoc(items_: int, pairs: int, processes: int) -> list[Result]:
    """IDocs a second in packets and single; equal where the target holds each once and the quantities are right."""
    try:
        import tests.connectors.idoc_parts  # noqa: F401
    except ModuleNotFoundError:
        raise SystemExit("bench: sap-idoc needs the parts in tests/: run it in a checkout") from None

    results = []
    for name, packet, part in ((f"{PACKET} a post", PACKET, 1), ("single", 1, 5)):
        idocs = max(PACKET, min(items_, IDOCS_MAX) // part)
        results.append(_measured(f"sap-idoc: {name}", _bodies(idocs, packet), idocs, pairs))
    return results


def _measured(name: str, bodies: list[bytes], idocs: int, pairs: int) -> Result:
    rates, peak_mb, equal = [], 0.0, True
    truth = Sums(2 * idocs, Decimal(0), sum((Decimal(f"{number}.625") for number in range(idocs)), Decimal(0)))
    with tempfile.TemporaryDirectory(prefix="sap-idoc-") as text:
        for _ in range(pairs):
            seconds, peak, seen = _received(Path(text), NULL, bodies, idocs)
            rates.append(idocs / seconds)
            peak_mb, equal = max(peak_mb, peak), equal and seen == ROWS * idocs
            say(f"  {name}: {rates[-1]:,.0f} IDocs/s, {seen:,} of {ROWS * idocs:,} rows")
        with rig.postgres() as server:
            import psycopg

            _received(Path(text), POSTGRES, bodies, idocs, server.dsn())
            with psycopg.connect(server.dsn()) as connection:
                found = compared(connection, "E1EDP01", "NTGEW", "NTGEW")
    rate = statistics.median(rates)
    equal = equal and (found.rows, found.quantities) == (truth.rows, truth.quantities)
    return Result(name, rate, "IDocs/s", "none", rate, 1.0, peak_mb, equal)

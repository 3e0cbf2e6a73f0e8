"""The killing runs of sources that are read directly: their writers, their moments, and what they are compared with."""

from __future__ import annotations

import importlib
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bench.crash_direct import DirectRig, FollowedRig
from bench.crash_sap_idoc import Sender
from bench.crash_script import BEAT, COLUMNS, KEY_COLUMNS, Script
from connectors.sap.idoc_envelope import documents
from control.embedded import EmbeddedPostgres
from flows import build
from flows.ports import free_port
from tests.doubles.sap.gateway import GatewayDouble

ROWS = 200


@pytest.fixture
def scratch(postgres_server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Path]:
    """A folder for a rig, whose target's database goes behind the test."""
    yield tmp_path
    postgres_server.drop_database("crash")


def opened(stack: ExitStack, flow: str, postgres: EmbeddedPostgres, scratch: Path) -> Any:
    """A flow's rig over few rows."""
    rig: DirectRig = importlib.import_module(f"bench.crash_{flow}").opened(stack, postgres, ROWS, scratch)
    stack.callback(rig.close)
    return rig


def test_a_script_knows_where_its_changes_lead() -> None:
    """Changes in the order in which they come lead to the script's tables, and a seed's are the same again."""
    script, one, other = (Script(ROWS, random.Random(3), 50) for _ in range(3))
    tables: dict[str, dict[Any, Any]] = {name: {} for name in COLUMNS}
    given = list(script.initial())
    for number in range(200):
        given += script.transaction(*(("items", "ledger") if number % 2 else ("ledger",)))
        given.append(script.beat())
    for change in given:
        for key in change.deleted:
            tables[change.table].pop(key, None)
        tables[change.table] |= {row[: KEY_COLUMNS[change.table]]: row for row in change.upserts}
    assert tables == script.tables
    assert tables["items"][BEAT][2] == 200
    assert any(change.deleted for change in given) and len(tables["ledger"]) == ROWS // 4
    assert [*one.initial(), *one.transaction("items")] == [*other.initial(), *other.transaction("items")]


@pytest.mark.real
@pytest.mark.parametrize("flow", ["oracle", "sap_odata", "sap_rfc"])
def test_moments_are_told_by_the_target(flow: str, postgres_server: EmbeddedPostgres, scratch: Path) -> None:
    """The pipeline's file can be read; rows of the target tell snapshot, hand-over and stream; a lost row is found."""
    with ExitStack() as stack:
        rig: FollowedRig = opened(stack, flow, postgres_server, scratch)
        assert set(build.load(str(rig.pipeline())).tables) == {"items", "ledger"}
        assert rig.moment() == ""
        with psycopg.connect(postgres_server.dsn("crash"), autocommit=True) as target:
            target.execute("CREATE TABLE items (order_id int, line_no int, quantity int, note text)")
            target.execute("CREATE TABLE ledger (account int, text text)")
            assert rig.moment() == ""
            rows = "INSERT INTO items SELECT {0}, g, 7, 'n' FROM generate_series(1, {1}) g"
            target.execute(rows.format(0, 20))
            assert rig.moment() == "snapshot"
            target.execute(rows.format(1, ROWS))
            assert rig.moment() == "snapshot"
            target.execute("INSERT INTO ledger VALUES (1, 'l')")
            assert rig.moment() == "hand-over"
            target.execute("UPDATE items SET quantity = 8 WHERE order_id = 0")
            assert (rig.moment(), rig.progress()) == ("stream", 8)
            rig._stop()
            target.execute("TRUNCATE items, ledger")
            for name in COLUMNS:
                for row in rig.expected(name)[1]:
                    target.execute(f"INSERT INTO {name} VALUES ({', '.join(['%s'] * len(row))})", row)
                assert rig.compared(target, name).equal
            target.execute("DELETE FROM ledger WHERE account = 1")
            assert rig.compared(target, "ledger").missing == 1


@pytest.mark.real
def test_the_writer_of_oracle_and_its_database_agree(postgres_server: EmbeddedPostgres, scratch: Path) -> None:
    """Behind savepoints, rollbacks and interleaved transactions the database holds what the script says."""
    with ExitStack() as stack:
        rig = opened(stack, "oracle", postgres_server, scratch)
        rig.pipeline()
        wait_for(lambda: rig._writer.transactions >= 30)
        rig._stop()
        for name, columns in COLUMNS.items():
            found = [tuple(row[column] for column in columns) for row in rig._database.truth(f"ERP.{name}")]
            assert sorted(found) == sorted(rig.expected(name)[1].elements())


def test_a_killed_gateway_goes_on_where_it_was(tmp_path: Path) -> None:
    """Rows, the package of a delta link and what came behind it outlive a kill -9; half a line was never done."""
    from urllib.request import Request, urlopen

    from tests.doubles.sap.render import PATHS

    def asked(gateway: GatewayDouble, path: str) -> bytes:
        request = Request(f"{gateway.url}{PATHS[2]}/{path}", headers={"Prefer": "odata.track-changes"})
        with urlopen(request) as answer:
            return bytes(answer.read())

    def row(number: int) -> dict[str, Any]:
        return {"id": number, "name": "n", "price": None}

    journal = tmp_path / "journal"
    with GatewayDouble(journal) as gateway:
        gateway.write("items", [row(1)])
        link = asked(gateway, "items").decode().split(f"{PATHS[2]}/")[-1].split('"')[0]
        gateway.write("items", [row(2)])
        package = asked(gateway, link)
        gateway.write("items", [row(3)], [{"id": 1}])
        gateway.kill()
        with journal.open("a") as file:
            file.write('["lever", "write", {"set": "items", "rows": [{"id": 4')
        gateway.start()
        assert asked(gateway, link) == package
        gateway.write("items", [row(5)])
        gateway.kill()
        gateway.start()
        behind = asked(gateway, package.decode().split(f"{PATHS[2]}/")[-1].split('"')[0])
        assert [f'"id":{number},'.encode() in behind for number in range(1, 6)] == [True, False, True, False, True]


def test_a_sender_posts_again_what_was_not_acknowledged() -> None:
    """Every IDoc that was acknowledged was taken, in order; an answer that is lost or 503 lets it come again."""
    taken: list[str] = []
    answers = iter([200, 503, None, 200, None] * 100)

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = next(answers)
            if answer != 503:  # without an answer it may have been taken
                taken.extend(one.fields["DOCNUM"] for one in documents(body))
            if answer is not None:
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    port = free_port()
    with ThreadingHTTPServer(("127.0.0.1", port), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sender = Sender(port, 1, 20, seed=5)
        sender.start()
        wait_for(lambda: sender.transactions >= 6)
        sender.stop()
        server.shutdown()
    sent = [one.docnum for one in sender.acknowledged]
    assert list(dict.fromkeys(taken)) == sent == sorted(sent)
    assert len(taken) > len(sent)


def wait_for(reached: Any) -> None:
    """Until it is so."""
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)

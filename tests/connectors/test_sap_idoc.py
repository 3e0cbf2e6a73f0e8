"""IDocs received over HTTP: rows of their segments, once each, in order per object, with an answer to the sender."""

from __future__ import annotations

import socket
import sqlite3
import ssl
import threading
import time
import tomllib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from connectors.sap.idoc_config import SapIdocConfig
from connectors.sap.idoc_envelope import documents
from connectors.sap.idoc_reader import FIRST, IdocReader
from connectors.sap.idoc_spool import Spool
from flows import build, direct
from flows.ports import free_port, listens
from flows.testing import run_flow
from flows.verify import verify
from libcore.change import ChangeBatch
from libcore.errors import CapacityError, ConfigurationError
from tests.connectors.contract_source import Followed
from tests.connectors.idoc_parts import PIPELINE, document, flat, pipeline, post, xml
from tests.connectors.test_source_pages import run_page
from tests.doubles.sap.gateway import GatewayDouble

ITEMS = [("000010", "PUMP", "1998.000-"), ("000020", "VALVE", "0.500")]
ROWS = [("000010", "PUMP", Decimal("-1998.000")), ("000020", "VALVE", Decimal("0.500"))]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Callable[..., tuple[Followed, int]]]:
    """Starts a flow that listens; (the flow, its port)."""
    started: list[Followed] = []

    def start(more: str = "", **settings: Any) -> tuple[Followed, int]:
        port = free_port()
        followed = Followed(pipeline(tmp_path, port, more=more, **settings), tmp_path / "state")
        started.append(followed)
        followed.until(lambda: listens(port))
        return followed, port

    yield start
    for one in started:
        one.close()


def _items(followed: Followed) -> list[Any]:
    return sorted(row[4:7] for row in followed.tables.get("E1EDP01", {}).values())


@pytest.mark.parametrize("form", ["xml", "flat", "xml packet", "flat packet"])
def test_segments_become_rows(receiver: Callable[..., tuple[Followed, int]], form: str) -> None:
    """A post in either form, of one IDoc or of two, gives each segment's rows, with exact numbers and its place."""
    followed, port = receiver()
    one = document(xml(7, "4711", ITEMS)) if form.startswith("xml") else flat(7, "4711", ITEMS)
    if form.endswith("packet"):
        another = xml(8, "4712", []) if form.startswith("xml") else flat(8, "4712")
        one = document(xml(7, "4711", ITEMS), another) if form.startswith("xml") else one + another
    assert post(port, one)[0] == 200
    count = 2 if form.endswith("packet") else 1
    followed.until(lambda: len(followed.tables.get("E1EDK01", {})) == count and len(_items(followed)) == 2)
    assert _items(followed) == ROWS
    assert followed.tables["E1EDP01"][("0000000000000007", 2)] == (
        "0000000000000007", 2, 0, 1, "000010", "PUMP", Decimal("-1998.000"), date(2024, 2, 29)
    )  # fmt: skip
    assert followed.letters == []


def test_a_number_that_comes_again_changes_nothing(receiver: Callable[..., tuple[Followed, int]]) -> None:
    """An IDoc that SAP sends twice, also long after it was done and across a crash, is taken once."""
    followed, port = receiver()
    assert post(port, document(xml(7, "4711", ITEMS)))[1].startswith("1 of 1")
    followed.until(lambda: _items(followed) == ROWS)
    followed.crash()
    followed.until(lambda: listens(port))
    assert post(port, document(xml(7, "4711", [("000010", "OTHER", "1")])))[1].startswith("0 of 1")
    assert post(port, flat(8, "4712"))[1].startswith("1 of 1")
    followed.until(lambda: len(followed.tables["E1EDK01"]) == 2)
    assert _items(followed) == ROWS


def test_an_overtaken_idoc_changes_nothing(receiver: Callable[..., tuple[Followed, int]]) -> None:
    """Of an object's IDocs the newest by SERIAL wins, in whatever order they come; other objects are not touched."""
    followed, port = receiver(object="E1EDK01.BELNR")
    for number, order, serial in (
        (3, "A", "20240103"),
        (2, "A", "20240102"),
        (1, "B", "20240101"),
        (4, "A", "20240104"),
    ):
        assert post(port, document(xml(number, order, serial=serial)))[0] == 200
    followed.until(lambda: len(followed.tables.get("E1EDK01", {})) == 3)
    found = {(int(row[0]), row[5], row[6]) for row in followed.tables["E1EDK01"].values()}
    assert found == {(3, "A", "A"), (1, "B", "B"), (4, "A", "A")}


def test_a_table_without_a_key_is_refused(tmp_path: Path) -> None:
    """Rows that are read again behind a crash have the same keys; without one they would double: the start says so."""
    file = tmp_path / "bare.toml"
    settings, _, sink = pipeline(tmp_path, free_port()).read_text("utf-8").partition("[sink.null]")
    keyless = '[tables.E1EDP01]\ntopic = "E1EDP01"\nkey = []\n'
    file.write_text(
        settings.replace('tables = ["EDI_DC40", "E1EDK01", "E1EDP01"]', "") + keyless + "[sink.null]" + sink
    )
    with pytest.raises(ConfigurationError, match="expected a key for E1EDP01, found none"):
        Followed(file, tmp_path / "state")


def test_what_is_read_again_was_not_overtaken_by_what_came_later(tmp_path: Path) -> None:
    """Read again behind a crash, each IDoc comes or not as the first time, wherever the last durable one stands."""
    sent = ((1, "A", "3"), (2, "A", "1"), (3, "A", "2"), (4, "B", "1"), (5, "A", "4"), (6, "A", "5"), (7, "B", "0"))
    settings = tomllib.loads(PIPELINE)["source"]["sap_idoc"] | {"object": "E1EDK01.BELNR"}
    config = SapIdocConfig(**settings)
    body = document(*(xml(number, order, serial=serial) for number, order, serial in sent))
    with closing(Spool(tmp_path, bytes_max=1 << 20, kept=1_000)) as spool:
        assert spool.put(documents(body)) == len(sent)
    for durable in range(len(sent)):
        generations = dict.fromkeys(config.tables, 0)
        state = (*FIRST[:1], durable)
        reader = IdocReader(config, tmp_path, config.tables, generations, state, flow="idocs", until_end=True)
        with closing(reader):
            reader.durable(state)
            found = [int(row["DOCNUM"]) for row in _rows(reader, "E1EDK01")]
        assert found == [number for number in (1, 4, 5, 6) if number > durable], durable


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_a_line_end_inside_a_flat_segment_loses_nothing(end: bytes, tmp_path: Path) -> None:
    """Of a segment that a line end in a text breaks no half is kept: its IDoc is a dead letter. Broken segments that
    nobody asked for cost nothing."""
    config = SapIdocConfig(**tomllib.loads(PIPELINE)["source"]["sap_idoc"])
    broken = flat(1, "A", [("000010", "PU\u00fcMP", "1.000")]).replace("\u00fc".encode(), end)
    other = flat(2, "B", ITEMS) + flat(2, "B").splitlines(keepends=True)[1].replace(b"E2EDK01005", b"E2EDKT2001") + b"x"
    with closing(Spool(tmp_path, bytes_max=1 << 20, kept=1_000)) as spool:
        assert spool.put(documents(broken + other + end + b"rest\r\n")) == 2
    generations = dict.fromkeys(config.tables, 0)
    reader = IdocReader(config, tmp_path, config.tables, generations, FIRST, flow="idocs", until_end=True)
    with closing(reader):
        items = [item for piece in reader.pieces() if piece is not None for item in piece.items]
    found = [row for item in items if isinstance(item, ChangeBatch) for row in item.record.to_pylist()]
    assert [row["MATNR"] for row in found if "MATNR" in row] == ["PUMP", "VALVE"]
    (error,) = [row["error"] for row in found if "error" in row]
    assert error.startswith("line 4: ") and error.endswith(": a line end inside of E2EDP01006?"), error


def _rows(reader: IdocReader, table: str) -> list[dict[str, Any]]:
    """What a reader brings of a table."""
    items = [item for piece in reader.pieces() if piece is not None for item in piece.items]
    batches = [item for item in items if isinstance(item, ChangeBatch) and item.table.name == table]
    return [row for batch in batches for row in batch.record.to_pylist()]


@pytest.mark.parametrize(
    "poison",
    [b"<ORDERS05><IDOC>", b"what is this", b"", b'<!DOCTYPE x [<!ENTITY a "b">]><ORDERS05/>', b"<ORDERS05/>", b"\xff<"],
)
def test_poison_is_a_dead_letter(receiver: Callable[..., tuple[Followed, int]], poison: bytes) -> None:
    """What is no IDoc is answered with 200 and becomes one dead letter with its bytes; its neighbours go on."""
    followed, port = receiver()
    assert post(port, poison)[0] == 200
    assert post(port, document(xml(7, "4711", ITEMS)))[0] == 200
    followed.until(lambda: _items(followed) == ROWS)
    assert [letter["raw_value"] for letter in followed.letters] == [poison]


def test_a_bad_field_is_a_dead_letter(receiver: Callable[..., tuple[Followed, int]]) -> None:
    """A segment with a value that does not fit is named with column and value; the IDoc's other segments are rows."""
    followed, port = receiver()
    assert post(port, document(xml(7, "4711", [("000010", "PUMP", "1,5"), ITEMS[1]])))[0] == 200
    followed.until(lambda: _items(followed) == ROWS[1:])
    (letter,) = followed.letters
    assert "NTGEW" in letter["error"] and "1,5" in letter["error"]


def test_who_may_post_what(receiver: Callable[..., tuple[Followed, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers, wrong paths and bodies beyond the bound are refused, without being read."""
    monkeypatch.setenv("IDOC_PASSWORD", "geheim")
    followed, port = receiver(user="SAP", password="env:IDOC_PASSWORD", body_bytes_max=4096)
    right = {"Authorization": "Basic " + b64encode(b"SAP:geheim").decode()}
    body = document(xml(7, "4711", ITEMS))
    assert post(port, body)[0] == 401
    assert post(port, body, Authorization="Basic " + b64encode(b"SAP:other").decode())[0] == 401
    assert post(port, body, path="/other", **right)[0] == 404
    assert post(port, body + b" " * 4096, **right)[0] == 413
    assert post(port, body, **right)[0] == 200
    followed.until(lambda: _items(followed) == ROWS)


@pytest.mark.parametrize("head", [b"Content-Length: 100\r\n\r\nhalf", b"\r\n<ORDERS05/>", b"Content-Length: x\r\n\r\n"])
def test_a_post_that_is_cut_short(receiver: Callable[..., tuple[Followed, int]], head: bytes) -> None:
    """Half a body, or one of no known length, is not kept, and the next post is taken."""
    followed, port = receiver()
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(b"POST /idoc HTTP/1.1\r\nHost: x\r\n" + head)
        peer.shutdown(socket.SHUT_WR)
        answer = peer.recv(100)
    assert answer == b"" or b" 411 " in answer
    assert post(port, document(xml(7, "4711", ITEMS)))[1].startswith("1 of 1")
    followed.until(lambda: _items(followed) == ROWS)
    assert followed.letters == []


def test_doctor(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that anybody can post to, and a status that does not arrive, are told; so is the route."""
    monkeypatch.setenv("TARGET_DSN", postgres)
    more, sink = '[source.sap_idoc.status]\nurl = "http://127.0.0.1:9"\n', '[sink.postgres]\ndsn = "env:TARGET_DSN"\n'
    file = pipeline(tmp_path, free_port(), sink, more, spool="spool")
    loaded = build.load(str(file))
    told = [str(finding) for finding in direct.findings(loaded, direct.bind(loaded, str(file)), str(file))]
    assert [one.partition(": expected")[0] for one in told] == ["error: status", "warning: login", "note: route"]
    assert "not ODP by RFC (RODPS_REPL_*" in told[2]
    with pytest.raises(ConfigurationError, match="nothing to compare with"):
        verify(str(file))


def test_a_full_spool_tells_to_come_again(receiver: Callable[..., tuple[Followed, int]], tmp_path: Path) -> None:
    """Beyond its bound a post is answered with 503 and kept by SAP; nothing of it is in the spool."""
    _, port = receiver(spool_bytes_max=1 << 20)
    body = document(xml(7, "x" * (1 << 20), ITEMS))
    assert post(port, body)[0] == 503
    with closing(sqlite3.connect(tmp_path / "state" / "idocs" / "idocs.db")) as spool:
        assert spool.execute("SELECT count(*) FROM idoc").fetchall() == [(0,)]


def test_posts_that_come_together_are_written_together(tmp_path: Path) -> None:
    """Posts that wait for the disk at one moment share a transaction; each has its own answer, the one too many too."""
    begins: list[str] = []
    with closing(Spool(tmp_path, bytes_max=60_000, kept=1_000)) as spool:
        spool._db.set_trace_callback(lambda text: begins.append(text) if text.startswith("BEGIN") else None)
        bodies = [document(xml(number, "x" * size)) for number, size in ((1, 9), (2, 9), (3, 59_900), (1, 9))]
        answers: dict[int, Any] = {}

        def put(number: int) -> None:
            try:
                answers[number] = spool.put(documents(bodies[number]))
            except CapacityError as error:
                answers[number] = error

        threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
        with spool._lock:  # the disk is busy
            for number, thread in enumerate(threads):
                thread.start()
                while len(spool._posts) <= number:
                    time.sleep(0.001)
        for thread in threads:
            thread.join()
        assert (answers[0], answers[1], type(answers[2]), answers[3]) == (1, 1, CapacityError, 0)
        assert [one.docnum for one in spool.waiting(0, 9, 1 << 20)] == [f"{number:016d}" for number in (1, 2)]
    assert len(begins) == 1


def test_the_sender_is_told_once_it_is_durable(receiver: Callable[..., tuple[Followed, int]], tmp_path: Path) -> None:
    """An audit IDoc says 53 of what was taken and 51 of what was refused, behind the sink's commit; then bodies go."""
    with GatewayDouble() as sap:
        sap.fault("/sap/bc/idoc_xml", 503, count=1, headers={"Retry-After": "0"})
        followed, port = receiver(more=f'[source.sap_idoc.status]\nurl = "{sap.url}"\n')
        assert post(port, document(xml(7, "4711", ITEMS)))[0] == 200
        assert post(port, document(xml(8, "4711", [("000010", "PUMP", "x")])))[0] == 200
        told: list[str] = []

        def arrived() -> bool:
            told.extend(one for one in sap.asked() if one.startswith("POST"))
            return "".join(told).count("<E1STATE") >= 2

        followed.until(arrived)
    text = "".join(told)
    assert "<DOCNUM>0000000000000007</DOCNUM><STATUS>53</STATUS>" in text
    assert "<DOCNUM>0000000000000008</DOCNUM><STATUS>51</STATUS><STATXT>" in text
    with closing(sqlite3.connect(tmp_path / "state" / "idocs" / "idocs.db")) as spool:
        followed.until(lambda: spool.execute("SELECT count(body), count(*) FROM idoc").fetchall() == [(0, 2)])


def test_nobody_is_told_before_it_is_durable(tmp_path: Path) -> None:
    """What was read and is not durable is neither told nor forgotten; once it is, both happen."""
    with GatewayDouble() as sap:
        settings = tomllib.loads(PIPELINE)["source"]["sap_idoc"] | {"status": {"url": sap.url}, "listen": "127.0.0.1:0"}
        config = SapIdocConfig(**settings)
        generations = dict.fromkeys(config.tables, 0)
        reader = IdocReader(config, tmp_path, config.tables, generations, FIRST, flow="idocs", until_end=False)
        with closing(reader), closing(sqlite3.connect(tmp_path / "idocs.db")) as spool:
            waiting = "SELECT count(*) FROM idoc WHERE body IS NOT NULL"
            reader._spool.put(documents(document(xml(7, "4711", ITEMS))))
            pieces = reader.pieces()
            piece = next(pieces)
            assert piece is not None
            assert list(islice(pieces, 5)) == [None] * 5
            assert (sap.asked(), spool.execute(waiting).fetchone()) == ([], (1,))
            reader.durable(piece.state)
            assert list(islice(pieces, 2)) == [None] * 2
            assert [one[:4] for one in sap.asked()] == ["/sap", "POST"]
            assert spool.execute(waiting).fetchone() == (0,)


def test_killed_and_started_again(postgres: str, tmp_path: Path) -> None:
    """Killed with SIGKILL while a sender posts and repeats what was not answered: every IDoc is there, once."""
    port, answered, count = free_port(), [0], 240
    file = pipeline(tmp_path, port, '[sink.postgres]\ndsn = "env:TARGET_DSN"\n')
    flow, environment = f"flows.build:flow('{file}')", {"TARGET_DSN": postgres}

    def send() -> None:
        for number in range(count):
            while not _taken(port, document(xml(number, f"order {number}", ITEMS))):
                time.sleep(0.01)
            answered[0] += 1

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    ends = [
        run_flow(
            flow, tmp_path, environment=environment, kill_after_s=0.0, ready=lambda least=least: answered[0] >= least
        )
        for least in (80, count)
    ]
    ends.append(run_flow(f"flows.build:flow('{file}', until_end=True)", tmp_path, environment=environment))
    assert ends == [[-9], [-9], [0]], (tmp_path / "process-0.log").read_text()[-3000:]
    with psycopg.connect(postgres) as target:
        orders = target.execute('SELECT "DOCNUM", "BELNR" FROM "E1EDK01" ORDER BY 1').fetchall()
        items = target.execute('SELECT count(*), count(DISTINCT "DOCNUM") FROM "E1EDP01"').fetchall()
    assert orders == [(f"{number:016d}", f"order {number}") for number in range(count)]
    assert items == [(2 * count, count)]


def _taken(port: int, body: bytes) -> bool:
    try:
        return post(port, body)[0] == 200
    except (OSError, HTTPException):
        return False


def test_tls(receiver: Callable[..., tuple[Followed, int]], tmp_path: Path) -> None:
    """With a certificate the listener speaks https, and a peer that does not keeps nobody waiting."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    _self_signed(certificate, key)
    followed, port = receiver(tls_certificate=str(certificate), tls_key=str(key))
    with socket.create_connection(("127.0.0.1", port)):  # says nothing
        answer = httpx.post(
            f"https://localhost:{port}/idoc", content=document(xml(7, "4711", ITEMS)),
            verify=ssl.create_default_context(cafile=str(certificate)), trust_env=False,
        )  # fmt: skip
    assert answer.status_code == 200
    followed.until(lambda: _items(followed) == ROWS)


def _self_signed(certificate: Path, key: Path) -> None:
    """A certificate of "localhost" that trusts itself."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    told = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.write_bytes(private.private_bytes(*told))


def test_its_page(tmp_path: Path) -> None:
    """What the page of the source tells a reader to type works."""
    assert run_page("sap_idoc", tmp_path, {"WAREHOUSE_DSN": "postgresql://127.0.0.1/nowhere"}) == 0


def test_documents_of_a_post() -> None:
    """A packet is cut into IDocs that are documents of their own, each known by its sender, client and number."""
    found = documents(document(xml(1, "a"), b"\n ", xml(2, "b", sender="OTHER")))
    assert [one.identity for one in found] == ["ERP/100/0000000000000001", "OTHER/100/0000000000000002"]
    assert [documents(one.body)[0].identity for one in found] == [one.identity for one in found]
    marked = documents(b"\xef\xbb\xbf" + flat(3, "a") + flat(4, "b"))
    assert [one.identity for one in marked] == ["ERP/100/0000000000000003", "ERP/100/0000000000000004"]


def test_a_wrong_setting_is_refused(tmp_path: Path) -> None:
    """An object that is no column of a segment is refused, with both names."""
    with pytest.raises(ConfigurationError, match=r"expected a column of `segments`, found 'E1EDK01\.OTHER'"):
        Followed(pipeline(tmp_path, free_port(), object="E1EDK01.OTHER"), tmp_path / "state")

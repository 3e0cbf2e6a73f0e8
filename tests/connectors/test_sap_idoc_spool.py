"""What is kept of the IDocs that were received: every one that was answered with 200, also in odd company."""

from __future__ import annotations

import socket
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from connectors.sap.idoc_config import SapIdocConfig
from connectors.sap.idoc_envelope import documents
from connectors.sap.idoc_listener import Listener
from connectors.sap.idoc_reader import FIRST, IdocReader
from connectors.sap.idoc_spool import Spool
from flows.ports import free_port
from libcore.errors import FatalError
from tests.connectors.idoc_parts import PIPELINE, document, flat, xml


def config(**settings: object) -> SapIdocConfig:
    return SapIdocConfig(**tomllib.loads(PIPELINE)["source"]["sap_idoc"] | settings)


def test_a_spool_that_is_not_the_one_that_was_read(tmp_path: Path) -> None:
    """An empty folder in the spool's place (another path, a volume that is not there) is refused before anything is
    received: its numbers begin anew, and IDocs of numbers that were read before would wait for ever."""
    told = config(listen=f"127.0.0.1:{free_port()}")
    with closing(Spool(tmp_path / "spool", bytes_max=1 << 20, kept=1_000)) as spool:
        spool.put(documents(document(xml(1, "A"), xml(2, "B"))))
        spool.done(2)
    tables, generations = told.tables, dict.fromkeys(told.tables, 0)
    state = (*FIRST[:1], 2)
    for until_end in (True, False):
        with pytest.raises(FatalError, match=r"other: expected the spool .* 2 IDocs, found one of 0"):
            IdocReader(told, tmp_path / "other", tables, generations, state, flow="f", until_end=until_end)
        with closing(
            IdocReader(told, tmp_path / "spool", tables, generations, state, flow="f", until_end=until_end)
        ) as reader:
            assert next(reader.pieces(), None) is None


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_idocs_of_a_flat_post_are_told_apart_at_any_line_end(end: bytes, tmp_path: Path) -> None:
    """An IDoc that comes behind one that is known already is kept, whatever ends the lines."""
    first, second = (flat(number, "A", [("10", "PUMP", "1.000")]).replace(b"\r\n", end) for number in (1, 2))
    with closing(Spool(tmp_path, bytes_max=1 << 20, kept=1_000)) as spool:
        assert [spool.put(documents(body)) for body in (first, first + second, second)] == [1, 1, 0]
        assert [one.docnum for one in spool.waiting(0, 9, 1 << 20)] == [f"{number:016d}" for number in (1, 2)]


@pytest.mark.parametrize("name", ["ISO-8859-1", "windows-1252", "utf-16", "UTF-8"])
def test_idocs_of_another_encoding(name: str) -> None:
    """What the first line declares is how the bytes are read, also where they happen to be UTF-8; one IDoc or two."""
    text = "B\u00c3\u00bcro und B\u00fcro"
    for numbers in ([1], [1, 2]):
        parts = [xml(number, text).decode() for number in numbers]
        post = f'<?xml version="1.0" encoding="{name}"?><Z>{"".join(parts)}</Z>'.encode(name)
        found = documents(post)
        assert [one.fields["DOCNUM"] for one in found] == [f"{number:016d}" for number in numbers]
        assert all(text in one.body.decode() for one in found)
    broken = b'<?xml version="1.0" encoding="x-nobody"?><Z/>'
    assert [(one.body, one.fields) for one in documents(broken)] == [(broken, {})]


def test_a_sender_that_asks_before_it_sends_is_answered(tmp_path: Path) -> None:
    """Expect: 100-continue is answered at once: a sender that waits for that would send nothing."""
    port, body = free_port(), document(xml(1, "A"))
    with (
        closing(Spool(tmp_path, bytes_max=1 << 20, kept=1_000)) as spool,
        closing(Listener(config(listen=f"127.0.0.1:{port}"), spool)),
        socket.create_connection(("127.0.0.1", port), timeout=5) as peer,
    ):
        head = f"POST /idoc HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
        peer.sendall(head.encode())
        assert peer.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.sendall(body)
        assert peer.recv(100).startswith(b"HTTP/1.1 200 ")
        assert spool.last == 1

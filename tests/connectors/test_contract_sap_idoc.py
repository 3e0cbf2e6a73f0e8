"""The contract of every source, for IDocs: what of it a receiver can keep, over real HTTP.

Left out, as an IDoc by nature cannot: deletes and changed keys (it brings what is there, and tells of nothing that is
gone), NULL in a text (an IDoc has none), and the comparison by `headrace verify` (it comes once, and cannot be read
again). Rows that are written before a flow listens are taken by a listener over the same spool, as by an earlier flow.
"""

from __future__ import annotations

import itertools
from contextlib import closing, suppress
from http.client import HTTPException
from pathlib import Path
from random import Random
from typing import Any
from xml.sax.saxutils import escape

import pytest

from connectors.sap.idoc_config import SapIdocConfig
from connectors.sap.idoc_listener import Listener
from connectors.sap.idoc_spool import Spool
from flows.ports import free_port
from tests.connectors.contract_source import (
    Followed,
    Rows,
    RowsContract,
    SourceSystem,
    check_killed_and_rescaled,
    some_rows,
)
from tests.connectors.idoc_parts import post

FIELDS = 'columns = { id = { type = "int64" }, name = {}, price = { type = "decimal(18,4)" } }\n'
COLUMNS = 'key = ["id"]\ncolumns = { id = "int64", name = "string", price = "decimal(18,4)" }\n'
MORE = '[source.sap_idoc.segments.more]\ncolumns = { note = {} }\n[tables.more]\ntopic = "more"\n'


class IdocSystem:
    """A sender of IDocs: each row is one, of the object `id`; rows that are written together are one post.

    Args:
        directory: for the pipeline file and the spool.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._port = directory, free_port()
        self._numbers, self._rows = itertools.count(1), Rows()

    def pipeline(self, sink: str = "[sink.null]\n", more: str = "", **settings: Any) -> Path:
        """See SourceSystem. more: further sections."""
        told = {"listen": f'"127.0.0.1:{self._port}"', "spool": f'"{self._directory}/spool"', "object": '"items.id"'}
        text = 'name = "idocs"\n[source.sap_idoc]\n'
        text += "".join(f"{name} = {value}\n" for name, value in (told | settings).items())
        for name in ("items", "idle"):
            text += f"[source.sap_idoc.segments.{name}]\n{FIELDS}"
        text += "".join(f'[tables.{name}]\ntopic = "{name}"\n{COLUMNS}' for name in ("items", "idle"))
        file = self._directory / "idocs.toml"
        file.write_text(text + more + sink, "utf-8")
        return file

    def write(self, rows: Rows, deleted: tuple[int, ...] = (), extra: str = "") -> None:
        """See SourceSystem; nothing can be deleted. extra: a further segment of each IDoc."""
        assert not deleted, "an IDoc tells of nothing that is gone"
        for key, name, price in rows.values():
            # blanks behind a text are cut off, and no text is the empty one
            self._rows[key] = (key, (name or "").rstrip(" "), price)
        idocs = "".join(self._idoc(*row, extra) for row in rows.values())
        self._deliver(f'<?xml version="1.0" encoding="utf-8"?><ZITEMS01>{idocs}</ZITEMS01>'.encode())

    def rows(self) -> Rows:
        """See SourceSystem."""
        return dict(self._rows)

    def _idoc(self, key: int, name: str | None, price: Any, extra: str) -> str:
        told = {"id": str(key), "name": name, "price": None if price is None else f"{price:.4f}"}
        fields = "".join(f"<{at}>{escape(text)}</{at}>" for at, text in told.items() if text is not None)
        control = f"<MANDT>100</MANDT><DOCNUM>{next(self._numbers):016d}</DOCNUM><SNDPRN>ERP</SNDPRN>"
        return (
            f'<IDOC BEGIN="1"><EDI_DC40 SEGMENT="1">{control}</EDI_DC40>'
            f'<items SEGMENT="1">{fields}</items>{extra}</IDOC>'
        )

    def _deliver(self, body: bytes) -> None:
        """Post until it is taken, as SAP does."""
        # nobody listens, or it is killed before it answers: what it kept it knows again
        with suppress(OSError, HTTPException):
            if post(self._port, body)[0] == 200:
                return
        settings = {"listen": "127.0.0.1:0", "segments": {"items": {"columns": {"id": {}}}}}
        config = SapIdocConfig.model_validate(settings)
        with (
            closing(Spool(self._directory / "spool", bytes_max=1 << 30, kept=1_000_000)) as spool,
            closing(Listener(config, spool)) as listener,
        ):
            assert post(listener.port, body)[0] == 200


class TestIdocs(RowsContract):
    """IDocs in XML, the newest of each object kept."""

    @pytest.fixture
    def system(self, tmp_path: Path) -> SourceSystem:
        return IdocSystem(tmp_path)


def test_killed_and_rescaled(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed twice and started again as two processes, the target holds the newest IDoc of each object."""
    monkeypatch.setenv("TARGET_DSN", postgres)
    system, random = IdocSystem(tmp_path), Random(8)
    system.write(some_rows(random, 0, 1200))

    def more() -> None:
        system.write(some_rows(random, 1000, 300))

    check_killed_and_rescaled(system, tmp_path, postgres, more, comparable=False)
    assert len(system.rows()) == 1300


def test_a_type_gains_a_segment(tmp_path: Path) -> None:
    """A segment that nobody named changes nothing; from the start on that names it, its rows come."""
    system = IdocSystem(tmp_path)
    followed = Followed(system.pipeline(), tmp_path / "state")
    system.write(some_rows(Random(9), 0, 20))
    system.write(some_rows(Random(10), 10, 20), extra='<more SEGMENT="1"><note>early</note></more>')
    followed.until(lambda: followed.rows() == system.rows())
    followed.epoch()
    followed.close()
    again = Followed(system.pipeline(more=MORE), tmp_path / "state")
    system.write({5: (5, "again", None)}, extra='<more SEGMENT="1"><note>late</note></more>')
    again.until(lambda: 5 in again.rows() and "more" in again.tables)
    again.close()
    assert (followed.letters, again.letters) == ([], [])
    assert again.rows()[5] == system.rows()[5]
    assert "late" in {row[4] for row in again.tables["more"].values()}

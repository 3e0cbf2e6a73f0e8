"""IDocs of orders as SAP writes them, in XML and flat, and a pipeline that receives them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from libcore.idoc import CONTROL_FIELDS

Item = tuple[str, str, str]
"""POSEX, MATNR, NTGEW."""
PIPELINE = """
name = "idocs"
tables = ["EDI_DC40", "E1EDK01", "E1EDP01"]
[source.sap_idoc.segments.E1EDK01]
definition = "E2EDK01005"
[source.sap_idoc.segments.E1EDK01.columns]
CURCY = { offset = 4, length = 3 }
BELNR = { offset = 84, length = 35 }
[source.sap_idoc.segments.E1EDP01]
definition = "E2EDP01006"
[source.sap_idoc.segments.E1EDP01.columns]
POSEX = { offset = 0, length = 6 }
MATNR = { offset = 6, length = 18 }
NTGEW = { type = "decimal(15,3)", offset = 24, length = 18 }
DATUM = { type = "date", offset = 42, length = 8 }
"""


def pipeline(directory: Path, port: int, sink: str = "[sink.null]\n", more: str = "", **settings: Any) -> Path:
    """The pipeline's file. more: further sections; settings: of the source."""
    told = {"listen": f"127.0.0.1:{port}"} | settings
    source = "[source.sap_idoc]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items())
    file = directory / "idocs.toml"
    head, _, rest = PIPELINE.partition("[source.sap_idoc.segments.E1EDK01]")
    file.write_text(f"{head}{source}{more}[source.sap_idoc.segments.E1EDK01]{rest}{sink}", "utf-8")
    return file


def xml(number: int, order: str, items: Sequence[Item] = (), *, serial: str = "", sender: str = "ERP") -> bytes:
    """One IDoc in XML, without the element around all of them."""
    rows = "".join(
        f'<E1EDP01 SEGMENT="1"><POSEX>{posex}</POSEX><MATNR>{matnr}</MATNR><NTGEW>{weight}</NTGEW>'
        "<DATUM>20240229</DATUM></E1EDP01>"
        for posex, matnr, weight in items
    )
    return (
        f'<IDOC BEGIN="1"><EDI_DC40 SEGMENT="1"><TABNAM>EDI_DC40</TABNAM><MANDT>100</MANDT><DOCNUM>{number:016d}'
        f"</DOCNUM><MESTYP>ORDERS</MESTYP><SNDPRN>{sender}</SNDPRN><SERIAL>{serial}</SERIAL></EDI_DC40>"
        f'<E1EDK01 SEGMENT="1"><CURCY>EUR</CURCY><BELNR>{order}</BELNR></E1EDK01>{rows}</IDOC>'
    ).encode()


def document(*idocs: bytes) -> bytes:
    """A post in XML."""
    return b'<?xml version="1.0" encoding="utf-8"?><ORDERS05>' + b"".join(idocs) + b"</ORDERS05>"


def flat(number: int, order: str, items: Sequence[Item] = ()) -> bytes:
    """One IDoc as lines of a flat file."""
    line = "EDI_DC40".ljust(524)
    for name, value in (("MANDT", "100"), ("DOCNUM", f"{number:016d}"), ("MESTYP", "ORDERS"), ("SNDPRN", "ERP")):
        offset, length = CONTROL_FIELDS[name]
        line = line[:offset] + value.ljust(length) + line[offset + length :]

    def segment(definition: str, place: int, data: str) -> str:
        return f"{definition:30}100{number:016d}{place:06d}00000001{data}"

    lines = [line, segment("E2EDK01005", 1, "    EUR".ljust(84) + order)]
    for place, (posex, matnr, weight) in enumerate(items, 2):
        lines.append(segment("E2EDP01006", place, f"{posex:6}{matnr:18}{weight:>18}20240229"))
    return "".join(one + "\r\n" for one in lines).encode()


def post(port: int, body: bytes, path: str = "/idoc", **headers: str) -> tuple[int, str]:
    """Status and text of the answer."""
    from urllib.error import HTTPError

    request = Request(f"http://127.0.0.1:{port}{path}", body, headers, method="POST")
    try:
        with urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()

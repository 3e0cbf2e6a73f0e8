"""The IDocs of one post, told apart without reading their segments: where each stands, and what it calls itself.

A post is XML (any number of IDOC elements) or a flat file (any number of EDI_DC40 lines). What is neither, or is
broken, is one document without a name: it is kept as it is, and becomes a dead letter. XML of another encoding that its
first line declares, or of UTF-16, is kept as UTF-8.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from hashlib import sha256
from xml.parsers import expat

from libcore.idoc import CONTROL, CONTROL_FIELDS

_NAMES = ("MANDT", "DOCNUM", "MESTYP", "SNDPRN", "SERIAL")
_FLAT = CONTROL.encode()
_UTF8, _UTF16 = codecs.BOM_UTF8, (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DECLARATION = re.compile(r"""\s*<\?xml\s[^>]*?encoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]{0,39})["'][^>]*>""")


@dataclass(frozen=True)
class Document:
    """One IDoc.

    Args:
        form: "xml" or "flat".
        body: its bytes, a document of its own.
        fields: MANDT, DOCNUM, MESTYP, SNDPRN, SERIAL of the control record; {} where it could not be told.
    """

    form: str
    body: bytes
    fields: dict[str, str]

    @property
    def identity(self) -> str:
        """What it is known again by: its number at its sender; without one, its bytes."""
        if self.fields.get("DOCNUM"):
            return "/".join(self.fields.get(name, "") for name in ("SNDPRN", "MANDT", "DOCNUM"))
        return sha256(self.body).hexdigest()

    @property
    def order(self) -> str:
        """What orders the IDocs of an object: SERIAL (a time stamp) where it is filled, then the number."""
        return f"{self.fields.get('SERIAL', ''):>20}/{self.fields.get('DOCNUM', ''):0>16}"


def documents(body: bytes) -> list[Document]:
    """The IDocs of a post, in order; never empty."""
    if body.startswith(_UTF16) or body.lstrip(_UTF8 + b" \t\r\n").startswith(b"<"):
        try:
            return _of_xml(_as_utf8(body))
        except (LookupError, ValueError):  # an encoding that nobody knows, or bytes that are none of it
            return [Document("xml", body, {})]
    return _of_flat(body.removeprefix(_UTF8))


def _as_utf8(body: bytes) -> bytes:
    """XML in the encoding that it declares, as UTF-8 without a declaration. Raises LookupError, ValueError."""
    if body.startswith(_UTF16):
        text, declared = body.decode("utf-16"), _DECLARATION.match(body[:400].decode("utf-16", "replace"))
    else:
        declared = _DECLARATION.match(body[:200].decode("ascii", "replace"))  # none behind UTF-8's mark, which wins
        name = "utf-8" if declared is None else codecs.lookup(declared[1]).name
        if name in ("utf-8", "ascii"):
            return body
        text = body.decode(name)
    return (text if declared is None else text[declared.end() :]).encode()


class _Scan:
    """Where IDOC elements stand, and the fields of their control records."""

    def __init__(self, body: bytes) -> None:
        self.found: list[tuple[int, int, dict[str, str]]] = []
        self._begin, self._text = 0, ""
        self._fields: dict[str, str] = {}
        self._path: list[str] = []
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        parser.Parse(body, True)

    def _doctype(self, *_: object) -> None:
        raise ValueError("a DOCTYPE")  # its entities could grow without bound

    def _start(self, name: str, _: object) -> None:
        if name == "IDOC" and "IDOC" not in self._path:
            self._begin, self._fields = self._parser.CurrentByteIndex, {}
        self._path.append(name)
        self._text = ""

    def _characters(self, text: str) -> None:
        self._text += text

    def _end(self, name: str) -> None:
        self._path.pop()
        if name in _NAMES and self._path[-1:] == [CONTROL]:
            self._fields[name] = self._text.strip()
        if name == "IDOC" and "IDOC" not in self._path:
            self.found.append((self._begin, self._parser.CurrentByteIndex, self._fields))


def _of_xml(body: bytes) -> list[Document]:
    try:
        found = _Scan(body).found
    except (expat.ExpatError, ValueError):
        return [Document("xml", body, {})]
    if len(found) < 2:
        return [Document("xml", body, found[0][2] if found else {})]
    close = b"</IDOC>"
    parts = [(body[begin : body.index(b">", end) + 1], fields) for begin, end, fields in found]
    if not all(part.rstrip().endswith(b">") and part.replace(b" ", b"").endswith(close) for part, _ in parts):
        return [Document("xml", body, {})]
    return [Document("xml", b"<IDOCS>" + part + b"</IDOCS>", fields) for part, fields in parts]


def _of_flat(body: bytes) -> list[Document]:
    starts = [match.start() for match in re.finditer(rb"(?:\A|(?<=[\r\n]))" + _FLAT, body)]
    if not starts or body[: starts[0]].strip(b"\r\n"):
        return [Document("flat", body, {})]
    ends = [*starts[1:], len(body)]
    return [
        Document("flat", body[begin:end], _control(body[begin:end])) for begin, end in zip(starts, ends, strict=True)
    ]


def _control(body: bytes) -> dict[str, str]:
    line = re.split(rb"[\r\n]", body, maxsplit=1)[0].decode("utf-8", "replace")
    found = {}
    for name in _NAMES:
        offset, length = CONTROL_FIELDS[name]
        found[name] = line[offset : offset + length].strip()
    return found

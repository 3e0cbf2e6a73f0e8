"""IDocs: every segment of a file becomes a row of its type, with its place in the tree."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore.delimited import LineCode, TextColumn, Trim
from libcore.errors import ConfigurationError
from libcore.idoc import CONTROL_FIELDS, IdocPlan, IdocSegment, control_columns, read_idoc_flat, read_idoc_xml
from libcore.schema import Column, parse_type
from tests.libcore.delimited_files import answer, by_reference
from tests.libcore.strategies import EXAMPLES, LEVELS, SEEDS, mutated

FACES = [read_idoc_flat, lambda *a, **k: by_reference(read_idoc_flat, *a, **k)]


def column(name: str, kind: str, offset: int, length: int, **options: Any) -> TextColumn:
    return TextColumn(Column(name, parse_type(kind)), offset=offset, length=length, trim=Trim.RIGHT, **options)


PLAN = IdocPlan(
    (
        IdocSegment("E1EDK01", "E2EDK01005", (column("CURCY", "string", 4, 3), column("BELNR", "string", 84, 35))),
        IdocSegment("E1EDP01", "E2EDP01006", (column("POSEX", "int32", 0, 6), column("NTGEW", "decimal(15,3)", 6, 18))),
    ),
    control_columns("DOCNUM", "MESTYP", "CREDAT"),
)


def control(**values: str) -> str:
    line = ["EDI_DC40".ljust(524)]
    for name, value in values.items():
        offset, length = CONTROL_FIELDS[name]
        line[0] = line[0][:offset] + value.ljust(length) + line[0][offset + length :]
    return line[0]


def segment(definition: str, number: int, parent: int, level: int, data: str) -> str:
    return f"{definition:30}100{'0000000000000042'}{number:06d}{parent:06d}{level:02d}{data}"


def any_line(r: Random) -> str:
    """A control record or a segment, known or not, with good and bad fields, padded or cut short at its blanks."""
    if r.random() < 0.2:
        return control(DOCNUM=str(r.randrange(9)), MESTYP=r.choice(("ORDERS", "")), CREDAT=r.choice(("20240229", "x")))
    definition = r.choice(("E2EDK01005", "E2EDP01006", "E2EDP01006", "E2EDP01", "E2EDK02"))
    amount = r.choice(("1998.000-", "1.5", "***", "", "1,5", "9" * 18)).rjust(18)
    names = ("Größe 7", "", "a \U0001f600 b", "x" * 34 + "\U0001f600")
    heads = ("    EUR", "    EU\U0001f600", "  \U0001f600EUR")
    data = r.choice((f"{r.choice(('000010', '', '1x')):6}{amount}", r.choice(heads).ljust(84) + r.choice(names)))
    line = segment(definition, r.randrange(3), r.randrange(3), r.randrange(3), data)
    return line.ljust(1063) if r.random() < 0.2 else line.rstrip()


@settings(max_examples=EXAMPLES)
@given(SEEDS, st.booleans(), st.sampled_from([1, 3, 1 << 20]))
def test_a_flat_file_is_read_as_the_reference_reads_it(seed: int, final: bool, rows_max: int) -> None:
    """Any control records and segments, wounded or not: rows, errors and state of the reference, at every level."""
    r = Random(seed)
    data = "".join(any_line(r) + r.choice(("\n", "\n", "\r\n")) for _ in range(r.randrange(7))).encode()
    if r.random() < 0.4:
        data = mutated(r, data)
    expected = answer(FACES[1](PLAN, data, final=final, rows_max=rows_max))
    for level in LEVELS:
        assert answer(read_idoc_flat(PLAN, data, final=final, rows_max=rows_max, level=level)) == expected


@pytest.mark.parametrize("read", FACES, ids=["face", "reference"])
@pytest.mark.parametrize("padded", [True, False])
def test_a_flat_idoc(read: Any, padded: bool) -> None:
    """Control record and segments give rows with DOCNUM, SEGNUM, PSGNUM, HLEVEL, also where blanks were cut off."""
    lines = [
        control(DOCNUM="0000000000000042", MESTYP="ORDERS", CREDAT="20240229"),
        segment("E2EDK01005", 1, 0, 1, "    EUR".ljust(84) + "Größe 7"),
        segment("E2EDP01006", 2, 1, 2, "000010" + "1998.000-".rjust(18)),
        segment("E2EDP01006", 3, 1, 2, "000020"),
    ]
    lines = [line.ljust(1063) if padded and number else line.rstrip() for number, line in enumerate(lines)]
    done = read(PLAN, "\r\n".join([*lines, ""]).encode(), final=True)
    head = {"DOCNUM": "0000000000000042"}
    assert not done.errors
    assert done.kinds["EDI_DC40"].record.to_pylist() == [head | {"MESTYP": "ORDERS", "CREDAT": "20240229"}]
    first = {"SEGNUM": 1, "PSGNUM": 0, "HLEVEL": 1, "CURCY": "EUR", "BELNR": "Größe 7"}
    assert done.kinds["E1EDK01"].record.to_pylist() == [head | first]
    assert done.kinds["E1EDP01"].record.to_pylist() == [
        head | {"SEGNUM": 2, "PSGNUM": 1, "HLEVEL": 2, "POSEX": 10, "NTGEW": Decimal("-1998.000")},
        head | {"SEGNUM": 3, "PSGNUM": 1, "HLEVEL": 2, "POSEX": 20, "NTGEW": None},
    ]
    assert done.kinds["E1EDP01"].lines.to_pylist() == [3, 4]


@pytest.mark.parametrize("read", FACES, ids=["face", "reference"])
def test_a_character_of_four_bytes_counts_two(read: Any) -> None:
    """As in ABAP: fields behind an emoji stand where it wrote them; a character that two fields share is an error."""
    lines = [
        segment("E2EDK01005", 1, 0, 1, "  \U0001f600EUR".ljust(83) + "Gr\U0001f600\u00dfe 7".ljust(34) + "behind"),
        segment("E2EDK01005", 2, 0, 1, "    EU\U0001f600"),
        segment("E2EDK01005", 3, 0, 1, "    EUR".ljust(84) + "x" * 34 + "\U0001f600"),
    ]
    done = read(PLAN, "\n".join(lines).encode(), final=True)
    assert [(row["CURCY"], row["BELNR"]) for row in done.kinds["E1EDK01"].record.to_pylist()] == [
        ("EUR", "Gr\U0001f600\u00dfe 7")
    ]
    assert [(e.line, e.code, e.column, e.byte_position) for e in done.errors] == [
        (2, LineCode.UTF8, "CURCY", 69), (3, LineCode.UTF8, "BELNR", 181)]  # fmt: skip


@pytest.mark.parametrize("read", FACES, ids=["face", "reference"])
def test_segments_that_do_not_fit(read: Any) -> None:
    """A segment that nobody named and a bad amount are errors of their lines; the others are rows."""
    lines = [
        segment("E2EDK02", 1, 0, 1, ""),
        segment("E2EDP01006", 2, 0, 1, "000010" + "***".rjust(18)),
        segment("E2EDP01006", 3, 0, 1, "000030"),
    ]
    done = read(PLAN, "\n".join(lines).encode(), final=True)
    assert done.kinds["E1EDP01"].record.column("SEGNUM").to_pylist() == [3]
    assert [(e.line, e.code, e.column) for e in done.errors] == [(1, LineCode.KIND, ""), (2, LineCode.TYPE, "NTGEW")]


def test_the_control_record_has_524_characters() -> None:
    """The fields of EDI_DC40 lie one behind the other and end at 524; a column behind SDATA is refused."""
    assert CONTROL_FIELDS["SERIAL"] == (504, 20)
    with pytest.raises(ConfigurationError, match="behind SDATA"):
        read_idoc_flat(IdocPlan((IdocSegment("S", "S", (column("a", "string", 990, 11),)),)), b"")


XML = """<?xml version="1.0" encoding="UTF-8"?>
<ORDERS05><IDOC BEGIN="1"><EDI_DC40 SEGMENT="1"><DOCNUM>42</DOCNUM><MESTYP>ORDERS</MESTYP></EDI_DC40>
 <E1EDK01 SEGMENT="1"><CURCY>EUR</CURCY><BELNR>a &lt;&#252;&gt; <![CDATA[&b]]></BELNR>
  <E1EDP01 SEGMENT="1"><POSEX>000010</POSEX><NTGEW> 1998.000-</NTGEW></E1EDP01></E1EDK01>
 <E1EDP01 SEGMENT="1"><POSEX>x</POSEX></E1EDP01><E1EDZZ SEGMENT="1"/><E1EDP01 SEGMENT="1"/>
</IDOC></ORDERS05>"""


def documents(*texts: str | bytes) -> pa.BinaryArray:
    return pa.array([text.encode() if isinstance(text, str) else text for text in texts], pa.binary())


def test_an_xml_idoc() -> None:
    """Segments of XML give the rows of the flat file, their numbers counted from the tree; bad ones are errors."""
    done = read_idoc_xml(PLAN, documents(XML))
    head = {"DOCNUM": "42"}
    assert done.kinds["EDI_DC40"].record.to_pylist() == [head | {"MESTYP": "ORDERS", "CREDAT": ""}]
    first = {"SEGNUM": 1, "PSGNUM": 0, "HLEVEL": 1, "CURCY": "EUR", "BELNR": "a <ü> &b"}
    assert done.kinds["E1EDK01"].record.to_pylist() == [head | first]
    assert done.kinds["E1EDP01"].record.to_pylist() == [
        head | {"SEGNUM": 2, "PSGNUM": 1, "HLEVEL": 2, "POSEX": 10, "NTGEW": Decimal("-1998.000")},
        head | {"SEGNUM": 5, "PSGNUM": 0, "HLEVEL": 1, "POSEX": None, "NTGEW": None},
    ]
    assert [(e.code, e.column, XML.encode()[e.byte_position :][:7]) for e in done.errors] == [
        (LineCode.TYPE, "POSEX", b"<POSEX>"), (LineCode.KIND, "", b"<E1EDZZ"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"<a><b></a>", LineCode.SYNTAX),
        (b"", LineCode.SYNTAX),
        (b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', LineCode.SYNTAX),
        (b"<a>\xff</a>", LineCode.UTF8),
        (b"<a>" * 65 + b"</a>" * 65, LineCode.DEPTH),
        (b'<I><E1EDK01 SEGMENT="1"><E1EDP01 SEGMENT="1"/><CURCY>X</CURCY></E1EDK01></I>', LineCode.SYNTAX),
        (b'<I><E1EDK01 SEGMENT="1"><CURCY>X</CURCY><CURCY>Y</CURCY></E1EDK01></I>', LineCode.SYNTAX),
    ],
)
def test_a_broken_document_gives_no_rows(text: bytes, code: LineCode) -> None:
    """A document that is no IDoc is one error, and the documents beside it are rows."""
    done = read_idoc_xml(PLAN, documents(XML, text, XML))
    assert done.kinds["E1EDK01"].lines.to_pylist() == [0, 2]
    assert [e.code for e in done.errors if e.line == 1] == [code]
    assert read_idoc_xml(PLAN, documents()).errors == []

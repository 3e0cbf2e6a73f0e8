"""Every encoding: which JSON values it takes, what they become, and the code of those it refuses."""

from __future__ import annotations

import base64
import decimal
import hashlib
import math
import struct
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libcore import decode as face
from libcore.change import UNSET
from libcore.decode_types import Encoding, EnvelopePlan, ErrorCode, WireColumn
from libcore.errors import HeadraceError
from libcore.reference import clock
from libcore.reference import decode as reference
from libcore.reference.values import plain
from libcore.schema import Column, ColumnType, Table
from tests.libcore.strategies import EXAMPLES, message_batch
from tests.libcore.wire_values import wire_column

FACES = pytest.mark.parametrize(
    "decode", [face.decode_envelopes, reference.decode_envelopes], ids=["face", "reference"]
)
E, C = Encoding, ErrorCode
ID = wire_column("id", "int64", E.INT)
UNSENT = "unsent"
PLUS, MINUS = 2**63 - 1, -(2**63)
DAYS_MAX = 2**31 - 1
WIDE = decimal.Context(prec=2000)
NAN, INFINITE = float("nan"), float("inf")
PLACEHOLDER = "__debezium_unavailable_value"
NAMED = str(uuid.UUID(bytes=hashlib.md5(PLACEHOLDER.encode()).digest(), version=3))
OTHER = str(uuid.uuid3(uuid.NAMESPACE_DNS, "other"))
FLOATS = "[" + ",".join(f"{byte}.0" for byte in PLACEHOLDER.encode()) + "]"
HUNDREDTHS = "[" + ",".join(f"{byte / 100}" for byte in PLACEHOLDER.encode()) + "]"
BASE64 = [base64.b64encode(bytes([byte])).decode() for byte in PLACEHOLDER.encode()]
SCALED = "[" + ",".join(f'"{one}"' for one in BASE64) + "]"
STRUCTS = "[" + ",".join(f'{{"scale":0,"value":"{one}"}}' for one in BASE64) + "]"
LISTED = "[" + ",".join(str(byte) for byte in PLACEHOLDER.encode()) + "]"


def array_of(type_text: str, encoding: Encoding, **options: Any) -> WireColumn:
    """A column of arrays."""
    item = wire_column("v", type_text, encoding, **options)
    return WireColumn(Column("v", ColumnType("array", item=item.column.type)), E.ARRAY, item=item)


def decoded_value(decode: Any, wire: WireColumn, text: str) -> Any:
    """What the JSON text becomes in that column: a plain value, UNSENT, or (code, byte inside the text)."""
    plan = EnvelopePlan(Table("t", (ID.column, wire.column), ("id",)), (ID, wire))
    head = '{"op":"c","after":{"id":1,"v":'
    decoded = decode(plan, message_batch([(None, f"{head}{text}}}}}".encode())]))
    if decoded.errors:
        assert decoded.record.num_rows == 0
        return decoded.errors[0].code, decoded.errors[0].byte_position - len(head)
    if UNSET in decoded.record.schema.names:
        assert decoded.record.column(UNSET).to_pylist() == [b"\x02"]
        assert plain(decoded.record.column(1)) == [None]
        return UNSENT
    return plain(decoded.record.column(1))[0]


_PLAIN = [
    (E.INT, "int16", {"-32768": -32768, "32768": C.RANGE, "-0": 0, "1.0": C.TYPE, "1e1": C.TYPE, '"1"': C.TYPE}),
    (E.INT, "int32", {"2147483647": 2**31 - 1, "-2147483649": C.RANGE}),
    (
        E.INT,
        "int64",
        {"-9223372036854775808": MINUS, "9223372036854775808": C.RANGE, "9" * 400: C.RANGE, "true": C.TYPE},
    ),
    (E.INT, "interval_us", {"37091106780000": 37091106780000}),
    (E.BOOL, "bool", {"true": True, "false": False, "1": C.TYPE, '"true"': C.TYPE, "null": None}),
    (
        E.FLOAT,
        "float64",
        {"0.1": 0.1, "-0": -0.0, "5e-324": 5e-324, "1e309": C.RANGE, '"NaN"': NAN, '"-Infinity"': -INFINITE},
    ),
    (E.FLOAT, "float64", {'"1"': C.TYPE, '"nan"': C.TYPE, "9007199254740993": 9007199254740992.0, "[]": C.TYPE}),
    (E.FLOAT, "float32", {"0.1": 0.10000000149011612, "1e39": INFINITE, "1e-46": 0.0, '"Infinity"': INFINITE}),
    (E.FLOAT, "float32", {"7.038531E-26": 7.038530691851209e-26}),  # its nearest double is midway between two floats
    (E.STRING, "string", {'""': b"", '"a\\u0000\\/\\ud83d\\ude00"': "a\0/😀".encode(), "1": C.TYPE, "{}": C.TYPE}),
    (E.STRING, "string", {f'"{PLACEHOLDER}"': UNSENT, f'"{{\\"{PLACEHOLDER}\\":\\"{PLACEHOLDER}\\"}}"': UNSENT}),
    (E.STRING, "uuid", {'"8f14e45f-ceea-467f-a1d3-3f1d3a2b6c01"': b"8f14e45f-ceea-467f-a1d3-3f1d3a2b6c01"}),
    (E.BASE64, "bytes", {'"AP8Q"': b"\x00\xff\x10", '""': b"", '"AA=="': b"\0", '"AB=="': C.BASE64, '"AA"': C.BASE64}),
    (E.BASE64, "bytes", {'"A-_A"': C.BASE64, '"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="': UNSENT, "1": C.TYPE}),
    (
        E.DECIMAL_TEXT,
        "decimal(5,2)",
        {'"1.5"': 150, "-1.50": -150, '"1e2"': 10000, '"1.505"': C.SCALE, '"1.5000"': 150},
    ),
    (
        E.DECIMAL_TEXT,
        "decimal(5,2)",
        {'"1000"': C.RANGE, '"NaN"': C.RANGE, '"NAN"': C.RANGE, '"x"': C.TYPE, '""': C.TYPE},
    ),
    (E.DECIMAL_TEXT, "decimal(5,2)", {f'"{PLACEHOLDER}"': UNSENT, "true": C.TYPE, '"-0.00"': 0, "999.99": 99999}),
    (
        E.DECIMAL_TEXT,
        "decimal(76,0)",
        {"9" * 76: 10**76 - 1, '"-' + "9" * 76 + '"': 1 - 10**76, "1" + "0" * 76: C.RANGE},
    ),
    (E.NUMERIC_TEXT, "numeric", {'"1.50"': b"1.50", "0012" + "3": C.SYNTAX, '"00123"': b"123", '"-0"': b"0"}),
    (
        E.NUMERIC_TEXT,
        "numeric",
        {'"-0.00"': b"0.00", '"1E+3"': b"1000", '"1.5e-3"': b"0.0015", '".5"': b"0.5", "1e2": b"100"},
    ),
    (E.NUMERIC_TEXT, "numeric", {'"NaN"': b"NaN", '"NAN"': b"NaN", '"-Infinity"': b"-Infinity", '"1e20000"': C.RANGE}),
    (
        E.NUMERIC_TEXT,
        "numeric",
        {'"POSITIVE_INFINITY"': b"Infinity", '"NEGATIVE_INFINITY"': b"-Infinity", '"x"': C.TYPE},
    ),
    (
        E.NUMERIC_STRUCT,
        "numeric",
        {'{"scale":-3,"value":"/w=="}': b"-1000", '{"value":"AQ==","scale":10}': b"0.0000000001"},
    ),
    (
        E.NUMERIC_STRUCT,
        "numeric",
        {'{"scale":2,"value":"AA=="}': b"0.00", '{"scale":2,"value":"A"}': C.BASE64, "1": C.TYPE},
    ),
    (E.NUMERIC_STRUCT, "numeric", {'{"scale":20000,"value":"AQ=="}': C.RANGE, '{"scale":2}': C.TYPE, "{}": C.TYPE}),
    (E.DECIMAL_STRUCT, "decimal(5,2)", {'{"scale":1,"value":"Dw=="}': 150, '{"scale":3,"value":"Dw=="}': C.SCALE}),
    (E.DATE_DAYS, "date", {"-703383": -703383, "2147483648": C.RANGE, '"2024-01-01"': C.TYPE}),
    (E.DATE_DAYS, "date", {"-2147472692": DAYS_MAX, "2146033979": DAYS_MAX, "-2147472691": -DAYS_MAX - 1}),
    (E.TIME_MS, "time", {"86400000": 86_400_000_000, "86400001": C.RANGE, "-1": C.RANGE, "54796945": 54_796_945_000}),
    (E.TIME_US, "time", {"86400000000": 86_400_000_000, "86400000001": C.RANGE}),
    (E.TIME_NS, "time_ns", {"86400000000000": 86_400_000_000_000, "86400000000001": C.RANGE}),
    (E.TIMESTAMP_MS, "timestamp", {"-1": -1000, "9223372036854775": 9223372036854775000, "9223372036854776": C.RANGE}),
    (E.TIMESTAMP_MS, "timestamp", {"9223372036825200000": PLUS, "-9223372036832400000": MINUS}),
    (E.TIMESTAMP_MS, "timestamp", {"9223372036825200": PLUS, "-9223372036832400": MINUS}),
    (E.TIMESTAMP_MS, "timestamp", {"9223372036825201": 9223372036825201000}),
    (
        E.TIMESTAMP_US,
        "timestamptz",
        {"9223372036825200000": PLUS, "-9223372036832400000": MINUS, "1": 1, '"1"': C.TYPE},
    ),
    (E.TIMESTAMP_NS, "timestamp", {"1529507596945104000": 1529507596945104, "1": C.SCALE, "-1000": -1}),
    (E.TIMESTAMP_NS, "timestamp", {"9223372036854775807": PLUS, "-9223372036854775808": MINUS}),
    (E.TIMESTAMP_NS, "timestamp_ns", {"1529507596945104700": 1529507596945104700}),
    (E.ZONED_TIMESTAMP, "timestamptz", {'"1970-01-01T00:00:00Z"': 0, '"1970-01-01T01:00:00.5+01:00"': 500_000}),
    (
        E.ZONED_TIMESTAMP,
        "timestamptz",
        {'"infinity"': PLUS, '"-infinity"': MINUS, '"1969-12-31T19:00:00-05:30"': 1_800_000_000},
    ),
    (E.ZONED_TIMESTAMP, "timestamptz", {'"1970-01-01T00:00:00"': C.TYPE, '"1970-01-01T00:00:00.0000001Z"': C.SCALE}),
    (
        E.ZONED_TIMESTAMP,
        "timestamptz",
        {'"1970-13-01T00:00:00Z"': C.RANGE, '"+999999-01-01T00:00:00Z"': C.RANGE, "0": C.TYPE},
    ),
    (
        E.ISO_DATE,
        "date",
        {'"2024-02-29Z"': 19782, '"2024-02-29"': 19782, '"2023-02-29"': C.RANGE, '"0000-12-31"': -719163},
    ),
    (
        E.ISO_DATE,
        "date",
        {'"-0043-03-15"': -735160, '"+12345-01-01"': 3789391, '"2024-2-29"': C.TYPE, '"infinity"': C.TYPE},
    ),
    (E.ISO_DATE, "date", {'"-5877611-06-21Z"': DAYS_MAX, '"-5877611-06-22Z"': -DAYS_MAX - 1}),
    (E.ISO_DATE, "date", {'"+5877611-06-21Z"': DAYS_MAX, '"+5874897-12-31Z"': 2145042905, '"9999999-01-01"': C.RANGE}),
    (E.ISO_TIME, "time", {'"24:00:00"': 86_400_000_000, '"24:00:01"': C.RANGE, '"13:14:15.5Z"': 47_655_500_000}),
    (E.ISO_TIMESTAMP, "timestamp", {'"2018-06-20T15:13:16.945104Z"': 1529507596945104, '"infinity"': PLUS}),
    (E.ISO_TIMESTAMP, "timestamp", {'"+294247-01-10T04:00:25.2Z"': PLUS, '"-290308-12-21T19:59:27.6Z"': MINUS}),
    (E.ISO_TIMESTAMP, "timestamp", {'"+999999999-01-01T00:00:00Z"': C.RANGE, '"+1000000000-01-01T00:00:00"': C.TYPE}),
    (
        E.ISO_TIMESTAMP,
        "timestamp",
        {'"+292278994-08-16T23:00:00Z"': PLUS, '"-292275055-05-16T23:00:00Z"': MINUS},
    ),
    (
        E.HEX,
        "bytes",
        {'"00fF10"': b"\x00\xff\x10", '""': b"", '"0"': C.TYPE, '"0g"': C.TYPE, '"\\u0030a"': b"\n", "0": C.TYPE},
    ),
    (E.NAMED_TIMESTAMP, "timestamptz", {'"1970-01-01T00:00:00.000001Z Europe/Warsaw"': 1, '"1970-01-01T00:00:00Z"': 0}),
    (
        E.NAMED_TIMESTAMP,
        "timestamptz",
        {'"1970-01-01T01:00:00+01:00 x y"': 0, '"1970-01-01 00:00:00Z x"': C.TYPE, '"infinity x"': PLUS, "0": C.TYPE},
    ),
    (E.RAW_JSON, "json", {'{"a" : [1, "\\u00e4"]}': b'{"a" : [1, "\\u00e4"]}', '"s\\n"': b"s\n", "1.50": b"1.50"}),
    (E.RAW_JSON, "json", {f'{{"{PLACEHOLDER}":"{PLACEHOLDER}"}}': UNSENT, f'"{PLACEHOLDER}"': UNSENT, "null": None}),
]
CASES = [
    (wire_column("v", type_text, encoding), text, value)
    for encoding, type_text, cases in _PLAIN
    for text, value in cases.items()
]
CASES += [
    (wire_column("v", "decimal(5,2)", E.DECIMAL_BASE64, wire_scale=2), '"MDk="', 12345),
    (wire_column("v", "decimal(5,2)", E.DECIMAL_BASE64, wire_scale=4), '"MDk="', C.SCALE),
    (wire_column("v", "decimal(5,2)", E.DECIMAL_BASE64, wire_scale=0), '"MDk="', C.RANGE),
    (wire_column("v", "decimal(5,2)", E.DECIMAL_BASE64, wire_scale=2), '"MDk"', C.BASE64),
    (wire_column("v", "decimal(5,2)", E.DECIMAL_BASE64, wire_scale=2), "123.45", 12345),
    (wire_column("v", "decimal(5,2)", E.DECIMAL_BASE64, wire_scale=2), "1.234", C.SCALE),
    (wire_column("v", "decimal(5,2)", E.DECIMAL_BASE64, wire_scale=2), "true", C.TYPE),
    (wire_column("v", "bits", E.BITS, bit_length=5), '"FQ=="', b"10101"),
    (wire_column("v", "bits", E.BITS, bit_length=10), '"CQI="', b"1000001001"),
    (wire_column("v", "bits", E.BITS, bit_length=10), '"CQ=="', b"0000001001"),
    (wire_column("v", "bits", E.BITS, bit_length=3), '"CQI="', C.RANGE),
    (array_of("int32", E.INT), "[1,null, 3 ]", b"{1,NULL,3}"),
    (array_of("int32", E.INT), "[ ]", b"{}"),
    (array_of("int32", E.INT), "{}", C.TYPE),
    (array_of("int32", E.INT), LISTED, UNSENT),
    (array_of("string", E.STRING), f'["{PLACEHOLDER}"]', UNSENT),
    (array_of("uuid", E.STRING), f'["{NAMED}"]', UNSENT),
    (array_of("uuid", E.STRING), f'["{OTHER}"]', f'{{"{OTHER}"}}'.encode()),
    (array_of("uuid", E.STRING), f'["{NAMED}",null]', f'{{"{NAMED}",NULL}}'.encode()),
    (array_of("bytes", E.BASE64), '["X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="]', UNSENT),
    (array_of("float64", E.FLOAT), FLOATS, UNSENT),
    (array_of("float64", E.FLOAT), FLOATS[:-1] + ",1.0]", f"{{{FLOATS[1:-1]},1.0}}".encode()),
    (array_of("decimal(9,3)", E.DECIMAL_BASE64, wire_scale=2), SCALED, UNSENT),
    (array_of("decimal(9,0)", E.DECIMAL_BASE64, wire_scale=0), SCALED, UNSENT),
    (array_of("decimal(9,2)", E.DECIMAL_TEXT), HUNDREDTHS, UNSENT),
    (array_of("numeric", E.NUMERIC_STRUCT), STRUCTS, UNSENT),
    (array_of("string", E.STRING), f'["{PLACEHOLDER}","b"]', f'{{"{PLACEHOLDER}","b"}}'.encode()),
    (array_of("string", E.STRING), '["a","b,c",null,"q\\"x\\\\",""]', b'{"a","b,c",NULL,"q\\"x\\\\",""}'),
    (array_of("decimal(10,2)", E.DECIMAL_TEXT), '["1.1",null,-0]', b"{1.10,NULL,0.00}"),
    (array_of("decimal(10,2)", E.DECIMAL_BASE64, wire_scale=2), '["MDk="]', b"{123.45}"),
    (array_of("bool", E.BOOL), "[true,false]", b"{t,f}"),
    (array_of("bytes", E.BASE64), '["AP8Q",""]', b'{"\\\\x00ff10","\\\\x"}'),
    (array_of("float64", E.FLOAT), '[1.50,"NaN",-0]', b"{1.50,NaN,-0}"),
    (array_of("numeric", E.NUMERIC_TEXT), '["1E+3"]', b"{1000}"),
    (array_of("timestamptz", E.ZONED_TIMESTAMP), '["2026-01-01T00:00:00Z"]', b'{"2026-01-01T00:00:00Z"}'),
    (array_of("date", E.DATE_DAYS), "[0,-719529]", b"{1970-01-01,-0001-12-31}"),
    (array_of("date", E.DATE_DAYS), "[-2147472692,-2147472691]", b"{infinity,-infinity}"),
    (array_of("timestamp", E.TIMESTAMP_US), "[-1]", b"{1969-12-31T23:59:59.999999}"),
    (array_of("timestamp", E.TIMESTAMP_MS), "[9223372036825200]", b"{infinity}"),
]  # fmt: skip
PLACED = [
    (array_of("int32", E.INT), "[1, 2147483648]", (C.RANGE, 4)),
    (array_of("int32", E.INT), "[[1],2]", (C.ARRAY, 1)),
    (array_of("string", E.STRING), '["a","[Ljava.lang.String;@1a2b"]', (C.ARRAY, 5)),
    (array_of("string", E.STRING), '["[I@0"]', (C.ARRAY, 1)),
    (array_of("string", E.STRING), '["a","\\ud800"]', (C.SURROGATE, 6)),
    (wire_column("v", "string", E.STRING), '"ab\\udc00"', (C.SURROGATE, 3)),
    (wire_column("v", "string", E.STRING), '"ab\\ud83d\\ue000"', (C.SURROGATE, 3)),
]


@FACES
@pytest.mark.parametrize(("wire", "text", "expected"), CASES)
def test_values(decode: Any, wire: WireColumn, text: str, expected: Any) -> None:
    """Each value becomes what the table says, or is refused at its first byte with the code that the table says."""
    found = decoded_value(decode, wire, text)
    if expected is C.SYNTAX:
        assert found[0] is C.SYNTAX
    else:
        assert repr(found) == repr((expected, 0) if isinstance(expected, ErrorCode) else expected)


@FACES
@pytest.mark.parametrize(("wire", "text", "expected"), PLACED)
def test_faults_inside_a_value(decode: Any, wire: WireColumn, text: str, expected: tuple[ErrorCode, int]) -> None:
    """A fault of an element is at that element, a lone surrogate at its backslash."""
    assert decoded_value(decode, wire, text) == expected


@FACES
@pytest.mark.parametrize("encoding", [encoding for encoding in Encoding if encoding != E.ARRAY])
def test_null_is_null_everywhere(decode: Any, encoding: Encoding) -> None:
    """JSON null is NULL in every encoding."""
    types = {
        E.INT: "int32",
        E.BOOL: "bool",
        E.FLOAT: "float64",
        E.BASE64: "bytes",
        E.HEX: "bytes",
        E.DATE_DAYS: "date",
        E.ISO_DATE: "date",
    }
    types |= dict.fromkeys((E.DECIMAL_TEXT, E.DECIMAL_BASE64, E.DECIMAL_STRUCT), "decimal(9,2)")
    types |= dict.fromkeys((E.TIME_MS, E.TIME_US, E.ISO_TIME), "time") | {E.TIME_NS: "time_ns"}
    clocks = (E.TIMESTAMP_MS, E.TIMESTAMP_US, E.TIMESTAMP_NS, E.ZONED_TIMESTAMP, E.ISO_TIMESTAMP, E.NAMED_TIMESTAMP)
    types |= dict.fromkeys(clocks, "timestamp")
    wire = wire_column("v", types.get(encoding, "string"), encoding, bit_length=3)
    assert decoded_value(decode, wire, "null") is None


@FACES
@pytest.mark.parametrize(("type_text", "encoding"), [("string", E.INT), ("int64", E.STRING), ("date", E.ISO_TIMESTAMP)])
def test_an_encoding_that_cannot_fill_its_type_is_refused(decode: Any, type_text: str, encoding: Encoding) -> None:
    """A plan that makes no sense never reaches the data."""
    with pytest.raises(HeadraceError, match="does not fill"):
        decoded_value(decode, wire_column("v", type_text, encoding), "1")


@settings(max_examples=EXAMPLES)
@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70), st.integers(0, 25))
@example(2.2250738585072011e-308, 17)
def test_floats_are_the_nearest(value: float | int, digits: int) -> None:
    """Shortest, long and cut texts of a number all become the double that Python reads, bit for bit."""
    wire = wire_column("v", "float64", E.FLOAT)
    for text in (repr(value), f"{value:.{digits}e}", f"{value:.{digits}f}"):
        nearest = float(text)
        expected = (C.RANGE, 0) if nearest in (INFINITE, -INFINITE) else nearest
        assert repr(decoded_value(face.decode_envelopes, wire, text)) == repr(expected)


@settings(max_examples=EXAMPLES)
@given(st.floats(min_value=0, max_value=1e308), st.sampled_from(["", "0" * 30 + "1", "0" * 800 + "1"]))
@example(9007199254740992.0, "0" * 30 + "1")
def test_floats_between_two_doubles(value: float, more: str) -> None:
    """A text exactly half way goes to the even double, and to the upper one as soon as any digit stands behind it."""
    upper = math.nextafter(value, math.inf)
    half = WIDE.divide(WIDE.add(Decimal(value), Decimal(upper)), Decimal(2))
    text = f"{half:f}"
    text += more if "." in text or not more else "." + more
    even = value if struct.pack(">d", value)[-1] % 2 == 0 else upper
    assert float(text) == (upper if more else even)
    assert decoded_value(face.decode_envelopes, wire_column("v", "float64", E.FLOAT), text) == float(text)


@settings(max_examples=EXAMPLES)
@given(st.dates(), st.times(), st.integers(-1439, 1439))
def test_dates_and_times_are_pythons(day: Any, time: Any, east_minutes: int) -> None:
    """ISO texts become the days and microseconds that Python's datetime counts, and the reference writes them back."""
    days = day.toordinal() - 719163
    micros = (time.hour * 3600 + time.minute * 60 + time.second) * 10**6 + time.microsecond
    offset = f"{'-' if east_minutes < 0 else '+'}{abs(east_minutes) // 60:02d}:{abs(east_minutes) % 60:02d}"
    zoned = f'"{day.isoformat()}T{time.isoformat()}{offset}"'
    for decode in (face.decode_envelopes, reference.decode_envelopes):
        assert decoded_value(decode, wire_column("v", "date", E.ISO_DATE), f'"{day.isoformat()}"') == days
        assert decoded_value(decode, wire_column("v", "time", E.ISO_TIME), f'"{time.isoformat()}"') == micros
        expected = days * 86_400_000_000 + micros - east_minutes * 60_000_000
        assert decoded_value(decode, wire_column("v", "timestamptz", E.ZONED_TIMESTAMP), zoned) == expected
    assert clock.timestamp_text(days * 86_400_000_000 + micros, 6) == f"{day.isoformat()}T{time.isoformat()}"


@settings(max_examples=EXAMPLES)
@given(st.integers(-364_000_000, 364_000_000))
@example(-719528)
@example(-719529)
def test_days_of_any_year_are_written_and_read(days: int) -> None:
    """Counting days back from a date's text gives the same days, also before the year 0 and after 9999."""
    text = clock.date_text(days)
    assert clock.from_text(Encoding.ISO_DATE, text.encode(), 6) == days
    assert decoded_value(face.decode_envelopes, wire_column("v", "date", E.ISO_DATE), f'"{text}"') == days

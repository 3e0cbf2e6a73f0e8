"""Columns of every encoding and JSON texts of their values, made from a random.Random: good, on the edge, or odd."""

from __future__ import annotations

import base64
import json
from random import Random

from libcore.decode_types import Encoding, WireColumn
from libcore.schema import Column, ColumnType, parse_type

_PLAIN_TYPES = {
    Encoding.INT: ["int16", "int32", "int64", "interval_us"],
    Encoding.BOOL: ["bool"],
    Encoding.FLOAT: ["float32", "float64"],
    Encoding.STRING: ["string", "json", "uuid", "xml", "interval", "timetz"],
    Encoding.BASE64: ["bytes"],
    Encoding.NUMERIC_TEXT: ["numeric"],
    Encoding.NUMERIC_STRUCT: ["numeric"],
    Encoding.DATE_DAYS: ["date"],
    Encoding.TIME_MS: ["time"],
    Encoding.TIME_US: ["time"],
    Encoding.TIME_NS: ["time_ns"],
    Encoding.TIMESTAMP_MS: ["timestamp", "timestamptz"],
    Encoding.TIMESTAMP_US: ["timestamp", "timestamptz"],
    Encoding.TIMESTAMP_NS: ["timestamp_ns", "timestamp"],
    Encoding.ZONED_TIMESTAMP: ["timestamptz"],
    Encoding.ISO_DATE: ["date"],
    Encoding.ISO_TIME: ["time"],
    Encoding.ISO_TIMESTAMP: ["timestamp"],
    Encoding.BITS: ["bits"],
    Encoding.RAW_JSON: ["json", "string"],
    Encoding.HEX: ["bytes"],
    Encoding.NAMED_TIMESTAMP: ["timestamptz"],
}
_DECIMALS = ["5,2", "18,4", "18,4", "18,0", "19,4", "38,10", "38,0", "39,1", "76,38", "76,0", "1,1"]
_NAMES = ["id", "line_no", "v", "größe", 'a"b', "back\\slash", "", "before", "Key Col", "n" * 70, *"abcdefgh"]

_ZONES = ("", " Europe/Warsaw", " +02:00", " ", " UTC")
_NUMBERS = (
    "NaN", "NAN", "nan", "Infinity", "-Infinity", "+Infinity", "POSITIVE_INFINITY", "NEGATIVE_INFINITY", "-0", "-0.00",
    "0e5", "0e-5", "1e-20001", "1e19999", "1e20000", "1e99999999999999999999", "0e99999999999999999999", "0e-20000",
    "5.", ".5", ".", "", "-", "+1", "--1", "1e", "1e+", " 1", "1 ", "0x1", "00012.50", "9" * 38, "9" * 39, "9" * 76,
    "9" * 77,
    "0." + "0" * 37 + "1", "1" + "0" * 37, "1" + "0" * 38, "12345678901234567890.123456789", "1.5e1", "150e-2", "1E+3",
)  # fmt: skip
_FLOATS = (
    "1e309", "-1e309", "1.7976931348623157e308", "1.7976931348623159e308", "5e-324", "2.4703282292062327e-324",
    "2.4703282292062328e-324", "9007199254740993", "9007199254740992.99999999999999999999999", "-0.0", "-0", "0e400",
    "3.4028235e38", "3.4028236e38", "1e-400", "123456789012345678901234567890", "1" + "0" * 320 + "e-320",
    "0." + "0" * 320 + "1e321", "2.2250738585072011e-308", "7.038531e-26", "1.00000017881393432617187499",
    "9007199254740993" + "0" * 800 + "1e-800", "9007199254740993." + "0" * 790 + "1", "1e23", "8.5e22", "0.1",
)  # fmt: skip
_TIMES = (
    "24:00:00", "24:00:00.0000000", "24:00:00.0000001", "24:00:01", "23:59:60", "00:00:00.1234567", "1:02:03", "00:00",
    "12:60:00", "12:00:00.", "12:00:00.1234560000", "12-00-00",
)  # fmt: skip
_DATES = (
    "2024-02-29", "2023-02-29", "1900-02-29", "2000-02-29", "0000-02-29", "-0004-02-29", "-0001-12-31", "+999999-12-31",
    "-999999-01-01", "294247-01-10", "294247-01-11", "-290308-12-21", "-290308-12-22", "1970-01-01", "1969-12-31",
    "99999-01-01", "2024-2-29", "2024-13-01", "2024-00-10", "2024-04-31", "1234567-01-01", "024-01-01", "--2024-01-01",
)  # fmt: skip
_OFFSETS = ("Z", "+02:00", "-05:30", "+23:59", "-23:59", "-24:00", "+00:60", "+02", "z", "", "+0200", "+02:00Z")
_BASE64 = (
    "A", "AA", "AA=", "AA==", "AB==", "AAA=", "AAB=", "AAAA=", "====", "A A=", "AA-_", "=AAA", "", "AA==AA==", "AAA\n",
)  # fmt: skip
_INTEGERS = (
    "0", "-0", "32767", "32768", "-32768", "-32769", "2147483647", "2147483648", "-2147483648", "-2147483649",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "9223372036825200000",
    "-9223372036832400000", "9223372036854776", "86400000", "86400001", "86400000000", "86400000001", "86400000000000",
    "86400000000001", "-1", "1.0", "1e3", "100000000000000000000000000000000", "18446744073709551616",
)  # fmt: skip
_ELEMENTS = (
    '"[I@1a2b"', '"[Ljava.lang.String;@1a2b"', '"[[J@0"', '"[I@"', '"[L;@1"', '"[I@xyz"', "[1]", '"q\\"\\\\"',
    '"\\ud800"', "{}", "null",
)  # fmt: skip
_ODD = (
    "null", "true", "false", "0", "-0", "1", "-1", "1.5", "1e2", '""', '"1"', '"x"', "{}", "[]", "[1]", '"\\ud800"',
    '{"scale":2,"value":"MDk="}', '"AA=="', '"ok\\udc00\\ud800"', '"\\ud800\\u0041"', '"\\ud83d\\ue000"',
    '"\\u0000"', '"\\ud83d\\ude00"',
    '"2024-02-29"', '"12:00:00"', "99999999999999999999", "-9223372036854775809", "9223372036854775807", '"a\\/b"',
)  # fmt: skip
_STRUCT_MORE = ([], [], ['"x":[1,{}]'], ['"scale":2'], ['"\\u0073cale":3'], ['"v\\ud800":0'], ['"value":7'])
_LETTERS = 'abcXYZ 019äß€😀"\\/\n\t\0\x7f{}[]:,'


def wire_column(name: str, type_text: str, encoding: Encoding, wire_scale: int = 0, bit_length: int = 0) -> WireColumn:
    """A column of that type's text, with its encoding."""
    return WireColumn(Column(name, parse_type(type_text)), encoding, wire_scale, bit_length)


def any_column(r: Random, arrays: bool = True) -> WireColumn:
    """A column of any encoding with a type that it fills."""
    encoding, name = r.choice([e for e in Encoding if arrays or e != Encoding.ARRAY]), r.choice(_NAMES)
    if encoding == Encoding.ARRAY:
        item = any_column(r, arrays=False)
        return WireColumn(Column(name, ColumnType("array", item=item.column.type)), encoding, item=item)
    if encoding in _PLAIN_TYPES:
        bits = r.choice([1, 5, 8, 10, 64]) if encoding == Encoding.BITS else 0
        return wire_column(name, r.choice(_PLAIN_TYPES[encoding]), encoding, bit_length=bits)
    scale = r.choice([0, 2, 2, 4, 30, -3]) if encoding == Encoding.DECIMAL_BASE64 else 0
    return wire_column(name, f"decimal({r.choice(_DECIMALS)})", encoding, wire_scale=scale)


def quoted(text: str, escapes: int = 0) -> bytes:
    """A JSON string with as few escapes as may be (0), in ASCII only (1), or all escaped (2); surrogates always are."""
    if escapes == 2:
        units = text.encode("utf-16-be", "surrogatepass")
        return b'"' + b"".join(b"\\u%04x" % (units[i] << 8 | units[i + 1]) for i in range(0, len(units), 2)) + b'"'
    written = json.dumps(text, ensure_ascii=escapes == 1)
    return b"".join(b"\\u%04x" % ord(c) if "\ud800" <= c <= "\udfff" else c.encode() for c in written)


def _string(r: Random, text: str) -> bytes:
    return quoted(text, r.choice((0, 0, 0, 0, 0, 0, 1, 2)))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _integer(r: Random, bits: int) -> int:
    size = r.choice((2, 8, bits - 1))
    return r.randrange(-(2**size), 2**size)


def _number(r: Random, digits: int, scale: int) -> str:
    """A number of at most so many digits, `scale` of them behind the point at most."""
    value, fraction = r.randrange(10 ** r.randint(0, digits)), r.randint(0, scale)
    text = f"{value:0{fraction + 1}d}"
    text = text[: len(text) - fraction] + ("." + text[len(text) - fraction :] if fraction else "")
    return r.choice(("", "-")) + text


def _time(r: Random) -> str:
    fraction = r.choice(
        ("", f".{r.randrange(10**6):06d}", f".{r.randrange(1000):03d}", f".{r.randrange(10**6):06d}000")
    )
    return f"{r.randrange(24):02d}:{r.randrange(60):02d}:{r.randrange(60):02d}{fraction}"


def _date(r: Random) -> str:
    year = r.choice((r.randint(1900, 2100), r.randint(0, 9999), r.randint(-200_000, 200_000)))
    sign = "-" if year < 0 else "+" if year > 9999 else ""
    return f"{sign}{abs(year):04d}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}"


def _struct(r: Random, digits: int, scale: int, edge: bool) -> bytes:
    value = _base64(_two_complement(r, digits)) if not edge else r.choice(_BASE64)
    given = (
        str(r.randint(0, scale)) if not edge else r.choice(("-5", "1.5", '"2"', "null", "2147483648", "30000", "40"))
    )
    members = [f'"scale":{given}', f'"value":{json.dumps(value)}', *(r.choice(_STRUCT_MORE) if edge else [])]
    if edge:
        r.shuffle(members)
    return ("{" + r.choice((",", ",", " , ")).join(members) + "}").encode()


def _two_complement(r: Random, digits: int) -> bytes:
    value = r.randrange(10 ** r.randint(0, digits)) * r.choice((1, -1))
    return value.to_bytes(value.bit_length() // 8 + 1 + r.choice((0, 0, 3)), "big", signed=True)


def good_text(r: Random, wire: WireColumn) -> bytes:
    """The JSON text of a value of the column, never null."""
    encoding, name = wire.encoding, wire.column.type.name
    precision, scale = (wire.column.type.precision, wire.column.type.scale) if name == "decimal" else (30, 10)
    match encoding:
        case Encoding.INT:
            return b"%d" % _integer(r, {"int16": 16, "int32": 32}.get(name, 64))
        case Encoding.BOOL:
            return r.choice((b"true", b"false"))
        case Encoding.FLOAT:
            return repr(
                r.choice((r.random(), r.uniform(-1e9, 1e9), r.uniform(-1, 1) * 10.0 ** r.randint(-320, 300)))
            ).encode()
        case Encoding.BASE64:
            return _string(r, _base64(r.randbytes(r.choice((0, 1, 2, 3, 40)))))
        case Encoding.BITS:
            bits = r.getrandbits(wire.bit_length)
            return _string(r, _base64(bits.to_bytes((wire.bit_length + 7) // 8, "little")))
        case Encoding.DECIMAL_BASE64:
            fits = max(precision - scale + min(wire.wire_scale, scale), 0)
            return _string(r, _base64(_two_complement(r, fits)))
        case Encoding.DECIMAL_TEXT | Encoding.NUMERIC_TEXT:
            text = _number(r, precision, scale)
            return _string(r, text) if r.random() < 0.7 else text.encode()
        case Encoding.NUMERIC_STRUCT | Encoding.DECIMAL_STRUCT:
            return _struct(r, precision - scale, scale, edge=False)
        case Encoding.DATE_DAYS:
            return b"%d" % _integer(r, 32)
        case Encoding.TIME_MS | Encoding.TIME_US | Encoding.TIME_NS:
            return b"%d" % (
                r.randint(0, 86_400_000) * {Encoding.TIME_MS: 1, Encoding.TIME_US: 10**3}.get(encoding, 10**6)
            )
        case Encoding.TIMESTAMP_MS | Encoding.TIMESTAMP_US:
            return b"%d" % _integer(r, 53)
        case Encoding.TIMESTAMP_NS:
            return b"%d" % (_integer(r, 53) * 1000)
        case Encoding.ZONED_TIMESTAMP:
            return _string(r, f"{_date(r)}T{_time(r)}{r.choice(_OFFSETS[:5])}")
        case Encoding.NAMED_TIMESTAMP:
            return _string(r, f"{_date(r)}T{_time(r)}{r.choice(_OFFSETS[:5])}{r.choice(_ZONES)}")
        case Encoding.HEX:
            text = r.randbytes(r.choice((0, 1, 2, 3, 40))).hex()
            return _string(r, r.choice((text, text.upper())))
        case Encoding.ISO_DATE:
            return _string(r, _date(r) + r.choice(("", "Z")))
        case Encoding.ISO_TIME:
            return _string(r, _time(r) + r.choice(("", "Z")))
        case Encoding.ISO_TIMESTAMP:
            return _string(r, f"{_date(r)}T{_time(r)}{r.choice(('', 'Z'))}")
        case Encoding.ARRAY:
            assert wire.item is not None
            items = [b"null" if r.random() < 0.1 else good_text(r, wire.item) for _ in range(r.randint(0, 4))]
            return b"[" + b",".join(items) + b"]"
        case Encoding.RAW_JSON if r.random() < 0.7:
            return r.choice((b'{"a":[1,"\\ud800"],"b":null}', b"[1, 2]", b"1.50", b"true", b'{ "k" : {} }'))
        case _:
            return _string(r, "".join(r.choices(_LETTERS, k=r.choice((0, 1, 5, 5, 20, 70)))))


def edge_text(r: Random, wire: WireColumn) -> bytes:
    """A JSON text that is nearly a value of the column, or just one."""
    encoding = wire.encoding
    match encoding:
        case Encoding.FLOAT:
            return r.choice(_FLOATS).encode() if r.random() < 0.7 else _string(r, r.choice(_NUMBERS[:7]))
        case Encoding.BASE64 | Encoding.BITS:
            return _string(r, r.choice(_BASE64))
        case Encoding.DECIMAL_BASE64:
            return _string(r, r.choice((*_BASE64, _base64(_two_complement(r, 90)))))
        case Encoding.DECIMAL_TEXT | Encoding.NUMERIC_TEXT:
            return _string(r, r.choice(_NUMBERS)) if r.random() < 0.7 else _number(r, 80, 40).encode()
        case Encoding.NUMERIC_STRUCT | Encoding.DECIMAL_STRUCT:
            return _struct(r, 90, 90, edge=True)
        case Encoding.ZONED_TIMESTAMP | Encoding.ISO_TIMESTAMP:
            text = f"{r.choice((_date(r), *_DATES))}T{r.choice((_time(r), *_TIMES))}{r.choice(_OFFSETS)}"
            return _string(r, r.choice((text, text, text, "infinity", "-infinity", "Infinity", "")))
        case Encoding.NAMED_TIMESTAMP:
            text = f"{r.choice((_date(r), *_DATES))}T{r.choice((_time(r), *_TIMES))}{r.choice(_OFFSETS)}"
            return _string(r, r.choice((text, text, "infinity", "-infinity", "")) + r.choice((*_ZONES, " a b", "X")))
        case Encoding.HEX:
            return _string(r, r.choice(("0", "0g", "g0", "00 ", "é", "0x00", "AbCd", "a" * 65, "/0", ":0", "@0")))
        case Encoding.ISO_DATE:
            return _string(r, r.choice((*_DATES, "infinity")) + r.choice(("", "Z", "ZZ", "+00:00")))
        case Encoding.ISO_TIME:
            return _string(r, r.choice(_TIMES) + r.choice(("", "Z", "ZZ", "+00:00")))
        case Encoding.ARRAY:
            assert wire.item is not None
            items = [
                r.choice((good_text(r, wire.item), edge_text(r, wire.item), r.choice(_ELEMENTS).encode()))
                for _ in "123"
            ]
            return b"[" + r.choice((b",", b" , ")).join(items) + r.choice((b"]", b" ]"))
        case Encoding.STRING | Encoding.RAW_JSON | Encoding.BOOL:
            return r.choice(_ODD).encode()
        case _:
            return r.choice(_INTEGERS).encode()


def placeholder_text(r: Random, wire: WireColumn, placeholder: str) -> bytes:
    """How a value that the source did not send is written, mostly in the way of that column."""
    listed = b"[" + b",".join(b"%d" % byte for byte in placeholder.encode()) + b"]"
    plain, object_text = quoted(placeholder), json.dumps({placeholder: placeholder}, separators=(",", ":"))
    if wire.encoding in (Encoding.STRING, Encoding.RAW_JSON, Encoding.DECIMAL_TEXT, Encoding.NUMERIC_TEXT):
        return r.choice((plain, plain, quoted(placeholder, 2), quoted(object_text)))
    if wire.encoding in (Encoding.BASE64, Encoding.BITS):
        return quoted(_base64(placeholder.encode()))
    if wire.encoding != Encoding.ARRAY and r.random() < 0.8:
        return good_text(r, wire)
    return r.choice((
        plain, plain, quoted(placeholder, 2), quoted(_base64(placeholder.encode())), object_text.encode(),
        quoted(object_text), b"[" + plain + b"]", listed, b"[ " + plain + b"]", b"[" + plain + b"," + plain + b"]",
    ))  # fmt: skip


def column_text(r: Random, wire: WireColumn, placeholder: str, key: bool = False) -> bytes:
    """A JSON text for the column: mostly good; at times null, an edge, a placeholder, or of another kind."""
    chance = r.random() * (5 if key else 1)
    if chance < 0.01:
        return r.choice(_ODD).encode()
    if chance < 0.09:
        return placeholder_text(r, wire, placeholder)
    if chance < 0.12:
        return edge_text(r, wire)
    return b"null" if chance < 0.22 else good_text(r, wire)

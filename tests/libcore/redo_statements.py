"""Random redo statements: mostly what LogMiner writes, sometimes what nobody should."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pyarrow as pa

from libcore.redo_types import RedoColumn, RedoPlan
from libcore.schema import Column, Table, parse_type

# Oracle name, type, and what else a column says
COLUMNS: list[tuple[str, str, dict[str, bool]]] = [
    ("ID", "int64", {}),
    ("NAME", "string", {}),
    ("AMOUNT", "decimal(10,2)", {}),
    ("Mixed Case", "string", {"literal": True}),
    ("WIDE", "decimal(60,5)", {}),
    ("A#B", "numeric", {}),
    ("WHERE", "date", {}),
    ("X,Y", "timestamp", {}),
    ("TS9", "timestamp_ns", {}),
    ("TZ", "timestamptz", {}),
    ("SMALL", "int16", {}),
    ("MEDIUM", "int32", {}),
    ("FLAG", "bool", {}),
    ("F4", "float32", {}),
    ("F8", "float64", {}),
    ("RAW", "bytes", {}),
    ("CLOB", "string", {"empty_is_unset": True}),
    ("IV", "interval", {}),
    ("IVUS", "interval_us", {}),
    ("T", "time", {}),
    ("Ä", "json", {}),
]


def plan_of(*names: str, key: tuple[str, ...] = (), **options: bool) -> RedoPlan:
    """A plan of those of COLUMNS, all of them without a name."""
    found = [
        RedoColumn(Column(name.lower(), parse_type(type_text)), name=name, **extra)
        for name, type_text, extra in COLUMNS
        if not names or name in names
    ]
    table = Table("S.T", tuple(one.column for one in found), tuple(name.lower() for name in key))
    return RedoPlan(table, tuple(found), **options)


_TEXTS = [
    "", "Acme", "O'Neil", "a,b", "x) y;", " set ", " where ", "' and \"X\" = '1", "||", "NULL", "é", "中国", "😀", "--",
    "/* c */", "\t \n", "', '", "') ;", "' where \"ID\" = '", "TO_DATE(", "1", "-1.5", "\\0041",
]  # fmt: skip
_NUMBERS = [
    "0", "1", "-1", ".5", "-.05", "12.50", "1.2E+3", "1E-2", "+7", "123456789012345678901234567890", "32768", "-32768",
    "2147483648", "9223372036854775807", "9223372036854775808", "3.4028236E+38", "1.8E308", "Nan", "Inf", "-Inf", "NaN",
    "1.", ".", "1,5", "--1", "0.30000000000000004", "99999999.99", "100000000", "1E400", "1e-400",
]  # fmt: skip
_TIMES = [
    "2020-02-01 13:14:15", "2020-02-01 13:14:15.123", "2020-02-01 00:00:00.", "2020-02-01 00:00:00", "2020-02-01",
    "2020-02-01 13:14:15.123456789", "-0044-03-15 00:00:00", "0000-01-01 00:00:00", "9999-12-31 23:59:59.999999",
    "2020-02-30 00:00:00", "2020-02-01 24:00:00", " 2020-02-01 13:14:15 ", "2020-02-01T13:14:15", "1-2-3", "",
    "2020-02-01 13:14:15.1234567", "-4712-01-01 00:00:00", "20200-02-01 00:00:00", "13:14:15", "2020-02-01 13:14:15Z",
]  # fmt: skip
_ZONES = [" +00:00", " +01:00", " -05:30", "+02:00", " Europe/Berlin", " UTC", "", " +25:00", " +1:00", " ?"]
_FORMATS = [
    "", ", 'YYYY-MM-DD HH24:MI:SS'", ", 'SYYYY-MM-DD HH24:MI:SS'", ",'YYYY-MM-DD HH24:MI:SS.FF6 TZH:TZM'",
    ", 'DD-MON-RR'", ", 'YYYY-MM-DD'", ", 'YYYY-MM-DD HH24:MI:SS', 'NLS'", ", 1",
]  # fmt: skip
_MONTHS = ["+01-06", "-03-11", "0-0", "+999999999-11", "1-12", "+00-00", "1"]
_DAYS = [
    "+01 02:03:04.05", "-01 02:03:04.050000", "+00 00:00:00", "+999999999 23:59:59.999999999", "1 2:03:04",
    "1 24:00:00", "+00 00:00:00.000001", "+00 00:00:00.0000001", "-00 00:10:00", "+05 00:00:00.", "x",
]  # fmt: skip
_UNISTRS = ["\\0412\\044B", "\\D83D\\DE00ok", "\\D83D", "\\DE00", "a\\\\b", "\\00", "O''N\\FF09", "", "\\0000", "é"]
_HEX = ["deadbeef00", "0E", "", "abc", "zz", "FFff"]
_ODD = ["Unsupported Type", "XMLType(:1)", "BFILENAME('D', 'f)''')", "EMPTY_CLOB()", "EMPTY_BLOB( )", "NULL", "null",
        "TRUE", "false", "Nan", "Infinity", "/* JSON */ HEXTORAW('0A')", "/* c */ 'x'", "FOO", "NULLX", "'it's'",
        "UNKNOWN(", "TO_DATE(1)", "EMPTY_CLOB(1)", "/* open"]  # fmt: skip


def quoted(text: str) -> str:
    """A text as a literal."""
    return "'" + text.replace("'", "''") + "'"


def value(random: Random) -> str:
    """Any value."""
    pick = random.choice
    kinds: list[Callable[[], str]] = [
        lambda: quoted(pick(_TEXTS)),
        lambda: quoted(pick(_NUMBERS)),
        lambda: pick(_NUMBERS),
        lambda: f"{pick(['TO_DATE', 'TO_TIMESTAMP', 'to_timestamp'])}('{pick(_TIMES)}'{pick(_FORMATS)})",
        lambda: f"{pick(['TO_TIMESTAMP_TZ', 'TO_TIMESTAMP_ITZ', 'TO_DATE'])}('{pick(_TIMES)}{pick(_ZONES)}')",
        lambda: quoted(pick(_TIMES) + pick(_ZONES)),
        lambda: f"TO_YMINTERVAL('{pick(_MONTHS)}')",
        lambda: f"TO_DSINTERVAL('{pick(_DAYS)}')",
        lambda: quoted(pick(_MONTHS + _DAYS)),
        lambda: f"UNISTR('{pick(_UNISTRS)}')",
        lambda: f"UNISTR('{pick(_UNISTRS)}')||UNISTR('{pick(_UNISTRS)}') || {quoted(pick(_TEXTS))}",
        lambda: f"HEXTORAW('{pick(_HEX)}')",
        lambda: f"HEXTORAW('{pick(_HEX)}') || HEXTORAW('{pick(_HEX)}')",
        lambda: pick(_ODD),
        lambda: "Unsupported Type",
    ]
    return pick(kinds)()


_FITTING: dict[str, list[str]] = {
    "int64": ["'1'", "'2'", "3", "'1.0'"],
    "int16": ["'7'", "-7"],
    "int32": ["'70000'"],
    "string": ["'Acme'", "'O''Neil'", "UNISTR('\\0412\\044B')", "''", "'x) y, '"],
    "decimal(10,2)": ["'12.5'", "-.05", "'0'"],
    "decimal(60,5)": ["'12345678901234567890123456789012345678901234567890.12345'"],
    "numeric": ["'3.14159'", "'1.2E+3'", "-.5"],
    "date": ["TO_DATE('2020-02-01 00:00:00', 'YYYY-MM-DD HH24:MI:SS')"],
    "timestamp": ["TO_DATE('2020-02-01 13:14:15', 'YYYY-MM-DD HH24:MI:SS')", "TO_TIMESTAMP('2020-02-01 13:14:15.123')"],
    "timestamp_ns": ["TO_TIMESTAMP('2020-02-01 13:14:15.123456789')"],
    "timestamptz": ["TO_TIMESTAMP_TZ('2024-02-14 10:58:02.202590 +01:00')"],
    "bool": ["'1'", "0"],
    "float32": ["3.14E+000", "'Nan'"],
    "float64": ["'0.1'", "-Inf"],
    "bytes": ["HEXTORAW('deadbeef00')", "EMPTY_BLOB()"],
    "interval": ["TO_YMINTERVAL('+01-06')", "TO_DSINTERVAL('+01 02:03:04.05')"],
    "interval_us": ["TO_DSINTERVAL('-01 02:03:04.05')"],
    "time": ["'10:11:12'"],
    "json": ["'{}'"],
}


def fitting(random: Random, column: RedoColumn) -> str:
    """A value that goes into that column."""
    if random.random() < 0.15:
        return "NULL"
    if random.random() < 0.03:
        return "Unsupported Type"
    return random.choice(_FITTING[str(column.column.type)])


def statement(random: Random, plan: RedoPlan, wild: float) -> str:
    """A statement; `wild` is the chance that a value fits its column by luck only."""

    def one(column: RedoColumn) -> str:
        return value(random) if random.random() < wild else fitting(random, column)

    def some(least: int) -> list[RedoColumn]:
        count = random.choice([len(plan.columns), random.randint(least, len(plan.columns))])
        found = random.sample(plan.columns, count)
        if random.random() < 0.9:
            found += [one for one in plan.columns if one.column.name in plan.table.key and one not in found]
        if random.random() < 0.02:
            return [*found, random.choice(found)]
        return found if random.random() < 0.3 else [column for column in plan.columns if column in found]

    def name(column: RedoColumn) -> str:
        plain = column.oracle_name.isidentifier() and column.oracle_name.isascii() and random.random() < 0.05
        return column.oracle_name.lower() if plain else f'"{column.oracle_name}"'

    def condition(column: RedoColumn) -> str:
        given = one(column)
        return f"{alias}{name(column)} IS NULL" if given == "NULL" else f"{alias}{name(column)} = {given}"

    alias = random.choice(["", "", "", "a.", '"a".'])
    named = f" {alias[:-1]}" if alias else ""
    where = " and ".join(map(condition, some(1)))
    if random.random() < 0.2:
        where += f" and {alias}ROWID = 'AAAV2fAAHAAAACTAAA'"
    where = f" where {where}" if random.random() < 0.95 else ""
    end = random.choice([";", "", " ; "])
    kind = random.choice(["insert", "update", "update", "delete"])
    if kind == "insert":
        columns = some(1)
        values = ",".join(map(one, columns))
        return f'insert into "S"."T"({",".join(map(name, columns))}) values ({values}){end}'
    if kind == "delete":
        return f'delete from "S"."T"{named}{where}{end}'
    changes = ", ".join(f"{alias}{name(column)} = {one(column)}" for column in some(1))
    return f'update "S"."T"{named} set {changes}{where}{end}'


_WRONG = [b"'", b'"', b"(", b")", b",", b";", b" ", b"\x00", b"\xff", b"\xc3", b"||", b"=", b"\\", b"NULL", b"and", b""]


def spoilt(random: Random, data: bytes) -> bytes:
    """The same with one to three places changed."""
    for _ in range(random.randint(1, 3)):
        at = random.randint(0, len(data))
        data = data[:at] + random.choice(_WRONG) + data[at + random.randint(0, 2) :]
    return data


def pieces(random: Random, statements: list[bytes | None]) -> pa.RecordBatch:
    """The statements cut at random places, with the CSF column."""
    texts: list[bytes | None] = []
    flags: list[int | None] = []
    for data in statements:
        cuts = sorted(random.randint(0, len(data or b"")) for _ in range(random.choice([0, 0, 0, 1, 2])))
        bounds = [0, *cuts, len(data or b"")]
        for start, end in pairwise(bounds):
            texts.append(None if data is None else data[start:end])
            flags.append(1)
        flags[-1] = random.choice([0, 0, 0, None])
    if flags and random.random() < 0.1:
        flags[-1] = 1
    return pa.RecordBatch.from_arrays([pa.array(texts, pa.binary()), pa.array(flags, pa.int64())], names=["sql", "csf"])

"""The pipeline file: what is accepted round-trips; what is wrong is named with file, line, expected and found."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.spec import Pipeline, dumps, load, parse, parse_bytes
from flows.toml_text import dumps as toml_dumps
from flows.toml_text import lines_of
from libcore.errors import ConfigurationError

ORDER_LINES = """\
name = "order-lines"
slots = 64

[source.kafka]
servers = "127.0.0.1:9092"

[tables.items]  # a comment
topic = "erp.public.items"
key = ["order_id", "line_no"]
where = "quantity > 0"

[tables.items.columns]
order_id = "int64"
line_no = "int64"
quantity = "int32"

[sink.postgres]
dsn = "env:WAREHOUSE_DSN"
table = "order_lines"
"""

names = st.text(string.ascii_lowercase, min_size=1, max_size=8)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
types = st.sampled_from(
    [
        "int64",
        "decimal(18,4)",
        "string",
        "array(int32)",
        {"type": "timestamp", "unit": "ms"},
        {"type": "bits", "length": 5, "nullable": False},
    ]
)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """Settings of one table, right in themselves."""
    columns = draw(st.dictionaries(texts, types, min_size=2, max_size=5))
    key, *others = columns
    table: dict[str, Any] = {"columns": columns, "key": [key]}
    table |= draw(
        st.fixed_dictionaries(
            {},
            optional={
                "where": texts,
                "drop": st.just(others[:1]) if len(others) > 1 else st.just([]),
                "on_truncate": st.sampled_from(["stop", "ignore", "apply"]),
                "on_schema_change": st.sampled_from(["refuse", "follow"]),
                "on_new_column": st.sampled_from(["add", "ignore", "refuse"]),
            },
        )
    )
    if draw(st.booleans()):
        table["rename"] = {key: key + "_2"} if key + "_2" not in columns else {}
    return table


@st.composite
def pipelines(draw: st.DrawFn) -> dict[str, Any]:
    """The data of a pipeline file that is right."""
    slots = draw(st.integers(4, 256))
    kafka = {
        "servers": "a:1,b:2",
        "properties": draw(st.dictionaries(names, texts | st.integers(0, 9) | st.booleans(), max_size=3)),
    }
    kafka |= draw(
        st.fixed_dictionaries(
            {}, optional={"start": st.sampled_from(["latest", {"offset": 7}]), "batch_rows_max": st.integers(1, 9999)}
        )
    )
    sink = draw(
        st.fixed_dictionaries(
            {"dsn": texts.map("env:{}".format)},
            optional={
                "parts": st.integers(1, 4),
                "spool_bytes": st.sampled_from(["512 MB", "2 GiB", 5_000_000]),
                "mode": st.sampled_from(["create", "adopt", "replace"]),
                "schema": names,
                "dead_letters": st.fixed_dictionaries({}, optional={"directory": names, "parquet": st.booleans()}),
            },
        )
    )
    either = st.one_of(
        st.dictionaries(texts, tables(), min_size=1, max_size=3),
        st.just("erp.public.*"),
        st.just(["erp.a.*", "erp.b.*"]),
    )
    return {
        "name": draw(names),
        "slots": slots,
        "tables": draw(either),
        "source": {"kafka": kafka},
        "sink": {"postgres": sink},
    }


@settings(max_examples=150, deadline=None)
@given(pipelines())
def test_any_accepted_file_round_trips(data: dict[str, Any]) -> None:
    """A file that is accepted, written out and read again, means the same."""
    text = toml_dumps(data)
    pipeline = parse(text, "first.toml")
    assert parse(dumps(pipeline), "second.toml") == pipeline
    assert pipeline.source.kafka.properties == data["source"]["kafka"]["properties"]


@settings(max_examples=100, deadline=None)
@given(st.recursive(st.integers() | texts | st.booleans(), lambda inner: st.dictionaries(texts, inner, max_size=3)))
def test_every_line_of_a_written_file_is_found(data: Any) -> None:
    """Each setting's line holds its key, whatever characters the key has."""
    if not isinstance(data, dict):
        data = {"value": data}
    lines = toml_dumps(data).splitlines()
    for path, line in lines_of("\n".join(lines)).items():
        written = toml_dumps({str(path[-1]): 0}).partition(" =")[0]
        assert written in lines[line - 1], (path, lines[line - 1])


def test_the_worked_example_reads(tmp_path: Any) -> None:
    """A pipeline file gives typed settings and their defaults."""
    file = tmp_path / "order-lines.toml"
    file.write_text(ORDER_LINES, encoding="utf-8")
    pipeline = load(file)
    assert pipeline.sink.postgres is not None
    assert (pipeline.slots, pipeline.sink.settings.parts, pipeline.sink.settings.spool_bytes) == (64, 4, 512_000_000)
    assert pipeline.tables["items"].key == ("order_id", "line_no")
    assert pipeline.sink.postgres.dsn == "env:WAREHOUSE_DSN"


def test_a_pattern_stands_for_many_tables() -> None:
    """`tables = "pattern"` is a table entry whose topic is the pattern."""
    text = 'name = "erp"\ntables = "erp.public.*"\n[source.kafka]\nservers = "a:1"\n[sink.null]\n'
    pipeline = parse(text, "erp.toml")
    assert pipeline.tables["erp.public.*"].is_pattern
    assert pipeline.sink.name == "null"


def test_overrides_win() -> None:
    """Settings given by dotted path win over the text and are checked like it."""
    pipeline = parse(ORDER_LINES, "x.toml", {"source.kafka.servers": "other:1", "slots": 8})
    assert (pipeline.source.kafka.servers, pipeline.slots) == ("other:1", 8)
    with pytest.raises(ConfigurationError, match="slots: expected a whole number, found"):
        parse(ORDER_LINES, "x.toml", {"slots": "8"})


WRONG = [
    # what is replaced, by what, line, message
    ("servers =", "server =", 4, "source.kafka.servers: expected this setting, found nothing"),
    ("slots = 64", 'slots = "64"', 2, 'slots: expected a whole number, found "64"'),
    ("slots = 64", "slots = 0", 2, "slots: expected at least 1, found 0"),
    (
        'name = "order-lines"',
        'name = "a b"',
        1,
        "name: expected a name of letters, digits, `_` and `-`, at most 63, starting with a letter or digit",
    ),
    (
        '"127.0.0.1:9092"',
        '"127.0.0.1:9092"\nformat = "debezium-jsn"',
        6,
        'source.kafka.format: expected "debezium-json", "debezium-avro" or "openlogreplicator", found "debezium-jsn" '
        "(did you mean 'debezium-json'?)",
    ),
    (
        '"127.0.0.1:9092"',
        '"127.0.0.1:9092"\nstart = "earlist"',
        6,
        'source.kafka.start: expected "earliest" or "latest", found "earlist" (did you mean \'earliest\'?)',
    ),
    (
        '"127.0.0.1:9092"',
        '"127.0.0.1:9092"\nstart = { offset = -3 }',
        6,
        "source.kafka.start.offset: expected at least 0, found -3",
    ),
    ("where =", "wher =", 10, "found unknown setting 'wher' (did you mean 'where'?)"),
    (
        '["order_id", "line_no"]',
        '["order_i"]',
        9,
        "tables.items.key: expected a column of `columns`, found 'order_i' (did you mean 'order_id'?)",
    ),
    ('["order_id", "line_no"]', '"order_id"', 9, 'tables.items.key: expected a list, found "order_id"'),
    (
        'where = "quantity > 0"',
        'drop = ["order_id"]',
        10,
        "tables.items.drop: expected columns outside of the key, found key column 'order_id'",
    ),
    (
        'where = "quantity > 0"',
        'rename = { quantity = "line_no" }',
        10,
        "tables.items.rename: expected a target name for each column, found 'line_no' twice",
    ),
    ('quantity = "int32"', 'quantity = "int33"', 15, "found \"int33\" (did you mean 'int32'?)"),
    ('quantity = "int32"', 'quantity = "decimal(90,2)"', 15, "expected decimal(p,s) with 1 <= p <= 76 and 0 <= s <= p"),
    (
        'quantity = "int32"',
        'quantity = { type = "int32", unit = "ms" }',
        15,
        "tables.items.columns.quantity: int32 takes unit none, found 'ms'",
    ),
    ('quantity = "int32"', 'quantity = { typ = "int32" }', 15, "found unknown setting 'typ' (did you mean 'type'?)"),
    ('dsn = "env:WAREHOUSE_DSN"\n', "", 17, "sink.postgres.dsn: expected this setting, found nothing"),
    (
        "[sink.postgres]",
        "[sink.postgrs]",
        17,
        "expected one of postgres, null, found unknown setting 'postgrs' (did you mean 'postgres'?)",
    ),
    (
        "[sink.postgres]",
        "[sink.null]\n[sink.postgres]",
        17,
        "sink: expected exactly one of [sink.postgres], [sink.null], found postgres and null",
    ),
    (
        '"order_lines"',
        '"order_lines"\nspool_bytes = "12 MX"',
        20,
        'sink.postgres.spool_bytes: expected bytes as a number, or a text such as "512 MB" or "2 GiB", found "12 MX"',
    ),
    ('"order_lines"', '"order_lines"\nparts = 65', 20, "sink.postgres.parts: expected at most `slots` (64), found 65"),
    (
        '"order_lines"',
        '"{tabel}"',
        19,
        "sink.postgres.table: expected a name with {topic}, {schema}, {table} in it or none",
    ),
    (
        "[sink.postgres]",
        '[[step]]\nselect = { a = "b" }\n[sink.postgres]',
        17,
        "step.0.of: expected the table that gets the columns, as no step stands before, found nothing",
    ),
    (
        "[sink.postgres]",
        '[[step]]\njoin = "items"\nwith = "itms"\non = { a = "b" }\n[sink.postgres]',
        19,
        "step.0.with: expected a table or an earlier result, one of ['items'], found 'itms' (did you mean 'items'?)",
    ),
    (
        "[sink.postgres]",
        '[[step]]\njoin = "items"\nwith = "items"\nhow = "outer"\non = { a = "b" }\n[sink.postgres]',
        20,
        'step.0.how: expected "inner" or "left", found "outer"',
    ),
    (
        "[sink.postgres]",
        '[[step]]\nwindow = "items"\ntime = "at"\nsize = "1 hour"\nas = "x"\n'
        'aggregate = { n = "count(*)" }\n[sink.postgres]',
        20,
        'step.0.size: expected a duration such as "30s", "15m", "1h" or "1d", found "1 hour"',
    ),
    (
        "[sink.postgres]",
        '[[step]]\nwindow = "items"\ntime = "at"\nas = "x"\naggregate = { n = "count(*)" }\n[sink.postgres]',
        17,
        "expected `size` (and perhaps `slide`) or `gap`, not both, found none",
    ),
    (
        "[sink.postgres]",
        '[[step]]\nselect = { x = "a" }\nof = "items"\nmsk = { a = "b" }\n[sink.postgres]',
        20,
        "found unknown setting 'msk' (did you mean 'mask'?)",
    ),
    ("[source.kafka]", "[source.kafka", 4, "not TOML"),
    ("slots = 64", "slots = 64\nslots = 65", 3, "not TOML"),
]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"), WRONG, ids=[f"{old} -> {new}"[:60] for old, new, _, _ in WRONG]
)
def test_each_fault_is_named_with_its_line(old: str, new: str, line: int, message: str) -> None:
    """The error's text starts with file and line and says what was expected and found."""
    assert old in ORDER_LINES
    with pytest.raises(ConfigurationError) as caught:
        parse(ORDER_LINES.replace(old, new), "pipelines/x.toml")
    assert message in str(caught.value)
    assert (caught.value.file, caught.value.line) == ("pipelines/x.toml", line)
    assert str(caught.value).startswith(f"pipelines/x.toml:{line}: ")


def test_all_faults_are_told_at_once() -> None:
    """A second fault follows the first, each with its own line."""
    text = ORDER_LINES.replace("slots = 64", "slots = 0").replace("where =", "wher =")
    with pytest.raises(ConfigurationError, match=r"(?s)^x\.toml:2: slots.*\nx\.toml:10: tables\.items\.wher"):
        parse(text, "x.toml")


def test_a_misplaced_secret_is_not_shown() -> None:
    """What was found for a connection string or a driver's property is not repeated."""
    for old, new in (
        ("dsn = ", 'dsn = ["hunter2"] #'),
        ("[tables.items]", '[source.kafka.properties]\n"sasl.password" = ["hunter2"]\n[tables.items]'),
    ):
        with pytest.raises(ConfigurationError) as caught:
            parse(ORDER_LINES.replace(old, new), "x.toml")
        assert "hunter2" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Any) -> None:
    """A missing file and one that is not UTF-8 are configuration errors naming the file."""
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: expected a readable pipeline file"):
        load(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xfc"')
    with pytest.raises(ConfigurationError, match="expected UTF-8 text, found byte 0xfc at 8"):
        load(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    ("text", "bytes_"), [("512 MB", 512_000_000), ("2 GiB", 2 << 30), ("7", 7), ("1.5 kB", 1500), (9, 9)]
)
def test_byte_texts(text: object, bytes_: int) -> None:
    """Sizes read with decimal and binary units."""
    assert parse_bytes(text) == bytes_


def test_pipelines_cannot_be_changed() -> None:
    """What a flow was built from stays what it was."""
    pipeline = parse(ORDER_LINES, "x.toml")
    with pytest.raises(ValueError, match="frozen"):
        pipeline.slots = 1
    assert isinstance(pipeline, Pipeline)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ('[sink.postgres]\ndsn = "postgresql://me:hunter2@host/db"', "sink.postgres.dsn"),
        (
            '[sink.postgres]\ndsn = "env:DSN"\n[source.kafka.properties]\n"sasl.password" = "hunter2"',
            "property sasl.password",
        ),
    ],
)
def test_a_secret_as_plain_text_is_refused_and_not_shown(setting: str, line: str, tmp_path: Path) -> None:
    """A password in the file itself is refused before anything starts, by a message that does not repeat it."""
    file = tmp_path / "pipeline.toml"
    head = 'name = "x"\n[source.kafka]\nservers = "h:1"\n[tables.t]\ntopic = "a.b.c"\n'
    file.write_text(head + setting)
    with pytest.raises(ConfigurationError) as refused:
        load(str(file))
    assert line in str(refused.value) and "found plain text" in str(refused.value)
    assert "hunter2" not in str(refused.value)

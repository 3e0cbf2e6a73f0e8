"""Debezium messages in Avro: they give what the same messages give in JSON; restarts, registries, what they refuse."""

from __future__ import annotations

import http.client
import json
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base.schema_registry import SchemaRegistryConfig
from connectors.formats.avro import AvroDecoder
from connectors.formats.avro_connect import connect_schema
from connectors.formats.connect_schema import wire_columns
from connectors.formats.debezium import DebeziumDecoder, TopicBinding
from connectors.formats.registry_clients import open_registry
from connectors.kafka.config import KafkaConfig
from libcore.change import Op
from libcore.errors import ConfigurationError, DataError, TransientError
from tests.connectors.avro_parts import Registry, as_avro
from tests.connectors.debezium_parts import drain, envelope, field, letters, raw, recordings, rows, schema_part, values
from tests.connectors.debezium_parts import wrapped as json_wrapped

TABLE_PARTS = [part for part in sorted(recordings("sp")) if ".public." in part[0]]


@pytest.fixture(scope="module")
def recorded() -> dict[tuple[str, int], tuple[pa.RecordBatch, Registry]]:
    """The recordings in Avro, by topic and partition."""
    made = {}
    for part in TABLE_PARTS:
        registry = Registry()
        made[part] = (as_avro(recordings("sp")[part], registry), registry)
    return made


@pytest.mark.parametrize("part", TABLE_PARTS, ids=str)
@pytest.mark.parametrize("policy", ["refuse", "follow"])
def test_avro_gives_what_json_gives(part: tuple[str, int], policy: Any, recorded: Any) -> None:
    """Every row of the recordings, types, positions, unset bits and all, and as many dead letters."""
    binding = TopicBinding(part[0], on_truncate="ignore", on_schema_change=policy)
    messages, registry = recorded[part]
    expected = drain(DebeziumDecoder(*part, binding), recordings("sp")[part])
    found = drain(AvroDecoder(*part, binding, registry=registry), messages)
    assert [_plain(row) for row in rows(found)] == [_plain(row) for row in rows(expected)]
    assert [letter["message_offset"] for letter in letters(found)] == [
        letter["message_offset"] for letter in letters(expected)
    ]


def _plain(row: dict[str, Any]) -> str:
    """A row, without unset bits where none is set."""
    return repr({name: value for name, value in row.items() if name != "__unset" or any(value)})


@settings(max_examples=25, deadline=None)
@given(data=st.data(), part=st.sampled_from(TABLE_PARTS))
def test_a_restart_anywhere_changes_nothing(data: st.DataObject, part: tuple[str, int], recorded: Any) -> None:
    """Cut into any batches and resumed from a pickled state at every cut, a recording gives the rows of one run."""
    messages, registry = recorded[part]
    binding = TopicBinding(part[0], on_truncate="ignore", on_schema_change="follow")
    whole = drain(AvroDecoder(*part, binding, registry=registry), messages)
    state, items = None, []
    while messages.num_rows:
        decoder = AvroDecoder(*part, binding, state, registry=registry)
        brought, consumed = decoder.decode(messages.slice(0, data.draw(st.integers(1, messages.num_rows))))
        items += brought
        messages = messages.slice(consumed)
        state = pickle.loads(pickle.dumps(decoder.state))
    assert [_plain(row) for row in rows(items)] == [_plain(row) for row in rows(whole)]


FIELDS = [field("id", "int64", optional=False), field("v", "string")]
KEY = {"type": "struct", "fields": FIELDS[:1], "optional": False, "name": "t.Key"}


def message(registry: Registry, number: int, after: Any, fields: Any = FIELDS, **more: Any) -> tuple[bytes, Any]:
    """One message in Avro, with its key; after = None and no op: a tombstone."""
    text = json_wrapped(schema_part(fields), after, **more)
    record = as_avro(raw([({"schema": KEY, "payload": {"id": number}}, text if more or after else None)]), registry)
    return record.column(0)[0].as_py(), record.column(1)[0].as_py()


def test_a_tombstone_deletes_after_a_restart() -> None:
    """A compacted topic may begin with a tombstone: its key is read by the key's schema, also right after a restart."""
    registry = Registry()
    first, gone = message(registry, 1, {"id": 1, "v": "a"}), message(registry, 1, None)
    binding = TopicBinding("t")
    decoder = AvroDecoder("t", 0, binding, registry=registry)
    drain(decoder, raw([first]))
    items = drain(AvroDecoder("t", 0, binding, decoder.state, registry=registry), raw([gone, first]))
    assert [(row["__op"], row["id"]) for row in rows(items)] == [(Op.DELETE, 1), (Op.INSERT, 1)]


def test_unknown_ids_and_broken_frames_become_dead_letters() -> None:
    """A message whose schema is nowhere, and one that is no Avro, are dead letters; their neighbours go on."""
    registry = Registry()
    good = message(registry, 1, {"id": 1, "v": "a"})
    bad = [(None, b"\0\0\0\0\x63\x02"), (None, b'{"op":"c"}'), (None, b""), (good[0], good[1][:-3])]
    items = drain(AvroDecoder("t", 0, TopicBinding("t"), registry=registry), raw([good, *bad, good]))
    assert values(items) == [{"id": 1, "v": "a"}] * 2
    assert [letter["error"].partition(":")[0] for letter in letters(items)] == ["SCHEMA", "SYNTAX", "SYNTAX", "SYNTAX"]


def test_keys_of_another_format_are_left_alone() -> None:
    """With keys in JSON the key columns are found in them; a tombstone then says nothing, and is no dead letter."""
    registry = Registry()
    _, value = message(registry, 1, {"id": 1, "v": "a"})
    items = drain(
        AvroDecoder("t", 0, TopicBinding("t"), registry=registry), raw([({"id": 1}, value), ({"id": 1}, None)])
    )
    assert ([row["id"] for row in rows(items)], letters(items)) == ([1], [])


def test_a_new_column_is_taken_on_and_a_lost_one_refused() -> None:
    """A new id brings a new shape: an added column is NULL before; a dropped one refuses the rows."""
    registry = Registry()
    wide = [*FIELDS, field("n", "int32")]
    first, second = message(registry, 1, {"id": 1, "v": "a"}), message(registry, 2, {"id": 2, "v": "b", "n": 3}, wide)
    items = drain(AvroDecoder("t", 0, TopicBinding("t"), registry=registry), raw([first, second, first]))
    assert values(items) == [{"id": 1, "v": "a"}, {"id": 2, "v": "b", "n": 3}]
    assert "column n was dropped" in letters(items)[0]["error"]


@pytest.mark.parametrize(
    ("avro", "text"),
    [
        ({"type": "int", "logicalType": "date"}, "date"),
        ({"type": "int", "connect.type": "int16"}, "int16"),
        ({"type": "long", "logicalType": "timestamp-micros"}, "timestamptz"),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, "timestamp"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "decimal(9,2)"),
        ({"type": {"type": "fixed", "name": "f", "size": 8, "logicalType": "decimal", "precision": 18, "scale": 4}},
         "decimal(18,4)"),
        ({"type": "string", "logicalType": "uuid"}, "uuid"),
        ({"type": "string", "connect.name": "io.debezium.data.Enum"}, "string"),
        ({"type": "bytes", "connect.name": "io.debezium.data.Bits", "connect.parameters": {"length": "3"}}, "bits"),
        ({"type": "array", "items": ["null", "long"]}, "array(int64)"),
        ({"type": "map", "values": "string"}, "json"),
        (["null", "string", "long"], "json"),
    ],
)  # fmt: skip
def test_logical_types(avro: Any, text: str) -> None:
    """Connect's names win; Avro's own logical types count where no Connect wrote the schema."""
    schema = {"type": "record", "name": "r", "fields": [{"name": "c", "type": avro}]}
    assert str(wire_columns(connect_schema(json.dumps(schema))["fields"])[0].column.type) == text


def test_a_dotted_name_is_a_whole_one() -> None:
    """A name with a dot is looked for as it stands, not below the namespace that it is used in."""
    inner = {"type": "fixed", "name": "n.x.f", "size": 1}
    named = {"type": "enum", "name": "x.f", "symbols": ["a"]}
    fields = [{"name": "a", "type": inner}, {"name": "b", "type": named}, {"name": "c", "type": "x.f"}]
    schema = {"type": "record", "name": "r", "namespace": "n", "fields": fields}
    assert [one["type"] for one in connect_schema(json.dumps(schema))["fields"]] == ["bytes", "string", "string"]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append(self.path)
        status, body = server.answers.pop(0) if server.answers else (200, b'{"schema": "\\"string\\""}')
        if self.headers.get("Authorization") != "Basic dTpwdw==":
            status, body = 401, b"{}"
        self.send_response(status)
        self.send_header("Content-Length", str(server.length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""


@pytest.fixture
def server() -> Iterator[Any]:
    """A registry's HTTP side with prepared answers."""
    made: Any = HTTPServer(("127.0.0.1", 0), _Handler)
    made.answers, made.asked, made.length = [], [], 0
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def config(server: Any, monkeypatch: pytest.MonkeyPatch, password: str = "pw", **more: Any) -> SchemaRegistryConfig:
    """Settings for that server."""
    monkeypatch.setenv("REGISTRY_PASSWORD", password)
    url = f"http://127.0.0.1:{server.server_port}/base/"
    return SchemaRegistryConfig(url=url, user="u", password="env:REGISTRY_PASSWORD", **more)


def test_the_http_registry_asks_once_and_again_when_it_must(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is kept for ever; a server that is not ready is asked again; an id that is not there is not."""
    registry = open_registry(config(server, monkeypatch))
    server.answers = [(503, b""), (200, b'{"schema": "\\"int\\""}'), (404, b"{}")]
    assert [registry.schema(7), registry.schema(7)] == ['"int"', '"int"']
    for _ in range(2):
        with pytest.raises(DataError, match="no schema 8"):
            registry.schema(8)
    assert server.asked == ["/base/schemas/ids/7", "/base/schemas/ids/7", "/base/schemas/ids/8"]


def test_the_http_registry_says_what_is_wrong(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused login and another API stop the flow by name; a protobuf schema is bad data; silence is transient."""
    with pytest.raises(ConfigurationError, match="login was refused"):
        open_registry(config(server, monkeypatch, "wrong")).schema(1)
    registry = open_registry(config(server, monkeypatch, wait_s_max=0.0))
    wrong_path = (404, b"<html>Not Found</html>")
    missing = (404, b'{"error_code":40403,"message":"Schema 3 not found"}')
    server.answers = [
        (200, b"<html>"),
        (200, b'{"schema": "x", "schemaType": "PROTOBUF"}'),
        (500, b""),
        wrong_path,
        missing,
    ]
    errors = (ConfigurationError, DataError, TransientError, ConfigurationError, DataError)
    for number, error in enumerate(errors):
        with pytest.raises(error):
            registry.schema(number)


def test_an_answer_cut_short_is_asked_for_again(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that ends inside the answer, or that speaks no HTTP, says nothing of the schema: it is transient."""
    registry = open_registry(config(server, monkeypatch, wait_s_max=0.0))
    server.length = 1000
    with pytest.raises(TransientError, match="schemas/ids/7"):
        registry.schema(7)

    def no_http(*_: Any, **__: Any) -> Any:
        raise http.client.BadStatusLine("garbage")

    monkeypatch.setattr("urllib.request.urlopen", no_http)
    with pytest.raises(TransientError, match="garbage"):
        registry.schema(7)


def test_a_schema_type_of_null_is_avro(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some registries write the members that Confluent's leaves out as null."""
    server.answers = [(200, b'{"schema": "\\"int\\"", "schemaType": null, "references": null}')]
    assert open_registry(config(server, monkeypatch)).schema(7) == '"int"'


def test_the_directory_registry(tmp_path: Path) -> None:
    """DIRECTORY/7.avsc is schema 7; a missing file is bad data; a missing directory a wrong setting."""
    (tmp_path / "7.avsc").write_text('"int"')
    registry = open_registry(SchemaRegistryConfig(directory=str(tmp_path)))
    assert registry.schema(7) == '"int"'
    with pytest.raises(DataError, match="no schema 8"):
        registry.schema(8)
    with pytest.raises(ConfigurationError, match="expected a directory"):
        open_registry(SchemaRegistryConfig(directory=str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("registry", "text"),
    [
        ({}, "exactly one of url, directory"),
        ({"url": "http://r", "directory": "d"}, "exactly one of url, directory"),
        ({"url": "ftp://r"}, "begins with http"),
        ({"url": "http://u:pw@r"}, "without user and password"),
        ({"url": "http://r", "user": "u", "password": "pw"}, "reference to a secret"),
        (None, "beside format"),
    ],
)
def test_settings_that_do_not_fit(registry: Any, text: str) -> None:
    """Each wrong setting is refused with what was expected, and no password is shown."""
    with pytest.raises(ConfigurationError, match=text) as refused:
        KafkaConfig.read({"servers": "h:1", "format": "debezium-avro", "registry": registry}, "source.kafka")
    assert "pw@" not in str(refused.value)


def test_envelopes_without_keys() -> None:
    """A keyless topic: rows by all columns, no key schema asked for."""
    registry = Registry()
    record = as_avro(raw([(None, json_wrapped(schema_part(FIELDS), {"id": 1, "v": "a"}))]), registry)
    items = drain(AvroDecoder("t", 0, TopicBinding("t"), registry=registry), record)
    assert values(items) == [{"id": 1, "v": "a"}]
    assert envelope({"id": 1})["op"] == "c"
    assert len(registry.texts) == 1

"""The mask step: masked rows in the target, equal to the reference's, and nothing in clear in any dead letter."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from connectors.base.items import Truncate
from connectors.base.mask_key import mask_key
from connectors.kafka.topics import produce
from flows import spec
from flows.mask_plan import compile_mask, replanned
from flows.operators.dead_letters import dead_letters
from flows.operators.mask import Mask
from flows.operators.mask_letters import Withhold
from flows.spec_steps import MaskSpec, MaskStep
from flows.testing import run_killed_and_resumed
from flows.verify import verify
from libcore.change import ChangeBatch, Op, arrow_schema
from libcore.errors import ConfigurationError
from libcore.mask import MaskRule
from libcore.reference.mask import mask_column
from libcore.schema import Column, Table, parse_type
from tests.flows.debezium import change

SECRET = "a secret of sixteen bytes or more"
CUSTOMERS = Table(
    "customers",
    (
        Column("id", parse_type("int64"), False),
        Column("name", parse_type("string")),
        Column("born", parse_type("date")),
    ),
    ("id",),
)
PIPELINE = """
name = "masked"
[source.kafka]
servers = "127.0.0.1:1"
format = "debezium-json"
start = "earliest"
[tables.customers]
topic = "TOPIC"
key = ["id"]
rename = { name = "full_name" }
[tables.customers.columns]
id = "int64"
name = "string"
born = "date"
note = "string"
[[step]]
select = { length = "CASE note WHEN 'bad' THEN CAST(full_name AS INTEGER) ELSE length(full_name) END" }
of = "customers"
[[step]]
mask = { full_name = "token", born = "year", id = { how = "hash", domain = "customer" } }
key = "env:MASK_SECRET"
as = "masked_customers"
[[step]]
select = { initial = "CASE note WHEN 'late' THEN error('no') ELSE left(full_name, 1) END" }
[sink.postgres]
dsn = "env:WAREHOUSE_DSN"
parts = 2
"""


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret that the steps of these tests name."""
    monkeypatch.setenv("MASK_SECRET", SECRET)


def batch(*rows: dict[str, Any], of: Table = CUSTOMERS) -> ChangeBatch:
    """Changes of a table; upserts where nothing else is said."""
    control = {"__op": int(Op.UPSERT), "__position": bytes(32), "__source_ts": None}
    whole = [{**dict.fromkeys(column.name for column in of.columns), **control, **row} for row in rows]
    return ChangeBatch(of, pa.RecordBatch.from_pylist(whole, schema=arrow_schema(of)))


def step(**settings: Any) -> MaskStep:
    """A step as the pipeline file gives it."""
    return MaskStep.model_validate({"key": "env:MASK_SECRET", **settings})


def test_the_step_masks_batches_and_passes_markers(secret: None) -> None:
    """Upserts and deletes are masked alike, a Truncate gets the result's name, other tables are left to others."""
    plan = compile_mask(step(mask={"name": "hash", "id": "hash"}), CUSTOMERS, "people")
    found = Mask("flow", "mask", plan, replanned(plan))(
        [
            batch({"id": 1, "name": "Ann"}, {"id": 1, "__op": int(Op.DELETE)}),
            Truncate("customers", "x"),
            batch({"id": 9}, of=Table("other", CUSTOMERS.columns, ("id",))),
        ]
    )
    rows, truncate = found
    assert isinstance(rows, ChangeBatch) and rows.table == plan.result and truncate == Truncate("people", "x")
    first, gone = rows.record.to_pylist()
    assert first["id"] == gone["id"] and re.fullmatch("[0-9a-f]{32}", first["id"]) and gone["name"] is None
    key = mask_key("env:MASK_SECRET", "name")
    assert [first["name"]] == mask_column(pa.array(["Ann"]), MaskRule("hash", key=key)).to_pylist()


def test_a_table_that_gains_columns_is_masked_on(secret: None) -> None:
    """A new column passes in clear, the named ones stay masked."""
    plan = compile_mask(step(mask={"name": "redact"}), CUSTOMERS, "people")
    grown = Table("customers", (*CUSTOMERS.columns, Column("city", parse_type("string"))), ("id",))
    (found,) = Mask("flow", "mask", plan, replanned(plan))([batch({"id": 1, "name": "Ann", "city": "Ulm"}, of=grown)])
    assert isinstance(found, ChangeBatch)
    assert [(row["name"], row["city"]) for row in found.record.to_pylist()] == [("***", "Ulm")]


def test_a_row_without_a_mask_is_a_dead_letter_and_shows_nothing(secret: None) -> None:
    """Its neighbours go on; the letter keeps the row without what the step hides."""
    plan = compile_mask(step(mask={"born": "year", "name": "redact"}), CUSTOMERS, "people")
    far = pa.array([0, 2_932_897], pa.int32()).view(pa.date32())
    rows = batch({"id": 1, "name": "Ann"}, {"id": 2, "name": "Bob"})
    rows = ChangeBatch(CUSTOMERS, rows.record.set_column(2, rows.record.schema.field(2), far))
    made, letters = Mask("flow", "mask", plan, replanned(plan))([rows])
    assert isinstance(made, ChangeBatch) and made.record.column("id").to_pylist() == [1]
    (letters,) = Withhold({("mask", "customers"): frozenset({"born", "name"})})([letters])
    assert isinstance(letters, ChangeBatch)
    (letter,) = letters.record.to_pylist()
    with pa.ipc.open_stream(letter["raw_value"]) as reader:
        (row,) = reader.read_next_batch().to_pylist()
    assert (row["id"], row["name"], row["born"]) == (2, None, None)
    assert b"Bob" not in letter["raw_value"] and letter["key_text"] == '{"id": 2}'
    assert letter["error"] == "the row could not pass (withheld, as masked: born, name)"


def test_letters_of_others_are_left_alone() -> None:
    """Only rows and steps in front of a mask are gone over; a key that is hidden goes, too."""
    rows = batch({"id": 1, "name": "Ann"})
    letters = dead_letters("flow", "select", rows, [0], ["expected a date, found Ann"])
    assert Withhold({("other", "customers"): frozenset({"name"})})([letters]) == [letters]
    (kept,) = Withhold({("select", "customers"): frozenset({"id"})})([letters])
    assert isinstance(kept, ChangeBatch)
    (letter,) = kept.record.to_pylist()
    assert letter["key_text"] is None and letter["error"] == "expected a date (withheld, as masked: id)"
    assert b"Ann" in letter["raw_value"]


def letters_of(dsn: str) -> list[dict[str, Any]]:
    """All dead letters in the target."""
    with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute("SELECT * FROM headrace_dead_letters ORDER BY step, message_offset").fetchall()


def test_nothing_in_clear_reaches_the_target_or_a_dead_letter(
    secret: None,
    broker: str,
    topic: Callable[[int], str],
    postgres: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed and resumed: rows as the reference masks them, and letters of decoder and steps without a name."""
    monkeypatch.setenv("WAREHOUSE_DSN", postgres)
    name, key = topic(2), ["id"]
    row = {"id": 1, "name": "Geheim", "born": 7000, "note": None}
    rows = [{**row, "id": number, "name": f"Geheim {number}"} for number in range(200)]
    produce(broker, name, [change("c", None, one, key) for one in rows])
    bad = [{**row, "id": 1000, "note": "bad"}, {**row, "id": 1001, "note": "late"}]
    produce(broker, name, [change("c", None, one, key) for one in bad])
    produce(
        broker, name, [change("c", None, {**row, "id": 1002, "born": "Geheim"}, key), change("d", rows[7], None, key)]
    )
    file = tmp_path / "masked.toml"
    file.write_text(PIPELINE.replace("TOPIC", name))
    flow = f"flows.build:flow('{file}', until_end=True, source__kafka__servers='{broker}')"
    codes = run_killed_and_resumed(
        flow, tmp_path, [1.5], environment={"WAREHOUSE_DSN": postgres, "MASK_SECRET": SECRET}
    )
    assert codes[-1] == [0], (tmp_path / "process-0.log").read_text()[-3000:]
    with psycopg.connect(postgres) as connection:
        names = [one for (one,) in connection.execute("SELECT full_name FROM masked_customers")]
        ids = connection.execute("SELECT count(DISTINCT id), min(length(id)), min(born)::text FROM masked_customers")
        assert ids.fetchall() == [(199, 32, "1989-01-01")]
    tokens = mask_column(
        pa.array([one["name"] for one in rows if one["id"] != 7]),
        MaskRule("token", key=mask_key("env:MASK_SECRET", "full_name")),
    ).to_pylist()
    assert sorted(names) == sorted(tokens)
    letters = letters_of(postgres)
    assert [letter["step"] for letter in letters] == ["decode", "select-customers", "select-masked_customers"]
    assert "Geheim" not in repr(letters)
    assert letters[0]["message_offset"] is not None and letters[0]["raw_value"] is None
    produce(broker, name, [change("d", one, None, key) for one in bad])  # SQL cannot say what the refused rows are
    found = verify(str(file), source__kafka__servers=broker, state_dir=str(tmp_path / "state"))
    assert [table.difference.is_equal for table in found.tables] == [True]


def test_columns_are_followed_back_to_their_topics(secret: None, tmp_path: Path) -> None:
    """Through joins, renames, computed columns and sums: the letters of every table a masked value comes from."""
    from flows.mask_lineage import withheld

    text = PIPELINE.replace("[sink.postgres]", "")
    text = (
        text[: text.index("[[step]]")]
        + """
[tables.orders]
key = ["id"]
[tables.orders.columns]
id = "int64"
customer = "int64"
[[step]]
join = "orders"
with = "customers"
on = { customer = "id" }
take = { full_name = "who" }
[[step]]
select = { loud = "upper(who)" }
[[step]]
mask = { loud = "redact", customer = "hash" }
key = "env:MASK_SECRET"
[sink.null]
"""
    )
    pipeline = spec.parse(text, "x.toml")
    tables: dict[Any, Table] = {}
    for wired in pipeline.wiring.steps:
        for node in wired.inputs:
            names = ["id", "full_name"] if node.name == "customers" else ["id", "customer", "who"]
            columns = tuple(Column(name, parse_type("string")) for name in names)
            tables[node] = Table(pipeline.topic(node.name) if node.step < 0 else node.name, columns, ("id",))
    bindings: Any = {name: _Binding(pipeline.topic(name), settings) for name, settings in pipeline.tables.items()}
    found = withheld(pipeline.wiring.steps[2], pipeline.wiring, tables, bindings)
    assert found["", "TOPIC"] == {"name", "id"} and found["", "orders"] == {"customer"}
    assert found["", "shared"] == {"name", "id", "customer"}  # a message of which none can say whose rows it has
    assert found["join-orders-customers", "TOPIC"] == {"full_name", "id"}
    assert found["select-orders", "orders"] == {"who", "customer"}
    assert found["mask-orders", "orders"] == {"loud", "customer", "who"} - {"who"}


class _Binding:
    """What a binding says of itself, of a table that shares its topic with others."""

    partition = "shared/0"

    def __init__(self, topic: str, settings: Any) -> None:
        self.topic, self.spec = topic, settings


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('mask = { full_name = "tokn" }', "expected"),
        ('mask = { full_name = "token" }\nkey = "plain text"', "expected a reference to a secret"),
        ('mask = { full_name = { how = "redact", keep = 3 } }', "keep"),
    ],
)
def test_a_step_that_is_misspelt_is_refused(setting: str, message: str) -> None:
    """The error names file, line and setting, and never shows a secret."""
    text = PIPELINE[: PIPELINE.index("[[step]]")] + f'[[step]]\n{setting}\nof = "customers"\n[sink.null]\n'
    with pytest.raises(ConfigurationError) as caught:
        spec.parse(text, "x.toml")
    assert message in str(caught.value) and "x.toml:" in str(caught.value) and "plain text:" not in str(caught.value)


def test_a_secret_that_is_missing_or_short_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start without the secret, with a short one, or with none named for a keyed mask, is refused."""
    monkeypatch.delenv("MASK_SECRET", raising=False)
    with pytest.raises(ConfigurationError, match="MASK_SECRET is not set"):
        compile_mask(step(mask={"name": "token"}), CUSTOMERS, "people")
    monkeypatch.setenv("MASK_SECRET", "short")
    with pytest.raises(ConfigurationError, match="at least 16 bytes") as caught:
        compile_mask(step(mask={"name": "token"}), CUSTOMERS, "people")
    assert "short" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="expected a secret for `hash`"):
        compile_mask(step(mask={"name": MaskSpec(how="hash")}, key=None), CUSTOMERS, "people")

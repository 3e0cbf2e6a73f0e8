"""The transform step: every row gets its exact result or is set aside, whatever else its batch holds."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base.items import Truncate
from flows import spec, topics
from flows.enrich import Stateful
from flows.operators.batch import BatchStep
from flows.operators.transform import Transform
from flows.reading import declared_table
from flows.spec_steps import TransformStep
from flows.spec_transform import origins
from flows.spec_wiring import Node
from flows.stateful import compile_steps
from flows.transform_plan import compile_transform, files_of
from flows.verify_steps import StepTruth
from libcore.change import UNSET, ChangeBatch, Op, arrow_schema
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError, RowsError
from libcore.schema import Column, Table, parse_type
from tests.libcore.strategies import EXAMPLES

LINES = Table(
    "lines",
    (
        Column("id", parse_type("int64"), False),
        Column("name", parse_type("string")),
        Column("net", parse_type("decimal(9,2)")),
        Column("quantity", parse_type("int64")),
        Column("day", parse_type("date")),
    ),
    ("id",),
)
SHARE = {
    "name": {"how": "trim"},
    "share": {"how": "divide", "of": ("net", "quantity"), "type": "decimal(9,2)"},
}
PIPELINE = """
name = "transforms"
[source.kafka]
servers = "localhost:1"
[tables.lines]
topic = "lines"
key = ["id"]
[tables.lines.columns]
id = "int64"
name = "string"
net = "decimal(9,2)"
quantity = "int64"
at = "timestamp"
[[step]]
of = "lines"
as = "shares"
[step.transform]
name = "trim"
less = { how = "subtract", of = ["net", "0.50"], type = "decimal(9,2)" }
share = { how = "divide", of = ["less", "quantity"], type = "decimal(9,2)", rounding = "down" }
label = { how = "clean", of = "name" }
MORE
[sink.null]
"""


def plan_of(rules: dict[str, Any], file: Path = Path(), table: Table = LINES, **settings_: Any) -> Any:
    """The plan of a step with these rules."""
    return compile_transform(step_of(rules, **settings_), table, "shares", file)


def step_of(rules: dict[str, Any], **settings_: Any) -> TransformStep:
    """The step as the pipeline file gives it."""
    return TransformStep.model_validate({"transform": rules, **settings_})


def batch(rows: list[dict[str, Any]], unset: list[int] | None = None, table: Table = LINES) -> ChangeBatch:
    """Changes; upserts where nothing else is said. `unset`: the bits of each row."""
    control = {"__op": int(Op.UPSERT), "__position": bytes(32), "__source_ts": None}
    whole = [dict.fromkeys(column.name for column in table.columns) | control | row for row in rows]
    for row, bits in zip(whole, unset or (), strict=False):
        row[UNSET] = bytes([bits])
    schema = arrow_schema(table, with_unset=unset is not None)
    return ChangeBatch(table, pa.RecordBatch.from_pylist(whole, schema=schema))


def split(items: list[Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(rows, dead letters) of what a step gave."""
    parts: tuple[list[Any], list[Any]] = ([], [])
    for item in items:
        parts[item.table == DEAD_LETTERS].extend(item.record.to_pylist())
    return parts


@settings(max_examples=EXAMPLES // 4, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["row", "row", "delete"]), st.integers(0, 2) | st.none()), max_size=12))
def test_each_row_has_its_result_or_is_set_aside(course: list[tuple[str, int | None]]) -> None:
    """Deletes by key, NULLs, divisions by zero anywhere in the batch: nobody gets a neighbour's value or error."""
    rows = [
        {"id": number, "__op": int(Op.DELETE)}
        if kind == "delete"
        else {"id": number, "name": f" n{number}", "net": number, "quantity": quantity}
        for number, (kind, quantity) in enumerate(course)
    ]
    made, letters = split(Transform("flow", "transform", plan_of(SHARE))([batch(rows)]))
    bad = [row["id"] for row in rows if row.get("quantity") == 0]
    assert sorted(row["key_text"] for row in letters) == sorted(f'{{"id": {number}}}' for number in bad)
    assert all(row["error"] == "DataError: share: expected a divisor other than 0, found 0" for row in letters)
    assert {row["id"]: (row["name"], row["share"]) for row in made} == {
        row["id"]: (
            row.get("name") and row["name"].strip(),
            Decimal(row["net"]) / row["quantity"] if row.get("quantity") else None,
        )
        for row in rows
        if row["id"] not in bad
    }


@settings(max_examples=EXAMPLES // 8, deadline=None)
@given(st.lists(st.sampled_from(["good", "said", "later", "raises"]), max_size=16))
def test_rows_that_are_said_to_fail_are_taken_out_at_once(kinds: list[str]) -> None:
    """Some rows are named, some only once those are gone, some not at all: each letter is that of its row."""

    def function(rows: ChangeBatch) -> ChangeBatch:
        names = rows.record.column("name").to_pylist()
        for kind in ("said", "later"):
            if found := {row: f"expected no {kind}" for row, name in enumerate(names) if name == kind}:
                raise RowsError(found)
        if "raises" in names:
            raise ValueError("expected no raises")
        return rows

    made, letters = split(
        BatchStep("flow", "step", function)([batch([{"id": row, "name": kind} for row, kind in enumerate(kinds)])])
    )
    assert [row["id"] for row in made] == [row for row, kind in enumerate(kinds) if kind == "good"]
    assert {row["key_text"]: row["error"].rpartition(" ")[2] for row in letters} == {
        f'{{"id": {row}}}': kind for row, kind in enumerate(kinds) if kind != "good"
    }


def test_what_comes_unset_stays_unset_or_is_not_computed_with() -> None:
    """Bits of name, net, quantity: a text trimmed for itself goes on unset, a share of what is not known does not."""
    rows = [{"id": number, "name": None, "net": 4, "quantity": 2} for number in range(3)]
    name, net = 1 << 1, 1 << 2
    made, letters = split(Transform("flow", "transform", plan_of(SHARE))([batch(rows, [name, net, 0])]))
    columns = [column.name for column in plan_of(SHARE).result.columns]
    assert [(row["id"], row["share"], row[UNSET]) for row in made] == [
        (0, 2, bytes([1 << columns.index("name")])),
        (2, 2, b"\x00"),
    ]
    assert [row["key_text"] for row in letters] == ['{"id": 1}']
    assert "found one that was not sent" in letters[0]["error"]


@pytest.mark.parametrize(("other", "taken"), [("quantity", []), ("net", [0]), ("0.50", [0])])
def test_what_comes_unset_is_no_former_result_where_another_column_decides_as_well(
    other: str, taken: list[int]
) -> None:
    """A net that is not sent beside a new quantity: the target's former product would be wrong, so it is set aside."""
    plan = plan_of({"net": {"how": "multiply", "of": ("net", other), "type": "decimal(9,2)"}})
    rows = [{"id": 0, "net": None, "quantity": 3}, {"id": 1, "net": 4, "quantity": 3}]
    made, letters = split(Transform("flow", "transform", plan)([batch(rows, [1 << 2, 0])]))
    net = bytes([1 << [column.name for column in plan.result.columns].index("net")])
    assert [(row["id"], row[UNSET]) for row in made] == [*((id_, net) for id_ in taken), (1, b"\x00")]
    assert [row["key_text"] for row in letters] == ([] if taken else ['{"id": 0}'])


def test_a_table_that_gains_a_column_and_one_that_is_truncated() -> None:
    """The new column goes on, a Truncate gets the result's name, other tables are left to others."""
    grown = Table("lines", (*LINES.columns, Column("city", parse_type("string"))), ("id",))
    plan = plan_of(SHARE, drop=("net",))
    step = Transform("flow", "transform", plan)
    other = batch([{"id": 1}], table=Table("other", LINES.columns, ("id",)))
    rows, truncate = step([batch([{"id": 1, "city": "Ulm"}], table=grown), Truncate("lines", "x"), other])
    assert isinstance(rows, ChangeBatch) and rows.record.column("city").to_pylist() == ["Ulm"]
    assert truncate == Truncate("shares", "x")
    assert [column.name for column in plan.result.columns] == ["id", "quantity", "day", "name", "share"]


CSV = "from_currency,to_currency,valid_from,rate,note\nUSD,EUR,2026-01-01,0.5,x\nUSD,EUR,2026-01-05,0.123456789,\n"
TO_EUR = {"how": "currency", "of": "net", "from": "name", "to": "EUR", "on": "day", "type": "decimal(9,3)"}


def test_rates_are_read_exactly_from_either_kind_of_file(tmp_path: Path) -> None:
    """A .csv and a .parquet of the same rates give the same digits; columns that are not known are left out."""
    (tmp_path / "rates.csv").write_text(CSV)
    exact = {"valid_from": pa.date32(), "rate": pa.decimal128(12, 9)}
    table = pa.csv.read_csv(tmp_path / "rates.csv", convert_options=pa.csv.ConvertOptions(column_types=exact))
    pa.parquet.write_table(table, tmp_path / "rates.parquet")
    rows = batch([{"id": 1, "name": "USD", "net": 100, "day": date(2026, 1, number)} for number in (1, 4, 5)])
    for name in ("rates.csv", "rates.parquet"):
        rules = {"eur": {**TO_EUR, "rates": name}}
        file = tmp_path / "x.toml"
        made, _ = split(Transform("flow", "transform", plan_of(rules, file))([rows]))
        assert [row["eur"] for row in made] == [Decimal(50), Decimal(50), Decimal("12.346")]
        assert files_of(step_of(rules), file) == [tmp_path / name]


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (None, "expected a table of from_currency, to_currency, valid_from, rate, from_factor, to_factor, found"),
        (CSV.replace("0.5", "a half"), "'a half' is not a valid decimal128 number"),
        (CSV.replace("0.5", "0.0000000000000000001"), "would cause data loss"),
        (CSV.replace("0.5", ""), "expected no NULL in rate, found one"),
        (CSV.replace("rate,", "price,"), "found no rate"),
        (pa.table({"rate": [0.5]}), "rate: expected an exact number, found a float"),
    ],
)
def test_a_table_that_cannot_be_exact_is_refused(rates: Any, message: str, tmp_path: Path) -> None:
    """Before the first row, with the file, what was expected and what was found."""
    name = "rates.parquet" if isinstance(rates, pa.Table) else "rates.csv"
    if isinstance(rates, pa.Table):
        pa.parquet.write_table(rates, tmp_path / name)
    elif rates is not None:
        (tmp_path / name).write_text(rates)
    with pytest.raises(ConfigurationError) as caught:
        plan_of({"eur": {**TO_EUR, "rates": name}}, tmp_path / "x.toml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rules", "drop", "message"),
    [
        ({"id": {"how": "trim", "of": "name"}}, (), "expected columns outside of the key, found key column 'id'"),
        ({"name": "trim"}, ("id",), "expected columns outside of the key"),
        ({"name": "trim"}, ("nothing",), "drop: expected columns of ['id', 'name'"),
        ({"net": "trim"}, (), "transform.net: net: expected a column of type string, found decimal(9,2)"),
        ({"a": {"how": "trim", "of": "b"}, "b": {"how": "trim", "of": "name"}}, (), "found 'b'"),
        ({"a": {"how": "add", "of": ("net", "net"), "type": "decimal(99,2)"}}, (), "decimal(99,2)"),
        ({"name": {"how": "clean", "code_page": "klingon"}}, (), "code_page: expected one that Python knows"),
    ],
)
def test_rules_that_do_not_fit_are_refused(rules: Any, drop: tuple[str, ...], message: str) -> None:
    """The error names table, column, what was expected and what was found."""
    with pytest.raises(ConfigurationError) as caught:
        plan_of(rules, drop=drop)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('{ how = "plus", of = ["net", 1] }', 'step.0.transform.a.how: expected one of trim, clean, add,'),
        ('{ of = "name" }', "step.0.transform.a.how: expected this setting, found nothing"),
        ('{ how = "add", of = ["net", 1] }', "step.0.transform.a.type: expected this setting, found nothing"),
        ('{ how = "trim", sides = "left" }', "found unknown setting 'sides' (did you mean 'side'?)"),
        ('"trimm"', "step.0.transform.a: expected \"trim\", found \"trimm\" (did you mean 'trim'?)"),
    ],
)  # fmt: skip
def test_a_rule_that_is_misspelt_is_refused(rule: str, message: str) -> None:
    """The error leads with the very setting."""
    with pytest.raises(ConfigurationError) as caught:
        spec.parse(PIPELINE.replace("MORE", f"a = {rule}"), "x.toml")
    assert message in str(caught.value)


def test_the_step_reads_back() -> None:
    """Rules survive being written and read."""
    to = '{ how = "unit", of = "net", from = "name", to = { column = "name" }, units = "u.csv", type = "decimal(9,2)" }'
    pipeline = spec.parse(PIPELINE.replace("MORE", f"a = {to}"), "x.toml")
    assert spec.parse(spec.dumps(pipeline), "y.toml") == pipeline


def compiled(more: str) -> tuple[spec.Pipeline, tuple[Stateful, ...], dict[Node, Table]]:
    """The pipeline with more steps behind its transform, made ready."""
    pipeline = spec.parse(PIPELINE.replace("MORE", more), "x.toml")

    def shaped(binding: topics.Binding) -> Table:
        table = declared_table(binding)
        assert table is not None
        return table

    return pipeline, *compile_steps(pipeline, topics.resolve(pipeline, {"lines": 1}), shaped, "x.toml")


def test_a_column_is_followed_back_through_all_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask of the share hides what it is made of, in front of the step and at the topic; a time passes through."""
    monkeypatch.setenv("K", "a secret of sixteen bytes")
    window = 'window = "masked"\ntime = "at"\nsize = "1h"\nemit = "final"\naggregate = { n = "count(*)" }\nas = "hours"'
    mask = 'mask = { share = "null", label = "redact" }\nas = "masked"'
    pipeline, steps, _ = compiled(f"[[step]]\n{mask}\n[[step]]\n{window}")
    assert steps[1].withhold["transform-shares", "lines"] == {"name", "net", "quantity"}
    assert steps[1].withhold["", "lines"] == {"name", "net", "quantity"}
    assert steps[2].event_time is not None and steps[2].event_time.column == "at"
    transform = pipeline.step[0]
    assert isinstance(transform, TransformStep)
    assert {name: origins(transform.transform, name) for name in ("name", "less", "net")} == {
        "name": {"name"}, "less": {"net"}, "net": {"net"},
    }  # fmt: skip


def test_verification_computes_the_same_and_counts_the_refused(tmp_path: Path) -> None:
    """The plain reference over the topics' last state: values of good rows, a number of bad ones."""
    pipeline, _, tables = compiled("")
    (wired,) = pipeline.wiring.steps
    truth = StepTruth(pipeline, tables, tmp_path, 0)
    rows = [{"id": one, "name": " x ", "net": Decimal(one), "quantity": one % 3, "at": None} for one in range(7)]
    schema = pa.schema([(column.name, column.type.arrow) for column in tables[wired.inputs[0]].columns])
    truth.add(wired.inputs[0], pa.RecordBatch.from_pylist(rows, schema=schema))
    truth.compute()
    found = {row["id"]: row for part in truth.results(wired) for row in part.record.to_pylist()}
    truth.close()
    assert {one: (row["less"], row["share"], row["label"]) for one, row in found.items()} == {
        1: (Decimal("0.5"), Decimal("0.5"), "x"),
        2: (Decimal("1.5"), Decimal("0.75"), "x"),
        4: (Decimal("3.5"), Decimal("3.5"), "x"),
        5: (Decimal("4.5"), Decimal("2.25"), "x"),
    }
    assert truth.refused == 3

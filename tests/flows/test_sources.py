"""Several sources in a pipeline file, and the guard around each of their partitions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connectors.base import stop
from connectors.base.items import ClearColumn, Tick, Truncate
from connectors.base.metrics import SOURCE_FAILED
from flows import sources
from flows.isolated import Failures, Isolated
from flows.spec import dumps, parse
from libcore.change import ChangeBatch, arrow_schema
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError, FatalError, HeadraceError, TransientError
from libcore.schema import Column, Table, parse_type

FILE = """
name = "both"
[source.postgres.erp]
dsn = "env:ERP"
[source.postgres.crm]
dsn = "env:CRM"
[source.kafka]
servers = "h:1"
[tables.items]
source = "erp"
topic = "public.items"
[tables.visits]
source = "crm"
topic = "public.items"
[tables.prices]
source = "kafka"
[sink.null]
"""


def test_named_sources_are_read_and_written_back() -> None:
    """Names of sources and of their tables are as the file says, and the file's text is read back equal."""
    pipeline = parse(FILE, "x.toml")
    assert [one.name for one in pipeline.source.all] == ["kafka", "erp", "crm"]
    assert [pipeline.topic(name) for name in pipeline.tables] == ["erp.public.items", "crm.public.items", "prices"]
    assert parse(dumps(pipeline), "y.toml") == pipeline and "[source.postgres.erp]" in dumps(pipeline)
    erp = next(member for member in sources.members(pipeline) if member.name == "erp")
    assert (erp.pipeline.topic("items"), list(erp.pipeline.tables)) == ("public.items", ["items"])
    assert (erp.pipeline.source.label, erp.pipeline.source.settings.dsn) == ("erp", "env:ERP")


@pytest.mark.parametrize(
    ("old", "new", "line", "text"),
    [
        ('source = "erp"\n', "", 9, "tables.items.source: expected the name of a source, one of kafka, erp, crm"),
        ('source = "erp"', 'source = "erq"', 10, "found 'erq' (did you mean 'erp'?)"),
        ('dsn = "env:ERP"', 'dsnn = "env:ERP"', 4, "source.postgres.erp.dsnn: expected one of dsn, "),
        ('dsn = "env:ERP"', "", 3, "source.postgres.erp.dsn: expected this setting, found nothing"),
        ("[source.postgres.crm]", "[source.postgres.C-R]", 5, "expected a name of a-z"),
        ("[sink.null]", "[sink.null]\n[document]", 3, "expected one source without a name beside [document]"),
        (
            'dsn = "env:ERP"\n[source.postgres.crm]',
            'dsn = "env:ERP"\nslot = "s"\n[source.postgres.crm]\nslot = "s"',
            3,
            "expected a slot of its own for each source, found 's' twice",
        ),
    ],
)
def test_a_wrong_source_is_refused_with_its_place(old: str, new: str, line: int, text: str) -> None:
    """Missing and unknown names, settings of a named source, what does not fit: file, line, expected, found."""
    with pytest.raises(ConfigurationError) as caught:
        parse(FILE.replace(old, new, 1), "x.toml")
    assert text in str(caught.value), str(caught.value)
    assert f"x.toml:{line}: " in str(caught.value), str(caught.value)


def test_items_carry_their_source_s_name() -> None:
    """Tables of batches, markers and dead letters get the source's name; a source without one keeps its items."""
    table = Table("public.items", (Column("id", parse_type("int64"), False),), ("id",))
    batch, shown = empty(table), sources.Shown("erp.", "erp.slot")
    named = shown(batch)
    assert isinstance(named, ChangeBatch) and named.table == Table("erp.public.items", table.columns, table.key)
    assert shown(batch).table is named.table  # type: ignore[union-attr]
    assert shown(Truncate("t", "t:0:1")) == Truncate("erp.t", "erp.t:0:1")
    assert shown(ClearColumn("t", "c", "i")) == ClearColumn("erp.t", "c", "erp.i")
    tick = shown(Tick("slot"))
    assert isinstance(tick, Tick) and tick.partition == "erp.slot"
    row = dict.fromkeys(column.name for column in DEAD_LETTERS.columns) | {"table_name": "t"}
    schema = pa.schema([field.with_nullable(True) for field in arrow_schema(DEAD_LETTERS)])
    told = shown(ChangeBatch(DEAD_LETTERS, pa.RecordBatch.from_pylist([row], schema)))
    assert isinstance(told, ChangeBatch) and told.record.column("table_name").to_pylist() == ["erp.t"]
    assert sources.Shown("")(batch) is batch


def empty(table: Table) -> ChangeBatch:
    return ChangeBatch(table, pa.RecordBatch.from_pylist([], arrow_schema(table)))


ROWS = [Truncate("t", "i"), Tick()]


class Part:
    """A partition that counts, and raises what it is told to."""

    def __init__(self, state: Any) -> None:
        self.state, self.closed = state or 0, False
        self.raises: HeadraceError | None = None

    def next_batch(self) -> list[Any]:
        if self.raises is not None:
            raise self.raises
        self.state += 1
        return [Tick("inner")] if self.state == 1 else [Truncate("t", "i"), Tick("inner")]

    def next_awake(self) -> None:
        return None

    def snapshot(self) -> int:
        return self.state

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def built() -> Iterator[list[Part]]:
    """Every partition that was made."""
    yield []
    stop.reset()


def guard(
    built: list[Part], failures: Failures, name: str, state: Any = None, *, until_end: bool = False
) -> tuple[Isolated, Part]:
    def build(at: Any) -> Part:
        built.append(Part(at))
        return built[-1]

    made = Isolated(
        name, f"{name}.p", build, state, lambda: None, failures, until_end=until_end, shown=sources.Shown("")
    )
    return made, built[-1]


def epoch(part: Isolated) -> tuple[list[Any], Any]:
    return part.next_batch(), part.snapshot()


def test_a_failed_source_stops_with_its_position_in_every_process(built: list[Part], tmp_path: Path) -> None:
    """Its position stays, its last rows get two Ticks, other processes see it, other sources go on; a start forgets."""
    failures, elsewhere = Failures(["erp", "crm"], tmp_path), Failures(["erp", "crm"], tmp_path)
    erp, inner = guard(built, failures, "erp", 5)
    crm, _ = guard(built, failures, "crm", 5)
    sibling, other = guard(built, elsewhere, "erp", 8)
    assert epoch(erp) == (ROWS, 6)
    inner.raises = FatalError("slot lost")
    assert [epoch(erp) for _ in range(3)] == [([Tick()], 6), ([Tick()], 6), ([], 6)]
    assert epoch(crm) == (ROWS, 6)
    assert [epoch(sibling) for _ in range(3)] == [([Tick()], 8), ([Tick()], 8), ([], 8)] and other.state == 8
    assert SOURCE_FAILED.labels("erp")._value.get() == 1 and SOURCE_FAILED.labels("crm")._value.get() == 0
    stop.request()
    assert epoch(erp) == ([Tick()], 6)
    with pytest.raises(StopIteration):
        erp.next_batch()
    failures.forget()
    assert not failures.failed("erp") and not list(tmp_path.glob("*.json"))


def test_the_last_source_that_fails_ends_the_flow(built: list[Part], tmp_path: Path) -> None:
    """With no source left the error is raised, as it is where a run ends with its data, or a source never began."""
    failures = Failures(["erp", "crm"], tmp_path)
    erp, first = guard(built, failures, "erp", 5)
    crm, second = guard(built, failures, "crm", 5)
    first.raises, second.raises = FatalError("one"), FatalError("two")
    erp.next_batch()
    with pytest.raises(FatalError, match="source crm: two"):
        crm.next_batch()
    for until_end, error in ((True, FatalError("three")), (False, ConfigurationError("three"))):
        part, inner = guard(built, Failures(["erp", "crm"]), "erp", until_end=until_end)
        epoch(part)  # a Tick only: it has not begun
        inner.raises = error
        with pytest.raises(type(error), match="source erp: three"):
            part.next_batch()
    begun = Failures(["erp", "crm"], tmp_path)
    begun.begin("erp")
    part, inner = guard(built, Failures(["erp", "crm"], tmp_path), "erp")
    inner.raises = ConfigurationError("four")
    Failures(["erp", "crm"], tmp_path).forget()
    assert epoch(part)[0] == [Tick()]


def test_a_partition_that_may_be_tried_again_goes_on_where_it_was(built: list[Part]) -> None:
    """A TransientError costs the partition: a new one is made from its last state, and nothing is counted as failed."""
    failures = Failures(["erp", "crm"])
    part, inner = guard(built, failures, "erp", 5)
    epoch(part)
    inner.raises = TransientError("gone")
    assert epoch(part) == ([Tick()], 6)
    deadline = time.monotonic() + 20
    while len(built) == 1 and time.monotonic() < deadline:
        assert epoch(part)[1] == 6
        time.sleep(0.02)
    assert epoch(part) == (ROWS, 7)
    assert inner.closed and not failures.failed("erp")
    part.close()

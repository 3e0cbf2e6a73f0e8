"""The batches of bench.kernels: for each kernel a call of its face on rows that do not change from run to run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bench.kernels import Case

_KEY = (0, 1)  # order_id and line_no of the item lines


def _items(rows: int) -> pa.RecordBatch:
    from bench import table

    return table.rows(rows)


def _one(header: str, function: str, batch: str, record: Any, call: Callable[[], object]) -> Case:
    """A case of one function; `record` has rows and bytes."""
    rows = record.num_rows if isinstance(record, pa.RecordBatch) else len(record)
    return Case(header, (function,), batch, rows, record.nbytes, call)


def json_messages(rows: int) -> list[Case]:
    """Debezium's JSON: judged, and decoded."""
    from bench import decode, generate
    from libcore import arrow_c
    from libcore.decode import decode_envelopes

    record, plan = decode.messages(generate.cached(rows), limit=rows), decode.plan()
    values = pa.RecordBatch.from_arrays([record["value"]], names=["value"])

    def validate() -> None:
        # the face makes a list of pairs, so the kernel is called here
        ffi = arrow_c.ffi
        codes, positions = ffi.new("int32_t[]", rows), ffi.new("int64_t[]", rows)
        with arrow_c.exported(values) as array:
            arrow_c.check(arrow_c.lib.lc_json_validate(array, 0, codes, positions, ffi.NULL), ffi.NULL)

    what = "Debezium envelopes of item lines, 8 columns"
    return [
        _one("json", "lc_json_validate", what, values, validate),
        _one("envelope", "lc_envelope_decode", what, record, lambda: decode_envelopes(plan, record)),
    ]


def avro_messages(rows: int) -> list[Case]:
    """Debezium's Avro."""
    from bench import avro, decode, generate
    from libcore.avro import decode_avro

    record, plan = avro.as_avro(decode.messages(generate.cached(rows), limit=rows)), avro.plan()
    what = "the same envelopes in Avro, Confluent's frame"
    return [_one("avro", "lc_avro_decode", what, record, lambda: decode_avro(plan, record))]


def source_messages(rows: int) -> list[Case]:
    """What PostgreSQL, Oracle, OpenLogReplicator and SAP send themselves."""
    from bench import openlogreplicator, pgoutput, redo, sapfmt
    from libcore.openlogreplicator import split
    from libcore.redo import parse_redo
    from libcore.sapfmt import read_rows

    messages, statements, cells = pgoutput.messages(rows), redo.statements(rows), sapfmt.rows(rows)
    redo_plan, sap_plan, changes = redo.plan(), sapfmt.plan(), openlogreplicator.messages(rows)
    return [
        _one("pgoutput", "lc_pgoutput_decode", "item lines as text tuples", messages, pgoutput.decoder(messages)),
        _one(
            "redo", "lc_redo_parse", "statements of item lines", statements, lambda: parse_redo(redo_plan, statements)
        ),
        _one(
            "openlogreplicator",
            "lc_openlogreplicator_split",
            "changes of two tables, a message each",
            changes,
            lambda: split(openlogreplicator.TABLES, changes),
        ),
        _one("sapfmt", "lc_sap_read", "VBAP rows, 10 fields", cells, lambda: read_rows(sap_plan, cells)),
    ]


def sap_columns(rows: int) -> list[Case]:
    """Columns of SAP values."""
    from libcore.sapfmt_columns import from_code_page, shift_amounts
    from libcore.schema import parse_type

    amounts = _items(rows)["unit_price"]
    currencies = pa.array(["EUR", "JPY", "KWD", "USD"] * (rows // 4) + ["EUR"] * (rows % 4))
    both = pa.RecordBatch.from_arrays([amounts, currencies], names=["amount", "currency"])
    target, decimals = parse_type("decimal(22,5)"), {"JPY": 0, "KWD": 3}
    texts = pa.array([f"Lieferung {i:07d} für Größe 7".encode("iso8859-1") for i in range(rows)], pa.binary())
    return [
        _one("sapfmt", "lc_sap_shift", "amounts of four currencies", both,
             lambda: shift_amounts(amounts, currencies, decimals, target)),
        _one("sapfmt", "lc_sap_transcode", "texts in ISO 8859-1", texts, lambda: from_code_page(texts, "1100")),
    ]  # fmt: skip


def text_files(rows: int) -> list[Case]:
    """Files: delimited and of fixed width."""
    from bench import delimited, sapfmt
    from libcore.delimited import DelimitedPlan, TextColumn, read_delimited
    from libcore.delimited_types import FixedPlan, RecordKind
    from libcore.fixed_width import read_fixed
    from libcore.schema import Column, parse_type

    def column(name: str, kind: str, **more: Any) -> TextColumn:
        return TextColumn(Column(name, parse_type(kind)), **more)

    lines = delimited.csv_bytes(80 * rows).split(b"\n", 1)[1].split(b"\n")[:rows]
    data = b"\n".join(lines) + b"\n"
    # csv_bytes writes its header first; the plan reads the rest by place
    kinds = ("int64", "int32", "string", "decimal(12,3)", "decimal(12,2)", "string", "date", "timestamp")
    names = [name for name, _ in zip("abcdefgh", kinds, strict=True)]
    head = ",".join(names).encode() + b"\n"
    plan = DelimitedPlan(tuple(map(column, names, kinds)))
    fixed, offset = [], 0
    types = {"C": "string", "N": "int32", "D": "date", "T": "string", "P": "string"}
    for name, length, letter, _ in sapfmt.FIELDS:
        more: dict[str, Any] = {"pattern": "%Y%m%d"} if letter == "D" else {}
        fixed.append(column(name, types[letter], offset=offset, length=length, **more))
        offset += length
    wide = FixedPlan((RecordKind("item", tuple(fixed)),))
    records = "\n".join(sapfmt.rows(rows).to_pylist()).encode() + b"\n"
    return [
        Case("delimited", ("lc_delimited_read",), "CSV of item lines, 8 columns", len(lines), len(data),
             lambda: read_delimited(plan, head + data, final=True, rows_max=rows)),
        Case("fixed_width", ("lc_fixed_read",), "VBAP rows, 10 columns", rows, len(records),
             lambda: read_fixed(wide, records, final=True, rows_max=rows)),
    ]  # fmt: skip


def idocs(rows: int) -> list[Case]:
    """A flat IDoc file: the fixed-width reader on padded lines whose kind stands in front."""
    from libcore.delimited_types import TextColumn
    from libcore.idoc import IdocPlan, IdocSegment, read_idoc_flat
    from libcore.schema import Column, parse_type

    lines = (
        f"{'E2EDP01006':30}100{42:016d}{i % 10**6:06d}00000102{10 * i % 10**6:06d}{i:14d}.000" for i in range(rows)
    )
    data = "".join(f"{line}\n" for line in lines).encode()
    columns = (("POSEX", "int32", 0, 6), ("MENGE", "decimal(15,3)", 6, 18))
    texts = tuple(TextColumn(Column(name, parse_type(kind)), offset=at, length=n) for name, kind, at, n in columns)
    plan = IdocPlan((IdocSegment("E1EDP01", "E2EDP01006", texts),))
    return [
        Case("fixed_width", ("lc_fixed_read",), "flat IDoc, 6 columns", rows, len(data),
             lambda: read_idoc_flat(plan, data, final=True, rows_max=rows)),
    ]  # fmt: skip


def keys(rows: int) -> list[Case]:
    """Hash, slot, bucket, the last change of a key."""
    from libcore.hashing import hash_rows, xxh64
    from libcore.slots import scatter, take

    record = _items(rows)
    hashes, buckets = hash_rows(record, _KEY), bytes(i % 8 for i in range(1024))
    shuffled = pc.sort_indices(hashes).cast(pa.int32())
    block = pa.py_buffer(bytes(range(256)) * (rows // 2))
    what = "item lines, 8 columns"
    return [
        _one("hash", "lc_hash_rows", f"{what}, key int64 and int32", record.select(_KEY),
             lambda: hash_rows(record, _KEY)),
        Case("hash", ("lc_xxh64",), "one block, 128 bytes of it counted as a row", rows, block.size,
             lambda: xxh64(block)),
        _one("slots", "lc_scatter", f"{what}, into 8 buckets", record, lambda: scatter(record, hashes, 1024, buckets)),
        _one("slots", "lc_take", f"{what}, in the order of their hashes", record, lambda: take(record, shuffled)),
    ]  # fmt: skip


def last_changes(rows: int) -> list[Case]:
    """Compact, with and without a key."""
    from libcore.change import arrow_schema
    from libcore.compact import compact
    from libcore.schema import Column, Table, parse_type

    record = _items(rows // 2)
    kinds = {"order_id": "int64", "line_no": "int64", "sku": "string", "quantity": "int64",
             "unit_price": "decimal(18,4)", "discount": "decimal(5,2)", "note": "string",
             "created_at": "timestamp"}  # fmt: skip
    columns = tuple(Column(name, parse_type(kinds[name])) for name in record.schema.names)
    table = Table("items", columns, ("order_id", "line_no"))
    twice = pa.concat_batches([record, record])
    n = twice.num_rows
    positions = pa.array([i.to_bytes(32, "big") for i in range(1, n + 1)], pa.binary(32))
    control = [pa.array([1] * n, pa.int8()), positions, pa.nulls(n, pa.timestamp("us", tz="UTC"))]
    changes = pa.RecordBatch.from_arrays([*twice.columns, *control], schema=arrow_schema(table))
    keyless = Table("items", columns)
    return [
        _one("compact", "lc_compact", "item lines, each key twice", changes, lambda: compact(changes, table)),
        _one("compact", "lc_compact", "item lines without a key, each twice", changes,
             lambda: compact(changes, keyless)),
    ]  # fmt: skip


def store(rows: int) -> list[Case]:
    """The keyed store: filled, looked up, changed, emptied."""
    from libcore.table import RowStore

    record = _items(rows)
    wanted, orders = record.select(_KEY), record.select([0])
    loaded = record.append_column("__op", pa.array([1] * rows, pa.int8()))
    full = RowStore(record.schema, _KEY, index=(0,))
    full.upsert(record)
    found, what = full.find(wanted), "item lines, 8 columns, key of 2"

    def fill() -> None:
        fresh = RowStore(record.schema, _KEY)
        fresh.upsert(record)
        fresh.changed()
        fresh.delete(wanted)
        fresh.load(loaded)

    def settle() -> None:
        fresh = RowStore(record.schema, _KEY)
        fresh.upsert(record)
        fresh.mark()
        fresh.clear()

    names = ("lc_table_upsert", "lc_table_changed", "lc_table_delete", "lc_table_load")
    return [
        Case("table", names, f"{what}, into an empty store", rows, record.nbytes, fill),
        Case("table", ("lc_table_mark", "lc_table_clear"), f"{what}, all new", rows, record.nbytes, settle),
        _one("table", "lc_table_upsert", f"{what}, in the place of what is there, index", record,
             lambda: full.upsert(record)),
        _one("table", "lc_table_find", what, wanted, lambda: full.find(wanted)),
        _one("table", "lc_table_slots_of", what, wanted, lambda: full.slots_of(wanted)),
        _one("table", "lc_table_take", what, record, lambda: full.take(found)),
        _one("table", "lc_table_matches", "orders of 4 lines each, by index", orders, lambda: full.matches(orders)),
        _one("table", "lc_table_whole", what, record, full.whole),
    ]  # fmt: skip


def files(rows: int) -> list[Case]:
    """Segments, digests and COPY."""
    from libcore import digest, pgcopy, segment
    from libcore.schema import Column, Table, parse_type

    record = _items(rows)
    table = Table("items", tuple(Column(name, parse_type("int64")) for name in ("order_id", "line_no")))
    sealed = segment.write([(table, record.select(_KEY))], {})
    types = [None] * record.num_columns
    what = "item lines, 8 columns"
    return [
        Case("segment", ("lc_segment_check",), "two int64 columns", rows, sealed.size, lambda: segment.read(sealed)),
        _one("digest", "lc_digest_rows", f"{what}, of the table", record, lambda: digest.digest_table(record)),
        _one("digest", "lc_digest_rows", f"{what}, of each row", record, lambda: digest.digest_rows(record)),
        Case("pgcopy", ("lc_pgcopy", "lc_pgcopy_bound"), what, rows, record.nbytes,
             lambda: pgcopy.encode(record, types)),
    ]  # fmt: skip


def decimals(rows: int) -> list[Case]:
    """Exact decimals from and to text."""
    from libcore import decimal

    values = _items(rows)["unit_price"]
    texts = decimal.to_text(values)
    integers = pa.array([(i * 7919 % 10**7).to_bytes(5, "big") for i in range(rows)], pa.binary())
    return [
        _one("decimal", "lc_decimal_read_text", "prices of 4 fraction digits", texts,
             lambda: decimal.from_text(texts, 18, 4)),
        _one("decimal", "lc_decimal_read_bytes", "integers of 5 bytes", integers,
             lambda: decimal.from_bytes(integers, 4, 18, 4)),
        _one("decimal", "lc_decimal_write_text", "prices of 4 fraction digits", values,
             lambda: decimal.to_text(values)),
    ]  # fmt: skip


def transforms(rows: int) -> list[Case]:
    """Arithmetic that rounds once, factors chosen by row, and looking up what was valid on a day."""
    from fractions import Fraction

    from libcore.schema import parse_type
    from libcore.transform import affine, arithmetic, asof, asof_key

    record = _items(rows)
    price, discount = record["unit_price"], record["discount"]
    pair = pa.RecordBatch.from_arrays([price, discount], names=["left", "right"])
    chosen = pa.array([i % 50 for i in range(rows)], pa.int32())
    rated = pa.RecordBatch.from_arrays([price, chosen], names=["value", "chosen"])
    factors = [(Fraction(1000 + i, 997), Fraction(0)) for i in range(50)]
    keys = pa.array([asof_key(group, day) for group in range(50) for day in range(0, 400, 20)], pa.int64())
    probes = pa.array([asof_key(i % 50, i * 7 % 400) for i in range(rows)], pa.int64())
    kind = parse_type("decimal(38,6)")
    return [
        _one("transform", "lc_decimal_arithmetic", "prices times discounts", pair,
             lambda: arithmetic("multiply", price, discount, kind)),
        _one("transform", "lc_decimal_affine", "prices by 50 rates", rated,
             lambda: affine(price, chosen, factors, kind)),
        _one("transform", "lc_asof_search", "50 groups of 20 days", probes, lambda: asof(keys, probes)),
    ]  # fmt: skip


def windows(rows: int) -> list[Case]:
    """Groups, sums and averages."""
    from libcore.window_kernels import Kind, Sum, averages, group_rows, sum_rows

    record = _items(rows)
    groups, firsts = group_rows(record, [2])
    field = pa.field("sum", pa.decimal128(38, 4))
    sums = [Sum(Kind.SUM, 4, (field,))]
    totals = record["unit_price"].cast(pa.decimal128(38, 4))
    counts = pa.array(range(1, rows + 1), pa.int64())
    both = pa.RecordBatch.from_arrays([totals, counts], names=["sum", "count"])
    return [
        _one("window", "lc_window_groups", "item lines by sku", record.select([2]), lambda: group_rows(record, [2])),
        _one("window", "lc_window_sums", "a decimal by sku", record.select([4]),
             lambda: sum_rows(record, groups, len(firsts), -1, sums)),
        _one("window", "lc_window_averages", "decimals of 38 digits", both,
             lambda: averages(totals, counts, pa.decimal128(38, 6))),
    ]  # fmt: skip


def joins(rows: int) -> list[Case]:
    """The three stages of a join, a fact and its dimension."""
    from bench import join
    from libcore import build_ffi
    from libcore.join import VERSION, latest_core

    pairs = join.batches(rows, rows)
    declared = build_ffi.declarations()
    asked = ("lc_latest_take", "lc_join_route", "lc_join_facts", "lc_join_dimension", "lc_join_next")
    functions = tuple(name for name in asked if f" {name}(" in declared)
    size = sum(change.record.nbytes for pair in pairs for change in pair if change is not None)
    what = "order lines and their orders, per event of both"
    versions = pa.array(range(rows), pa.int64())
    passed = _items(rows).select(_KEY).append_column(pa.field(VERSION, pa.int64()), versions)
    latest = latest_core(passed.schema)

    def epoch() -> None:
        latest.take(passed)
        latest.clear()

    return [
        Case("join", functions, what, rows, size, lambda: join._run(pairs)),
        _one("join", "lc_latest_clear", "an epoch of item lines, key of 2", passed, epoch),
    ]


MAKERS: tuple[Callable[[int], list[Case]], ...] = (
    json_messages, avro_messages, source_messages, text_files, idocs, sap_columns, keys, last_changes, store, files,
    joins, windows, decimals, transforms,
)  # fmt: skip

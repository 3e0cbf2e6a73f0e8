"""Parsing Oracle's redo statements: C agrees with the reference on everything, and both keep the rules one by one."""

from __future__ import annotations

from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore import redo as face
from libcore.change import OP, UNSET, Op
from libcore.errors import ConfigurationError
from libcore.redo_types import Redo, RedoCode, RedoColumn, RedoPlan
from libcore.reference import redo as reference
from libcore.reference.values import plain
from libcore.schema import Column, Table, parse_type
from tests.libcore.batches import same
from tests.libcore.redo_statements import fitting, pieces, plan_of, quoted, spoilt, statement
from tests.libcore.strategies import EXAMPLES

FACES = pytest.mark.parametrize("parse", [face.parse_redo, reference.parse_redo], ids=["face", "reference"])
Parse = Any
PLANS = [
    plan_of(key=("ID",)),
    plan_of(key=("ID",), creates=True, relaxed=True),
    plan_of("ID", "NAME", "AMOUNT", key=("ID", "NAME"), relaxed=True, skip_unknown=True),
    plan_of("ID", "NAME", "Mixed Case", "CLOB"),
    plan_of(images=True, local_is_utc=True),
    plan_of("TZ", "F8", "RAW", "X,Y", key=("F8", "RAW"), local_is_utc=True),
]


def told(made: Redo) -> tuple[Any, ...]:
    """All that a call answers but the record."""
    return made.rows.to_pylist(), made.before.to_pylist(), made.unavailable.to_pylist(), made.errors, made.consumed


def check_agreement(plan: RedoPlan, statements: pa.RecordBatch) -> Redo:
    """What C makes of it, which is what the reference makes of it."""
    mine, expected = face.parse_redo(plan, statements), reference.parse_redo(plan, statements)
    assert told(mine) == told(expected)
    assert same(mine.record, expected.record)
    mine.record.validate(full=True)
    return mine


def batch(*statements: str | bytes | None) -> pa.RecordBatch:
    """A batch of whole statements."""
    data = [one.encode() if isinstance(one, str) else one for one in statements]
    return pa.RecordBatch.from_arrays([pa.array(data, pa.binary())], names=["sql"])


@settings(max_examples=EXAMPLES)
@given(st.sampled_from(PLANS), st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.7]))
def test_agrees_with_the_reference(plan: RedoPlan, seed: int, wild: float) -> None:
    """C and the reference make the same rows and errors of any batch of statements, in pieces or whole, good or not."""
    random = Random(seed)
    statements: list[bytes | None] = []
    for _ in range(random.randint(0, 12)):
        data: bytes | None = statement(random, plan, wild).encode()
        if data is not None and random.random() < 0.2:
            data = spoilt(random, data)
        statements.append(data if random.random() < 0.98 else None)
    made = pieces(random, statements)
    check_agreement(plan, made)
    check_agreement(plan, made.slice(min(1, made.num_rows)))


@settings(max_examples=EXAMPLES)
@given(st.sampled_from(PLANS), st.binary(max_size=60))
def test_agrees_with_the_reference_on_any_bytes(plan: RedoPlan, data: bytes) -> None:
    """Bytes that are no statement at all, alone or behind the head of one, give the same errors."""
    check_agreement(plan, batch(data, b'insert into T("ID") values (' + data, b"delete from T where " + data, data))


WORDS = st.sampled_from(["it", "s, ok", "O", "Neil", "d", "rock", "n", "and x", "where", ") y"])
FORGOTTEN = st.lists(WORDS, min_size=2, max_size=4).map("'".join)
DOUBLED = st.text("ab',; )=|\"", max_size=12)


@settings(max_examples=EXAMPLES // 2)
@given(FORGOTTEN, DOUBLED, st.booleans())
def test_one_forgotten_apostrophe_leaves_the_other_texts_alone(bad: str, good: str, first: bool) -> None:
    """Beside a text whose apostrophes were not doubled, one whose were keeps every character."""
    plan = plan_of("ID", "NAME", "Mixed Case", key=("ID",), relaxed=True)
    names = ("NAME", "Mixed Case") if first else ("Mixed Case", "NAME")
    insert = f'insert into T("{names[0]}","{names[1]}", "ID") values (\'{bad}\', {quoted(good)},1);'
    update = f'update T set "{names[0]}" = \'{bad}\', "{names[1]}" = {quoted(good)} where "ID" = 1;'
    delete = f'delete from T where "{names[0]}" = \'{bad}\' and "{names[1]}" = {quoted(good)} and "ID" = \'1\''
    made = check_agreement(plan, batch(insert, update, delete))
    assert not made.errors
    assert made.record[names[0].lower()].to_pylist() == [bad, bad, None]
    assert made.record[names[1].lower()].to_pylist() == [good, good, None]


@settings(max_examples=EXAMPLES)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.text("';,) \"|andwhere=NULL", max_size=20))
def test_every_text_comes_through(name: str, other: str) -> None:
    """Whatever characters a text has, an insert and an update bring exactly these."""
    plan = plan_of("ID", "NAME", "Mixed Case", key=("ID",))
    insert = f'insert into "T"("ID","NAME","Mixed Case") values (1,{quoted(name)},{quoted(other)});'
    update = f'update "T" set "NAME" = {quoted(other)} where "ID" = 1 and "Mixed Case" = {quoted(name)};'
    made = face.parse_redo(plan, batch(insert, update))
    assert made.record["name"].to_pylist() == [name, other]
    assert made.record["mixed case"].to_pylist() == [other, name]


@settings(max_examples=EXAMPLES // 2)
@given(st.integers(0, 2**32))
def test_pieces_are_the_statement(seed: int) -> None:
    """However a statement is cut by CSF, it gives the rows of the whole; what lacks its end waits for the next call."""
    random, plan = Random(seed), PLANS[2]
    whole = [statement(random, plan, 0.1).encode() for _ in range(5)]
    expected = face.parse_redo(plan, batch(*whole))
    cut = pieces(random, list(whole))
    made = face.parse_redo(plan, cut)
    rest = cut.slice(made.consumed)
    names = [OP, *(column.name for column in plan.table.columns)]
    first = expected.record.slice(0, made.record.num_rows)
    assert same(made.record.select(names), first.select(names))
    if rest.num_rows:
        ended = rest.set_column(1, "csf", pa.array([1] * (rest.num_rows - 1) + [0], pa.int64()))
        last = face.parse_redo(plan, ended)
        assert len(last.errors) + len(made.errors) == len(expected.errors)
        assert last.record.num_rows + made.record.num_rows == expected.record.num_rows


ID_NAME = plan_of("ID", "NAME", "AMOUNT", key=("ID",))
FULL = "where \"ID\" = '1' and \"NAME\" = 'a' and \"AMOUNT\" = '1.50';"


def rows_of(made: Redo) -> list[tuple[Any, ...]]:
    """(op, values with "unset" where a column is)."""
    assert not made.errors, made.errors
    columns = [column.to_pylist() for column in made.record.columns]
    names = made.record.schema.names
    unset = columns[names.index(UNSET)] if UNSET in names else [b"\x00" * 8] * made.record.num_rows
    count = names.index(OP)
    return [
        (
            Op(columns[count][row]),
            *("unset" if unset[row][c // 8] >> c % 8 & 1 else columns[c][row] for c in range(count)),
        )
        for row in range(made.record.num_rows)
    ]


@FACES
def test_an_update_is_laid_over_its_old_row(parse: Parse) -> None:
    """A column that `set` names has the new value, another the one behind `where`, and one of neither is unset."""
    made = parse(ID_NAME, batch(f'update "T" set "NAME" = NULL {FULL}', 'update "T" set "NAME" = \'x\' where "ID" = 1'))
    amount = parse_type("decimal(10,2)").arrow
    first, second = rows_of(made)
    assert first == (Op.UPSERT, 1, None, pa.scalar("1.50").cast(amount).as_py())
    assert second == (Op.UPSERT, 1, "x", "unset")


@FACES
def test_a_changed_key_is_a_delete_and_an_upsert(parse: Parse) -> None:
    """A new key deletes the old one first; the same key written in another way is no change."""
    moved = parse(ID_NAME, batch(f'update "T" set "ID" = \'2\' {FULL}'))
    assert [row[:2] for row in rows_of(moved)] == [(Op.DELETE, 1), (Op.UPSERT, 2)]
    assert moved.before.to_pylist() == [True, False]
    kept = parse(ID_NAME, batch(f'update "T" set "ID" = 1.0 {FULL}'))
    assert [row[:2] for row in rows_of(kept)] == [(Op.UPSERT, 1)]


@FACES
def test_unknown_values_are_marked(parse: Parse) -> None:
    """A value that LogMiner does not say is unset, never the old one, and its row says that the value is lost."""
    made = parse(ID_NAME, batch(f'update "T" set "NAME" = Unsupported Type {FULL}', f'update "T" set "ID" = 1 {FULL}'))
    assert [row[2] for row in rows_of(made)] == ["unset", "a"]
    assert made.unavailable.to_pylist() == [True, False]


@FACES
def test_inserts_and_deletes(parse: Parse) -> None:
    """An insert says so where the plan asks for it; a delete has its key alone."""
    plan = plan_of("ID", "NAME", key=("ID",), creates=True)
    made = parse(
        plan, batch("insert into T(ID, NAME) values (1, 'a')", "delete from T a where a.NAME = 'a' and a.ID=1")
    )
    assert rows_of(made) == [(Op.INSERT, 1, "a"), (Op.DELETE, 1, None)]


@FACES
def test_a_table_without_a_key_needs_whole_rows(parse: Parse) -> None:
    """An update takes one copy of the old row and adds one of the new; a column that nobody names is an error."""
    plan = plan_of("ID", "NAME")
    good = 'update T set "NAME" = \'b\' where "ID" = 1 and "NAME" IS NULL'
    made = parse(plan, batch(good, 'delete from T where "ID" = 1', "insert into T(ID) values (1)"))
    assert [row[1:] for row in rows_of(Redo(made.record, made.rows, made.before, made.unavailable, [], 0))] == [
        (1, None),
        (1, "b"),
    ]
    assert [(error.row, error.code) for error in made.errors] == [(1, RedoCode.BEFORE), (2, RedoCode.BEFORE)]


@FACES
def test_images_give_old_and_new_rows(parse: Parse) -> None:
    """Asked for images, every update has its whole old row and its new one."""
    plan = plan_of("ID", "NAME", key=("ID",), images=True)
    made = parse(plan, batch("update T set NAME = 'b' where NAME = 'a'", "delete from T where NAME = 'b'"))
    assert rows_of(made) == [(Op.DELETE, "unset", "a"), (Op.UPSERT, "unset", "b"), (Op.DELETE, "unset", "b")]
    assert made.before.to_pylist() == [True, False, True]


@FACES
@pytest.mark.parametrize(
    ("clause", "name"),
    [
        ("insert into T(ID,NAME) values (1,'it's');", "it's"),
        ("insert into T(NAME,ID) values ('O'Neil, x','1');", "O'Neil, x"),
        ("insert into T(NAME,ID) values ('d'Arc''s',1);", "d'Arc's"),
        ("update T set NAME = 'it's' where \"ID\" = '1'", "it's"),
        ('update T set "ID" = 1, "NAME" = \'a\' or b\' where "ID" = \'1\';', "a' or b"),
        ("insert into T(NAME,ID) values ('x'y' || UNISTR('\\0041'),1);", "x'yA"),
    ],
)
def test_forgotten_apostrophes(parse: Parse, clause: str, name: str) -> None:
    """A text whose apostrophes were not doubled is read by where the statement can go on; only where the plan says."""
    made = parse(plan_of("ID", "NAME", key=("ID",), relaxed=True), batch(clause))
    assert [row[1:] for row in rows_of(made)] == [(1, name)]
    assert parse(plan_of("ID", "NAME", key=("ID",)), batch(clause)).errors[0].code == RedoCode.SYNTAX


@FACES
@pytest.mark.parametrize(
    "clause",
    [
        "update T set \"NAME\" = '5'', \"ID\" = '2' where \"ID\" = '1'",
        "update T set \"NAME\" = '5'' where \"ID\" = '1';",
        "delete from T where \"NAME\" = '5'' and \"ID\" = '1'",
    ],
)
def test_a_forgotten_apostrophe_before_the_end_takes_nothing_along(parse: Parse, clause: str) -> None:
    """Where the last character of a text is an apostrophe that was not doubled, what follows is not taken for text."""
    for plan in (plan_of("ID", "NAME", key=("ID",), relaxed=True), plan_of("ID", "NAME", relaxed=True)):
        made = parse(plan, batch(clause))
        assert [error.code for error in made.errors] == [RedoCode.SYNTAX]
        assert made.record.num_rows == 0


@FACES
@pytest.mark.parametrize(
    ("text", "code", "at"),
    [
        ("commit;", RedoCode.STATEMENT, 0),
        ("No SQL_UNDO/NO SQL_REDO for temporary tables", RedoCode.STATEMENT, 0),
        ("", RedoCode.STATEMENT, 0),
        ("  alter table T add x", RedoCode.STATEMENT, 2),
        ("insert into T(ID) values (1) x", RedoCode.SYNTAX, 29),
        ("insert into T(ID) values (1,2)", RedoCode.SYNTAX, 27),
        ("insert into T(ID,NAME) values (1)", RedoCode.SYNTAX, 32),
        ("insert into T(ID) values ('1", RedoCode.SYNTAX, 28),
        ("insert into T(ID) values (FOO)", RedoCode.SYNTAX, 26),
        ('insert into T("NOT") values (1)', RedoCode.COLUMN, 14),
        ('insert into T("ID","ID") values (1,1)', RedoCode.DUPLICATE, 19),
        ("update T set ID = 1 where ID = 1 or ID = 2", RedoCode.SYNTAX, 33),
        ("insert into T(ID) values ('x')", RedoCode.TYPE, 26),
        ("insert into T(ID) values ('1.5')", RedoCode.SCALE, 26),
        ("insert into T(ID) values (9223372036854775808)", RedoCode.RANGE, 26),
        ("insert into T(NAME,ID) values (UNISTR('a\\D83D'),1)", RedoCode.SURROGATE, 40),
        ("insert into T(NAME,ID) values (UNISTR('\\D83Dx'),1)", RedoCode.SURROGATE, 39),
        ("insert into T(NAME) values ('x')", RedoCode.KEY, 0),
        ("update T set NAME = 'x'", RedoCode.KEY, 0),
        ("update T set ID = 2 where NAME = 'x'", RedoCode.KEY, 0),
        ("delete from T where ID IS NULL", RedoCode.KEY, 0),
    ],
)
def test_errors(parse: Parse, text: str, code: RedoCode, at: int) -> None:
    """Each fault has its code and byte, and the neighbours of a bad statement go on."""
    good = "insert into T(ID) values (7)"
    made = parse(ID_NAME, batch(good, text, good))
    assert [(error.row, error.code, error.byte_position) for error in made.errors] == [(1, code, at)]
    assert made.rows.to_pylist() == [0, 2]
    assert made.errors[0].text


@FACES
def test_bad_bytes_and_null(parse: Parse) -> None:
    """Broken UTF-8 is told with its byte, and a NULL statement or piece is an error, not an end."""
    made = parse(ID_NAME, batch(b"insert \xff", None))
    assert [(e.row, e.code, e.byte_position) for e in made.errors] == [(0, RedoCode.UTF8, 7), (1, RedoCode.EMPTY, 0)]
    cut = pa.record_batch({"sql": ["insert into T(", None, "ID) values (1)"], "csf": [1, 1, 0]})
    assert [(e.row, e.code, e.byte_position) for e in parse(ID_NAME, cut).errors] == [(0, RedoCode.EMPTY, 14)]


@FACES
def test_sizes(parse: Parse) -> None:
    """No statement, one, and many give as many rows; the columns' types are the table's."""
    for count in (0, 1, 3000):
        made = parse(ID_NAME, batch(*[f"insert into T(ID,NAME) values ({n},'n{n}')" for n in range(count)]))
        assert made.record.column("id").to_pylist() == list(range(count))
        assert made.consumed == count
        assert made.record.schema.field("amount").type == pa.decimal128(10, 2)


@FACES
def test_long_tables(parse: Parse) -> None:
    """A table of a thousand columns, in any order, keeps each value in its column."""
    names = [f"C{n}" for n in range(1000)]
    table = Table("T", tuple(Column(name, parse_type("int64")) for name in names), ("C0",))
    order = Random(1).sample(names, len(names))
    text = f"insert into T({','.join(order)}) values ({','.join(name[1:] for name in order)})"
    made = parse(RedoPlan.of(table), batch(text, text))
    assert [made.record.column(c)[1].as_py() for c in range(1000)] == list(range(1000))


def test_plans_are_checked() -> None:
    """A plan whose columns are not the table's, whose names meet, or whose literal column is no string, is refused."""
    columns = (Column("a", parse_type("int64")), Column("b", parse_type("string")))
    table = Table("T", columns)
    wrong = [
        (RedoColumn(columns[0]),),
        (RedoColumn(columns[0], "X"), RedoColumn(columns[1], "X")),
        (RedoColumn(columns[0], literal=True), RedoColumn(columns[1])),
        (RedoColumn(columns[0], "X" * 513), RedoColumn(columns[1])),
    ]
    for given_ in wrong:
        for parse in (face.parse_redo, reference.parse_redo):
            with pytest.raises(ConfigurationError, match="table T"):
                parse(RedoPlan(table, given_), batch())


def test_generated_values_fit() -> None:
    """The generator's fitting values do fit, so that the property sees rows and not errors alone."""
    random, plan = Random(3), PLANS[0]
    names = ",".join(f'"{column.oracle_name}"' for column in plan.columns)
    values = [",".join(fitting(random, column) for column in plan.columns) for _ in range(300)]
    made = face.parse_redo(plan, batch(*(f"insert into T({names}) values ({line})" for line in values)))
    assert {error.code for error in made.errors} <= {RedoCode.KEY}
    assert made.record.num_rows > 200
    assert all(set(plain(made.record.column(c))) - {None} for c in range(len(plan.columns)))

"""Files as a source: four formats to the same rows, bad lines told, files read when they are whole, and once."""

from __future__ import annotations

import io
import os
import time
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.files.config import CsvFormat, FileColumn, FileTable
from connectors.files.reader import OPENERS
from connectors.files.rows import FileView, declared_table
from flows import build, reading, spec
from libcore.errors import CapacityError, ConfigurationError, FatalError
from tests.connectors.contract_source import PATIENCE_S, Followed

HEAD = 'name = "f"\ntables = "t"\n[sink.null]\n[source.files]\nbatch_rows_max = 3\npoll_s = 0.01\n'
COLUMNS = '[source.files.tables.t.columns]\nid = "int64"\nname = "string"\n'


def pipeline(directory: Path, settings: str, columns: str = COLUMNS, head: str = HEAD) -> Path:
    """A pipeline file over table t, its files in `drop`."""
    (directory / "drop").mkdir(exist_ok=True)
    file = directory / "f.toml"
    file.write_text(f'{head}[source.files.tables.t]\npath = "drop"\n{settings}\n{columns}', "utf-8")
    return file


def renamed(key: str = 'key = ["id"]', form: str = "csv") -> str:
    """Settings of a folder whose files are whole as soon as they are there."""
    return f'format = "{form}"\n{key}\ncomplete = "renamed"'


def read(file: Path, directory: Path, crash_every: int = 0) -> Followed:
    """Everything that is there, crashed after every so many epochs with rows, twelve times at most."""
    followed = Followed(file, directory / "state", until_end=True)
    deadline, brought, crashes = time.monotonic() + PATIENCE_S, 0, 0
    while (count := followed.epoch()) >= 0:
        assert time.monotonic() < deadline, "the source does not end"
        brought += count > 0
        if crash_every and count > 0 and brought % crash_every == 0 and crashes < 12:
            crashes += 1
            followed.crash()
        time.sleep(0.001)
    assert crashes > 1 or not crash_every
    return followed


VALUES = [
    (1, "a", Decimal("1.50"), date(2026, 2, 1), True, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    (-(2**63), "ü€ ; \"'", Decimal("-9999999999999999.99"), date(1, 1, 1), False, datetime(1970, 1, 1, tzinfo=UTC)),
    (2**63 - 1, "", Decimal("9999999999999999.99"), date(9999, 12, 31), None, None),
    *[(number, f"n{number}", None, None, None, None) for number in range(2, 12)],
]
NAMES = ("id", "name", "price", "day", "ok", "at")
TYPES = ("int64", "string", "decimal(18,2)", "date", "bool", "timestamptz")


def write_format(form: str, path: Path) -> str:
    """The values as a file of that format; its columns section."""
    texts = [["" if value is None else _text(value) for value in row] for row in VALUES]
    widths = (20, 12, 20, 10, 5, 20)
    listed = dict(zip(NAMES, TYPES, strict=True))
    options: dict[str, str] = dict.fromkeys(NAMES, "")
    if form == "csv":
        lines = [
            ";".join('"' + text.replace('"', '""') + '"' if ";" in text else text for text in row) for row in texts
        ]
        path.write_text("\n".join([";".join(NAMES), *lines]) + "\n", "utf-8")
    elif form == "fixed":
        lines = ["".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in texts]
        path.write_text("\n".join(lines) + "\n", "utf-8")
        at = 0
        for name, width in zip(NAMES, widths, strict=True):
            trim = ', trim = "right"' if name == "name" else ""
            options[name], at = f", offset = {at}, length = {width}{trim}", at + width
    elif form == "jsonl":
        import json

        kept = ("id", "ok")
        rows = [
            {n: v if n in kept else None if v is None else _text(v) for n, v in zip(NAMES, row, strict=True)}
            for row in VALUES
        ]
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    else:
        arrays = [
            pa.array(column, kind)
            for column, kind in zip(
                zip(*VALUES, strict=True),
                (pa.int64(), pa.string(), pa.decimal128(18, 2), pa.date32(), pa.bool_(), pa.timestamp("us", "UTC")),
                strict=True,
            )
        ]
        pq.write_table(pa.table(arrays, NAMES), path, row_group_size=4)
    return "[source.files.tables.t.columns]\n" + "".join(
        f'{name} = {{ type = "{listed[name]}"{options[name]} }}\n' for name in NAMES
    )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else str(value)


@pytest.mark.parametrize("key", ['key = ["id"]', ""])
@pytest.mark.parametrize("form", ["csv", "fixed", "jsonl", "parquet"])
def test_formats_bring_the_same_rows_across_crashes(form: str, key: str, tmp_path: Path) -> None:
    """Each format brings every row once, exactly, whatever epoch the process is lost in; with a key and without."""
    (tmp_path / "drop").mkdir()
    columns = write_format(form, tmp_path / "drop" / "1")
    write_format(form, tmp_path / "drop" / "2")
    settings = renamed(key, form) + ('\ncsv = { delimiter = ";" }' if form == "csv" else "")
    head = HEAD + "piece_bytes = 1024\n"
    followed = read(pipeline(tmp_path, settings, columns, head), tmp_path, crash_every=2)
    assert followed.letters == []
    if key:
        assert sorted(followed.tables["t"].values()) == sorted(VALUES)
    else:
        assert followed.copies["t"] == Counter({row: 2 for row in VALUES})


@pytest.mark.parametrize(
    ("form", "text", "line", "byte"),
    [
        ("csv", "id,name\n1,a\n2\n3,c\n", 3, 1),
        ("csv", "id,name\n1,a\nx,b\n3,c\n", 3, 0),
        ("jsonl", '{"id":1,"name":"a"}\n{"id":"x","name":"b"}\n{"id":3,"name":"c"}\n', 2, 6),
        ("jsonl", '{"id":1,"name":"a"}\n{"id":2},"x":{}\n{"id":3,"name":"c"}\n', 2, 8),
        ("jsonl", '{"id":1,"name":"a"}\n[2]\n{"id":3,"name":"c"}\n', 2, 0),
        ("jsonl", '{"id":1,"name":"a"}\nnull\n{"id":3,"name":"c"}\n', 2, -1),
    ],
)
def test_a_bad_line_is_a_dead_letter(form: str, text: str, line: int, byte: int, tmp_path: Path) -> None:
    """A line that is no row is told with file, line, byte and bytes; its neighbours arrive."""
    file = pipeline(tmp_path, renamed(form=form))
    (tmp_path / "drop" / "x").write_text(text, "utf-8")
    followed = read(file, tmp_path)
    assert list(followed.tables["t"].values()) == [(1, "a"), (3, "c")]
    (letter,) = followed.letters
    assert (letter["topic"], letter["table_name"], letter["message_offset"]) == ("x", "t", line)
    assert letter["raw_value"] == text.splitlines()[line - 1].encode()
    assert f"x, line {line}," in letter["error"]
    assert letter["byte_position"] == byte


def test_a_file_that_is_written_is_not_read(tmp_path: Path) -> None:
    """A file is read when nothing was written to it for the time given, and whole then; temporary names never."""
    file = pipeline(tmp_path, 'format = "csv"\nkey = ["id"]\nsettle_s = 0.3')
    (tmp_path / "drop" / "b.csv.part").write_text("id,name\n9,no\n")
    followed = Followed(file, tmp_path / "state")
    with (tmp_path / "drop" / "a.csv").open("w") as writer:
        writer.write("id,name\n")
        for number in range(12):
            writer.write(f"{number},x\n")
            writer.flush()
            time.sleep(0.05)
            followed.epoch()
            assert "t" not in followed.tables
    followed.until(lambda: len(followed.tables.get("t", {})) == 12)
    followed.close()
    assert 9 in {key[0] for key in followed.tables["t"]}
    assert all(row[1] == "x" for row in followed.tables["t"].values())


def test_a_marker_says_that_a_file_is_whole(tmp_path: Path) -> None:
    """With complete = "done" a file waits for its marker, and those behind it wait with it, as order counts."""
    file = pipeline(tmp_path, 'format = "csv"\nkey = ["id"]\ncomplete = "done"')
    drop = tmp_path / "drop"
    for name, value in (("1", "old"), ("2", "new")):
        (drop / f"{name}.csv").write_text(f"id,name\n7,{value}\n")
    (drop / "2.csv.done").touch()
    assert read(file, tmp_path).tables == {}
    (drop / "1.csv.done").touch()
    assert read(file, tmp_path).tables == {"t": {(7,): (7, "new")}}


def test_a_replaced_file_is_read_again_and_a_touched_one_is_not(tmp_path: Path) -> None:
    """Other bytes under a name that was read: its rows come as upserts. Another time alone means nothing."""
    file = pipeline(tmp_path, renamed())
    path = tmp_path / "drop" / "a.csv"
    path.write_text("id,name\n1,a\n2,b\n")
    followed = Followed(file, tmp_path / "state")
    followed.until(lambda: len(followed.tables.get("t", {})) == 2)
    os.utime(path, (1, 1))
    assert sum(max(0, followed.epoch()) for _ in range(20) if not time.sleep(0.005)) == 0
    path.write_text("id,name\n1,A\n")
    followed.until(lambda: followed.tables["t"].get((1,)) == (1, "A"))
    followed.crash()
    assert sum(max(0, followed.epoch()) for _ in range(20) if not time.sleep(0.005)) == 0
    followed.close()
    assert followed.tables["t"] == {(1,): (1, "A"), (2,): (2, "b")}


def test_a_replaced_file_stops_a_table_without_a_key(tmp_path: Path) -> None:
    """Rows that nobody can tell from those read before are not added: the flow stops and names the ways out."""
    file = pipeline(tmp_path, renamed(key=""))
    path = tmp_path / "drop" / "a.csv"
    path.write_text("id,name\n1,a\n")
    followed = Followed(file, tmp_path / "state")
    followed.until(lambda: followed.copies.get("t") == Counter({(1, "a"): 1}))
    path.write_text("id,name\n1,b\n2,b\n")
    with pytest.raises(FatalError, match=r"drop/a\.csv: expected the 12 bytes that were read before, .*new file name"):
        followed.until(lambda: False)
    followed.close()
    assert followed.copies["t"] == Counter({(1, "a"): 1})


@pytest.mark.parametrize("other", [None, "id,name\n" + "5,z\n" * 40])
def test_a_file_lost_half_read_stops_the_flow(other: str | None, tmp_path: Path) -> None:
    """A restart that does not find the bytes of the file it was in stops, and names file and way out."""
    file = pipeline(tmp_path, renamed(key=""))
    path = tmp_path / "drop" / "a.csv"
    path.write_text("id,name\n" + "".join(f"{number},x\n" for number in range(40)))
    followed = Followed(file, tmp_path / "state")
    followed.until(lambda: sum(followed.copies.get("t", Counter()).values()) >= 6)
    path.unlink() if other is None else path.write_text(other)
    followed.crash()
    with pytest.raises(FatalError, match=r"a\.csv: expected the file that is half read .* put it back as it was"):
        followed.until(lambda: False)
    followed.close()


WHOLE = renamed() + '\nmode = "table"'


def test_rows_that_a_whole_file_lacks_are_deleted(tmp_path: Path) -> None:
    """Each file is the table: what the newest lacks goes, also when the process is lost in it."""
    file = pipeline(tmp_path, WHOLE)
    for name, ids in (("1", range(20)), ("2", range(5, 25)), ("3", range(6, 8))):
        (tmp_path / "drop" / name).write_text("id,name\n" + "".join(f"{number},v{name}\n" for number in ids))
    followed = read(file, tmp_path, crash_every=3)
    assert followed.tables["t"] == {(number,): (number, "v3") for number in range(6, 8)}
    followed.open()
    kept = sorted(path.name.split("-")[0] for path in (tmp_path / "state" / "files" / "t").iterdir())
    assert kept.count("keys") <= 3


def test_a_whole_file_with_a_bad_line_deletes_nothing(tmp_path: Path) -> None:
    """Nobody knows whose row the bad line was; the next clean file deletes what is gone."""
    file = pipeline(tmp_path, WHOLE)
    drop = tmp_path / "drop"
    (drop / "1").write_text("id,name\n1,a\n2,b\n3,c\n")
    (drop / "2").write_text("id,name\n1,A\nx,b\n")
    first = read(file, tmp_path)
    assert first.tables["t"] == {(1,): (1, "A"), (2,): (2, "b"), (3,): (3, "c")}
    assert len(first.letters) == 1
    (drop / "3").write_text("id,name\n2,B\n")
    assert read(file, tmp_path / "anew").tables["t"] == {(2,): (2, "B")}


def test_a_file_that_would_delete_too_much_stops_the_flow(tmp_path: Path) -> None:
    """A file cut short is not a table that lost its rows: above the share the flow stops and names the setting."""
    file = pipeline(tmp_path, WHOLE + "\ndelete_share_max = 0.5")
    (tmp_path / "drop" / "1").write_text("id,name\n" + "".join(f"{number},a\n" for number in range(10)))
    (tmp_path / "drop" / "2").write_text("id,name\n1,a\n")
    with pytest.raises(FatalError, match=r"at most 50% of the 10 rows to be gone, found 9; .*delete_share_max"):
        read(file, tmp_path)


def test_remembered_files_are_bounded(tmp_path: Path) -> None:
    """Files that are gone are forgotten above the bound, oldest first; too many that are there stop the flow."""
    file = pipeline(tmp_path, renamed(), head=HEAD + "remembered_max = 10\n")
    for number in range(9):
        (tmp_path / "drop" / f"{number:02d}").write_text(f"id,name\n{number},a\n")
    followed = Followed(file, tmp_path / "state")
    followed.until(lambda: len(followed.tables.get("t", {})) == 9)
    for path in (tmp_path / "drop").iterdir():
        path.unlink()
    for number in range(20, 26):
        (tmp_path / "drop" / f"{number:02d}").write_text(f"id,name\n{number},a\n")
    followed.until(lambda: len(followed.tables["t"]) == 15)
    followed.crash()
    for number in range(30, 40):
        (tmp_path / "drop" / f"{number:02d}").write_text(f"id,name\n{number},a\n")
    with pytest.raises(CapacityError, match="remembered_max: expected at most 10 files"):
        followed.until(lambda: False)
    followed.close()


def test_a_state_directory_older_than_the_recovery_store_is_refused(tmp_path: Path) -> None:
    """Without its ledger a state means nothing: read again, every file would come twice."""
    file = pipeline(tmp_path, renamed(key=""))
    (tmp_path / "drop" / "a").write_text("id,name\n1,a\n")
    followed = Followed(file, tmp_path / "state")
    followed.until(lambda: "t" in followed.copies)
    followed.epoch()
    for path in (tmp_path / "state" / "files" / "t").iterdir():
        path.unlink()
    with pytest.raises(FatalError, match=r"expected 1 remembered files, found 0.*restore both"):
        followed.crash()
    followed.close()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("form", ["csv", "fixed"])
def test_a_file_of_utf16_is_refused(form: str, encoding: str) -> None:
    """Without a header nothing else would tell: its rows are not read as texts with a NUL in front of each letter."""
    column = FileColumn(type="string", length=3)
    settings = FileTable(path="x", format=form, columns={"a": column}, csv=CsvFormat(header=False))
    table, data = declared_table("t", settings), "\ufeffabc\r\ndef\r\n".encode(encoding)
    reader = OPENERS[form](settings, table, FileView("x.txt", io.BytesIO(data), len(data)), None, 10, 1024)
    with pytest.raises(FatalError, match=r"x\.txt: expected UTF-8 .*found the byte order mark of UTF-16"):
        reader.read()


def test_parquet_values_that_do_not_fit_are_told(tmp_path: Path) -> None:
    """A value beyond its declared type, and NULL in the key, are dead letters with the row; the others arrive."""
    file = pipeline(tmp_path, renamed(form="parquet"), '[source.files.tables.t.columns]\nid = "int64"\nn = "int16"\n')
    table = pa.table({"id": [1, 2, None, 4], "n": [1, 70000, 3, None]})
    pq.write_table(table, tmp_path / "drop" / "p")
    followed = read(file, tmp_path)
    assert followed.tables["t"] == {(1,): (1, 1), (4,): (4, None)}
    assert [letter["message_offset"] for letter in followed.letters] == [1, 2]
    assert "column n: expected int16, found 70000" in followed.letters[0]["error"]


def test_a_single_file_and_the_types_of_parquet(tmp_path: Path) -> None:
    """A path may name one file; Parquet without declared columns has the file's own types."""
    (tmp_path / "drop").mkdir()
    pq.write_table(
        pa.table({"id": pa.array([1], pa.uint32()), "d": pa.array([Decimal("1.10")], pa.decimal128(9, 2))}),
        tmp_path / "drop" / "one.parquet",
    )
    file = pipeline(tmp_path, renamed(form="parquet"), "")
    file.write_text(file.read_text().replace('"drop"', '"drop/one.parquet"'))
    followed = read(file, tmp_path)
    assert followed.tables["t"] == {(1,): (1, Decimal("1.10"))}
    bindings = reading.bind(build.load(str(file)), str(file))
    assert [str(column.type) for column in bindings[0].table.columns] == ["int64", "decimal(9,2)"]


@pytest.mark.parametrize(
    ("settings", "columns", "expected"),
    [
        ('format = "csv"', "", "columns: expected names and types, as csv has none, found nothing"),
        ('format = "csv"\nkey = ["no"]', COLUMNS, "key: expected columns of id, name, found 'no'"),
        ('format = "csv"\nmode = "table"', COLUMNS, 'key: expected key columns beside mode = "table", found none'),
        ('format = "csv"\non_replaced = "read"', COLUMNS, "for a table without a key"),
        ('format = "cvs"', COLUMNS, "did you mean 'csv'"),
        ('format = "csv"', COLUMNS.replace("int64", "integer"), "columns.id"),
    ],
)
def test_what_does_not_fit_in_the_file_is_refused(settings: str, columns: str, expected: str, tmp_path: Path) -> None:
    """A contradiction in [source.files] is refused with file and line."""
    with pytest.raises(ConfigurationError) as caught:
        build.load(str(pipeline(tmp_path, settings, columns)))
    assert expected in str(caught.value)
    assert "f.toml:" in str(caught.value)


def test_a_table_names_its_source_where_there_are_two(tmp_path: Path) -> None:
    """A table that does not say which of two sources it is of is refused; what was read is written back the same."""
    file = pipeline(tmp_path, renamed())
    text = file.read_text()
    with pytest.raises(ConfigurationError, match=r"the name of a source, one of kafka, files, found none"):
        spec.parse(text + '[source.kafka]\nservers = "h:1"\n', "x.toml")
    pipeline_read = spec.parse(text, "x.toml")
    assert spec.parse(spec.dumps(pipeline_read), "y.toml") == pipeline_read

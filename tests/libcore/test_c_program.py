"""libcore serves a C program without Python: the example is built as the reference says and reads Debezium's lines."""

from __future__ import annotations

import re
import shlex
import subprocess
import warnings
from pathlib import Path

import pytest

from libcore import build_ffi
from tests.libcore.c import build

ROOT = build_ffi.ROOT.parent
COLUMNS = ("order_id:int:key", "sku:text", "price:decimal:18:4", "paid:bool", "weight:double", "at:timestamp")
LINES = (
    '{"op":"c","before":null,"after":{"order_id":1,"sku":"Größe 7","price":"-0.5000","paid":true,"weight":1.5,"at":7}}',
    '{"op":"u","before":null,"after":{"order_id":2,"sku":null,"price":"12.3","paid":false,"weight":"NaN","at":null}}',
    '{"op":"u","before":null,"after":{"order_id":"two"}}',
    '{"op":"d","before":{"order_id":1},"after":null}',
)
PRINTED = "upsert\t1\tGröße 7\t-0.5000\ttrue\t1.5\t7\nupsert\t2\tNULL\t12.3000\tfalse\tnan\tNULL\n"
PRINTED += "delete\t1" + "\tNULL" * 5 + "\n"


def build_line() -> str:
    """The one line of the reference that compiles the example."""
    page = (ROOT / "docs" / "reference" / "libcore.md").read_text("utf-8")
    found = re.findall(r"^(cc .*print_columns\.c.*) -o print_columns$", page, re.M)
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The example, built by the reference's line (with warnings as errors); None without a compiler, said aloud."""
    compiler = build.compiler()
    if compiler is None:
        warnings.warn("no C compiler here: the example is not built", RuntimeWarning, stacklevel=1)
        return None
    made = tmp_path_factory.mktemp("example") / "print_columns"
    line = build_line().replace("cc ", f"{shlex.quote(compiler)} ", 1).replace("-O2", "-O0 -Wall -Wextra -Werror")
    command = f"{line} -Wno-unused-parameter -o {shlex.quote(str(made))}"
    subprocess.run(["sh", "-c", command], cwd=ROOT, check=True)
    return made


def run(program: Path, arguments: tuple[str, ...], text: str) -> subprocess.CompletedProcess[str]:
    """Run the example on that input."""
    return subprocess.run(
        [program, *arguments], input=text, capture_output=True, text=True, encoding="utf-8", check=False, timeout=60
    )


def test_columns_are_printed_and_bad_lines_named(program: Path | None) -> None:
    """Rows come out exactly typed, in order; a bad line goes to standard error with its number, and the code is 1."""
    assert build_line()
    if program is None:
        return
    done = run(program, COLUMNS, "\n".join(LINES) + "\n")
    assert done.stdout == PRINTED
    bad = LINES[2].index('"two"')
    assert done.stderr == f"line 3, byte {bad}: code 5\n"
    assert done.returncode == 1


def test_many_batches_without_a_last_line_end(program: Path | None) -> None:
    """More lines than a batch has, the last one without a line end, give a row each and code 0."""
    assert build_line()
    if program is None:
        return
    done = run(program, ("id:int:key",), "\n".join(f'{{"op":"c","after":{{"id":{i}}}}}' for i in range(9000)))
    assert done.stdout.splitlines() == [f"upsert\t{i}" for i in range(9000)]
    assert (done.stderr, done.returncode) == ("", 0)


def test_an_unknown_kind_is_refused(program: Path | None) -> None:
    """A column of another kind ends with code 2 and a sentence that lists the kinds."""
    assert build_line()
    if program is None:
        return
    done = run(program, ("id:uuid",), "")
    assert (done.returncode, done.stdout) == (2, "")
    assert "expected int, bool, double, text, timestamp or decimal:P:S: uuid" in done.stderr

"""The headers are a book: each is in a chapter, says the same five things, and the reference is made of them."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from libcore import build_ffi
from tests.habits import book

HEADERS = build_ffi.ROOT / "include" / "libcore"


def test_every_header_has_its_sections_and_a_chapter() -> None:
    """Each header says contract, units, ownership, errors and threads, is in one chapter, and no function is mute."""
    found = book.units(HEADERS)
    assert len(found) >= 20
    assert not book.faults(found)


def test_the_reference_is_up_to_date() -> None:
    """docs/reference/libcore.md is what the headers and the measured costs give; `make golden` writes it."""
    if os.environ.get("HEADRACE_GOLDEN") == "write":
        book.PAGE.write_text(book.rendered(), "utf-8")
    assert book.PAGE.read_text("utf-8") == book.rendered()


def test_every_declaration_is_in_the_reference() -> None:
    """Nothing of a header's C is lost on the way: each line that the compiler sees stands in the page."""
    page = book.rendered()
    lines = {line.rstrip() for line in build_ffi.declarations().splitlines() if line.strip()}
    code = [line for line in lines if line.endswith(";") and not line.lstrip().startswith(("*", "/*"))]
    assert len(code) > 150
    assert not [line for line in code if line not in page]


def test_what_is_missing_is_seen(tmp_path: Path) -> None:
    """A header that loses a section, one in no chapter and a function without a word are each named."""
    shutil.copytree(HEADERS, tmp_path / "h")
    slots = tmp_path / "h" / "slots.h"
    slots.write_text(slots.read_text("utf-8").replace(" * Threads: ", " * "), "utf-8")
    (tmp_path / "h" / "novel.h").write_text("/* New. */\n/* cdef */\nint lc_novel(void);\n/* end cdef */\n", "utf-8")
    faults = book.faults(book.units(tmp_path / "h"))
    assert "slots.h: no paragraph Threads:" in faults
    assert "novel.h: in 0 chapters, expected 1" in faults
    assert "novel.h: lc_novel has no comment" in faults
    assert {f"novel.h: no paragraph {label}:" for label in book.SECTIONS} < set(faults)
    assert len(faults) == 3 + len(book.SECTIONS)


def test_every_measured_kernel_exists() -> None:
    """Each cost in kernel_ns.json is of a function that its header declares, with the unit in the name."""
    measured = json.loads(book.COSTS.read_text("utf-8"))
    found = book.units(HEADERS)
    for row in measured["kernels"]:
        declared = [name for each in found[row["header"]].declarations for name in each.functions]
        assert row["function"] in declared
        assert row["ns_per_row"] > 0
    assert {"machine", "date", "rows", "rounds"} <= set(measured)


# makes, frees or reads one thing, whatever the rows: there is no row to count by
NOT_BY_ROWS = re.compile(r"lc_\w+_(free|new|clear|mark)|lc_table_(rows|bytes|changes)|lc_keep_freed")


def test_every_kernel_is_measured() -> None:
    """Each function that works on rows has a cost in the reference; `python -m bench.kernels --write` measures it."""
    measured = {row["function"] for row in json.loads(book.COSTS.read_text("utf-8"))["kernels"]}
    declared = {name for header in book.units(HEADERS).values() for d in header.declarations for name in d.functions}
    assert len(declared) > 50
    assert {name for name in declared - measured if not NOT_BY_ROWS.fullmatch(name)} == set()

"""docs/reference/libcore.md from the headers: chapters, one section a header, and what each kernel costs a row.

A header is read as it is written: an opening comment that ends in the five paragraphs of SECTIONS, then declarations
between `/* cdef */` and `/* end cdef */`, each behind its comment. Nothing is said here that the header does not say.
"""

from __future__ import annotations

import itertools
import json
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libcore import build_ffi
from tests.habits import code

PAGE = code.ROOT / "docs" / "reference" / "libcore.md"
COSTS = code.ROOT / "docs" / "reference" / "kernel_ns.json"
NOTES = code.ROOT / "docs" / "reference" / "proof.json"
SECTIONS = ("Contract", "Units", "Ownership", "Errors", "Threads")
# chapter -> (what it is about, its headers in the order to read them); a new header is put here by hand
CHAPTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Words": ("What all other headers speak of.", ("types", "memory")),
    "Formats in": (
        "Bytes of a source to the columns of a change batch.",
        ("json", "envelope", "avro", "pgoutput", "redo", "openlogreplicator", "delimited", "fixed_width", "sapfmt"),
    ),
    "Records": ("Keys, their slots, and the last change of each.", ("hash", "slots", "compact")),
    "Stores": ("Rows kept by key, and how they lie on disk.", ("table", "segment")),
    "Joins and windows": ("The inner loops of keyed steps.", ("join", "window")),
    "Transforms": (
        "A column to another column, a row to a digest.",
        ("decimal", "transform", "user_function", "digest"),
    ),
    "Formats out": ("Change batches to the bytes of a target.", ("pgcopy",)),
}
_CDEF = re.compile(r"/\* cdef \*/\n(.*?)/\* end cdef \*/", re.S)
_FUNCTION = re.compile(r"^(?!typedef|struct|enum|#)[\w ]+[ *](lc_\w+)\([^;{]*\);", re.M | re.S)
_COMMENT = re.compile(r"\s*/\*(.*?)\*/[ \t]*\n", re.S)


@dataclass
class Declaration:
    """A group of lines of a header: the comment before them, and the C."""

    comment: str
    text: str

    @property
    def functions(self) -> list[str]:
        """The functions that it declares."""
        return _FUNCTION.findall(self.text)


@dataclass
class Header:
    """A header as its page needs it."""

    name: str
    prose: list[str]  # paragraphs, the first one says what it is
    sections: dict[str, str] = field(default_factory=dict)
    declarations: list[Declaration] = field(default_factory=list)


def unwrapped(comment: str) -> str:
    """The text of a C comment without its stars."""
    return "\n".join(re.sub(r"^ ?\* ?", "", line).rstrip() for line in comment.strip("\n").split("\n")).strip()


def read(path: Path) -> Header:
    """A header taken apart."""
    text = path.read_text("utf-8")
    opening = unwrapped(text[2 : text.index("*/")])
    found = Header(path.stem, [])
    for paragraph in re.split(r"\n\s*\n", opening):
        if not paragraph.startswith(tuple(f"{label}: " for label in SECTIONS)):
            found.prose.append(paragraph)
            continue
        for part in re.split(rf"^(?={'|'.join(SECTIONS)}: )", paragraph, flags=re.M):
            label, _, body = part.partition(": ")
            if body:
                assert label not in found.sections, f"{path.name}: {label} stands there twice"
                found.sections[label] = " ".join(body.split())
    # a header of which cffi needs nothing has no marks: then it is all behind its includes
    for section in _CDEF.findall(text) or [re.split(r"#include .*\n", text)[-1].rpartition("#endif")[0]]:
        found.declarations += [declaration(piece) for piece in pieces(section)]
    return found


def pieces(section: str) -> list[str]:
    """A marked section in pieces that stand between empty lines, but not inside of braces or comments."""
    found: list[str] = []
    for piece in re.split(r"\n\s*\n", section.strip("\n")):
        whole = not found or (
            found[-1].count("{") == found[-1].count("}") and found[-1].count("/*") == found[-1].count("*/")
        )
        if whole:
            found.append(piece)
        else:
            found[-1] += "\n\n" + piece
    return found


def declaration(piece: str) -> Declaration:
    """A piece in comment and C."""
    match = _COMMENT.match(piece + "\n")
    if match is None or not piece[match.end() :].strip():
        return Declaration("", piece)
    return Declaration(unwrapped(match[1]), piece[match.end() :])


def units(headers: Path) -> dict[str, Header]:
    """All headers of a folder by name."""
    return {path.stem: read(path) for path in sorted(headers.glob("*.h"))}


def faults(found: dict[str, Header]) -> list[str]:
    """What is wrong with the book: a header without a section or a chapter, or in two, a function without a word."""
    placed = [name for _, names in CHAPTERS.values() for name in names]
    wrong = [f"{name}.h: in {placed.count(name)} chapters, expected 1" for name in found if placed.count(name) != 1]
    wrong += [f"{name}: in a chapter, but no header" for name in placed if name not in found]
    for name, header in found.items():
        wrong += [f"{name}.h: no paragraph {label}:" for label in SECTIONS if not header.sections.get(label)]
        for each in header.declarations:
            said = each.comment or "/*" in each.text or all(f.endswith("_free") for f in each.functions)
            wrong += [] if said else [f"{name}.h: {function} has no comment" for function in each.functions]
    return wrong


def prose(text: str) -> str:
    """A paragraph of a comment as Markdown: points stay a list, other indented lines keep their form."""
    out: list[str] = []
    for formed, group in itertools.groupby(text.split("\n"), lambda line: line.startswith((" ", "-"))):
        lines = list(group)
        if not formed:
            out.append("\n".join(map(escaped, lines)))
        elif lines[0].lstrip().startswith("- "):
            out.append(escaped(textwrap.dedent("\n".join(lines))))
        else:
            out.append("\n".join(["```text", *lines, "```"]))
    return "\n\n".join(out)


def escaped(line: str) -> str:
    """Plain text: what Markdown would take for markup is marked as code or escaped."""
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if part.startswith("`") else re.sub(r"([*<>\\]|__)", r"\\\1", part) for part in parts)


def costs(name: str, measured: dict[str, Any]) -> list[str]:
    """The table of what a header's functions cost, where they were measured."""
    rows = [row for row in measured.get("kernels", []) if row["header"] == name]
    if not rows:
        return []
    head = ["| function | on what | ns a row | bytes a row |", "|---|---|---|---|"]
    body = [f"| `{row['function']}` | {row['batch']} | {row['ns_per_row']} | {row['bytes_per_row']} |" for row in rows]
    return [*head, *body, ""]


def page(header: Header, measured: dict[str, Any]) -> list[str]:
    """The section of one header."""
    out = [f"### {header.name}.h", ""]
    for paragraph in header.prose:
        out += [prose(paragraph), ""]
    out += [f"- **{label}**: {escaped(header.sections[label])}" for label in SECTIONS if label in header.sections]
    out += ["", *costs(header.name, measured)]
    for each in header.declarations:
        if each.functions:
            out += [f"#### {', '.join(each.functions)}", ""]
        out += [prose(part) + "\n" for part in re.split(r"\n\s*\n", each.comment) if part]
        out += ["```c", each.text.strip("\n"), "```", ""]
    return out


def proof(notes: dict[str, Any]) -> list[str]:
    """The last chapter: how the library is tested, and what the long runs found."""
    out = ["", "## Proof", "", *PROOF]
    if covered := notes.get("coverage", {}).get("all"):
        out += ["", COVERED.format(**covered)]
    if checked := notes.get("valgrind", {}).get("all"):
        out += ["", CHECKED.format(**checked)]
    if runs := notes.get("examples"):
        out += ["", *TRIED, "", "| unit | date | properties | examples | failures |", "|---|---|---|---|---|"]
        out += [f"| {unit} | {run['date']} | {run['properties']} | {run['examples']:,} | {run['failures']} |"
                for unit, run in sorted(runs.items())]  # fmt: skip
    if runs := notes.get("fuzz"):
        out += ["", *FUZZED, ""]
        columns = ("date", "minutes", "cpu_minutes", "executions", "edges", "inputs", "crashes")
        out += [f"| parser | {' | '.join(columns).replace('_', ' ')} |", "|---" * (len(columns) + 1) + "|"]
        for unit, run in sorted(runs.items()):
            cells = [f"{run[name]:,}" if isinstance(run[name], int) else str(run[name]) for name in columns]
            out.append(f"| {unit} | {' | '.join(cells)} |")
    return out


def rendered(headers: Path = build_ffi.ROOT / "include" / "libcore", measured: dict[str, Any] | None = None) -> str:
    """The whole reference."""
    if measured is None:
        measured = json.loads(COSTS.read_text("utf-8"))
    found = units(headers)
    out = [*OPENING, ""]
    for chapter, (_, names) in CHAPTERS.items():
        there = ", ".join(f"[{name}](#{name}h)" for name in names if name in found)
        out.append(f"- **{chapter}**: {there}")
    out += ["", COSTS_LINE.format(**measured)] if measured else []
    for chapter, (sentence, names) in CHAPTERS.items():
        out += ["", f"## {chapter}", "", sentence, ""]
        for name in names:
            if name in found:
                out += page(found[name], measured)
    out += proof(json.loads(NOTES.read_text("utf-8")) if NOTES.exists() else {})
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).rstrip() + "\n"


COSTS_LINE = (
    "Costs were measured on {date} ({machine}; one core, {rows:,} rows a batch, processor time, least of\n"
    "{rounds} rounds) by `python -m bench.kernels --write`. They say what a row of that batch costs, not what every\n"
    "row costs."
)
OPENING = """\
# libcore

The C library under Headrace, a book of its headers. Written by `make golden` from `libcore/include/libcore/*.h`.

A C program needs the headers, the sources and nothing else; Python is not in it. This one reads a file of Debezium
JSON lines and prints columns (`libcore/examples/print_columns.c`):

```sh
cc -std=c11 -O2 -Ilibcore/include -Ilibcore/src libcore/examples/print_columns.c libcore/src/*.c -lm -o print_columns
./print_columns order_id:int:key sku:text price:decimal:18:4 < changes.jsonl
```

From Python the same functions are in the modules of the same names; `libcore/reference` holds each a second time, in
plain Python, and the tests hold the two equal.
""".rstrip().split("\n")
PROOF = """\
Each kernel has a second implementation in plain Python, and property tests hold the two equal;
`HEADRACE_EXAMPLES=500` runs five hundred times as many examples of each property. Each C file has a unit test in
which every allocation fails once, alone and with all that come after it. One test plants a bug in a copy of the
library and expects the property tests to find it.

| command | what it does |
|---|---|
| `make sanitize` | C and Python tests under AddressSanitizer and UndefinedBehaviorSanitizer |
| `make fuzz` | a smoke of a minute: the kept corpus and mutations of it, sanitized |
| `python -m tests.libcore.examples envelope` | 100,000 examples of each property of a unit |
| `python -m tests.libcore.c.guided envelope --minutes 30` | coverage-guided fuzzing of a parser (clang's libFuzzer) |
| `python -m tests.libcore.c.memcheck` | C tests and the corpora under valgrind |
| `python -m tests.libcore.c.coverage --python` | lines and branches that the tests reach, by gcov |
| `python -m bench.kernels` | what each kernel costs a row |
""".rstrip().split("\n")
COVERED = (
    "Coverage on {date}: {lines} % of {lines_all:,} lines, {branches} % of {branches_all:,} branches. A branch is one\n"
    "way out of one conditional jump of unoptimised code (`a && b` has four); all sources and inline headers count,\n"
    "nothing is left out, not even what cannot happen."
)
CHECKED = "Under valgrind on {date}: {programs} programs, {faults} with faults."
TRIED = """\
Examples of the properties that hold C equal to the reference, for the sources of that date (a unit's note tells their
version); where they take long, a unit's properties share 100,000.
""".rstrip().split("\n")
FUZZED = """\
Guided fuzzing with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer, one process, inputs of up to 4096 bytes.
Its minimised corpora are in `tests/libcore/c/corpus/*.zip`; `make test` and `make fuzz` start from them. Minutes are by
the clock, cpu minutes of the processor; edges are those of all of libcore that the driver has reached.
""".rstrip().split("\n")

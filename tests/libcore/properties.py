"""Which properties hold each unit of libcore equal to its reference, and the sources that such a proof is about."""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from libcore import build_ffi

ROOT = build_ffi.ROOT.parent
HEADERS = build_ffi.ROOT / "include" / "libcore"
# unit -> its properties, as file.function of this folder: those that compare C, or a fast form, with the reference
PROPERTIES: dict[str, tuple[str, ...]] = {
    "avro": ("test_avro.test_c_agrees_with_the_reference",),
    "compact": (
        "test_compact.test_agrees_with_the_reference",
        "test_compact.test_agrees_with_the_reference_on_float_keys",
        "test_compact.test_agrees_with_the_reference_without_a_key",
        "test_compact.test_updates_make_no_rows",
    ),
    "decimal": (
        "test_decimal.test_text_is_read_as_pythons_decimal_reads_it",
        "test_decimal.test_c_agrees_with_the_reference_on_hostile_text",
        "test_decimal.test_bytes_are_twos_complement",
        "test_decimal.test_text_and_back",
    ),
    "delimited": ("test_delimited.test_c_agrees_with_the_reference",),
    "digest": (
        "test_digest.test_agrees_with_the_reference",
        "test_digest.test_agrees_for_each_type",
        "test_digest.test_unset_values_agree_with_the_reference",
    ),
    "envelope": (
        "test_decode.test_c_agrees_with_the_reference",
        "test_decode_carried.test_both_faces_end_before_the_same_row",
    ),
    "fixed_width": ("test_fixed_width.test_c_agrees_with_the_reference",),
    "hash": ("test_hashing.test_agrees_with_the_reference", "test_hashing.test_xxh64_agrees_with_the_reference"),
    "idoc": ("test_idoc.test_a_flat_file_is_read_as_the_reference_reads_it",),
    "join": (
        "test_join_reference.test_each_call_agrees_with_the_reference",
        "test_join_reference.test_c_agrees_with_the_columns",
        "test_join_reference.test_latest_agrees_with_the_reference",
        "test_join_reference.test_what_passes_agrees_with_the_reference",
    ),
    "json": ("test_json.test_c_agrees_with_the_reference",),
    "mask": (
        "test_mask.test_the_face_agrees_with_the_reference",
        "test_mask.test_many_texts_get_the_tokens_that_each_gets_alone",
    ),
    "openlogreplicator": ("test_openlogreplicator.test_agrees_with_the_reference",),
    "pgcopy": ("test_pgcopy.test_agrees_with_the_reference",),
    "pgoutput": (
        "test_pgoutput.test_agrees_with_the_reference",
        "test_pgoutput.test_every_value_agrees_with_the_reference",
        "test_pgoutput.test_streamed_messages_agree_with_the_reference",
        "test_short_forms.test_a_change_is_read_as_the_reference_reads_it",
    ),
    "redo": ("test_redo.test_agrees_with_the_reference", "test_redo.test_agrees_with_the_reference_on_any_bytes"),
    "sapfmt": (
        "test_sapfmt.test_c_agrees_with_the_reference",
        "test_sapfmt.test_amounts_move_as_in_the_reference",
        "test_sapfmt.test_code_pages_are_pythons",
    ),
    "segment": ("test_segment.test_the_seal_agrees_with_the_reference",),
    "slots": ("test_slots.test_scatter_agrees_with_the_reference", "test_slots.test_take_agrees_with_the_reference"),
    "table": ("test_table.test_agrees_with_the_reference",),
    "transform": (
        "test_transform.test_arithmetic_agrees_with_the_reference",
        "test_transform.test_factors_agree_with_the_reference",
        "test_transform.test_as_of_finds_the_last_day_of_the_group",
        "test_short_forms.test_money_is_computed_as_the_reference_does",
    ),
    "transform_rates": (
        "test_transform_rates.test_rates_agree_with_the_reference",
        "test_transform_rates.test_units_agree_with_the_reference",
    ),
    "transform_rules": ("test_transform_rules.test_rules_agree_with_the_reference",),
    "transform_text": ("test_transform_text.test_cleaning_agrees_with_the_reference",),
    "window": (
        "test_window_kernels.test_groups_agree_with_the_reference",
        "test_window_kernels.test_sums_agree_with_the_reference",
        "test_window_kernels.test_averages_agree_with_the_reference",
    ),
}
WITHOUT_KERNEL = {"types", "memory", "user_function"}
"""Headers in which no function of ours works on rows: words, a setting of the process, the contract of others' code."""
# units without a header of their own -> those whose C they call
_CALLED = {"idoc": ("fixed_width",), "mask": (), "transform_rates": ("transform",), "transform_rules": ("transform",),
           "transform_text": ()}  # fmt: skip


def sources(unit: str) -> list[Path]:
    """What a unit's properties are about: its C, the reference, its tests and what those need.

    C files of the unit and of those that it includes, and all that belong to no unit. Of Python the tests, what they
    import from tests/libcore and libcore/reference and so on, and the faces that they name.
    """
    found = {path for name in _closed(_CALLED.get(unit, (unit,))) for path in _own(name)}
    return sorted(found | _python(name.partition(".")[0] for name in PROPERTIES[unit]))


def version(unit: str) -> str:
    """16 hexadecimal digits over the names and bytes of a unit's sources."""
    told = hashlib.sha256()
    for path in sources(unit):
        told.update(f"{path.relative_to(ROOT)}:{path.stat().st_size}:".encode() + path.read_bytes())
    return told.hexdigest()[:16]


@functools.cache
def _own(unit: str) -> tuple[Path, ...]:
    """Header and C files of a unit; of "" the C files that belong to none."""
    files = (path for path in (build_ffi.ROOT / "src").iterdir() if path.suffix in (".c", ".h"))
    header = [HEADERS / f"{unit}.h"] if unit else []
    return (*header, *sorted(path for path in files if _unit_of(path.stem) == unit))


def _unit_of(stem: str) -> str:
    """The unit whose name a C file's begins with, "" where it serves several."""
    fitting = [path.stem for path in HEADERS.glob("*.h") if f"{stem}_".startswith(f"{path.stem}_")]
    return max(fitting, key=len, default="")


def _closed(units: Iterable[str]) -> set[str]:
    """Those units, the shared files, and the units whose headers any of them include."""
    found, waiting = set[str](), [*units]
    waiting += ["", "types"] if waiting else []
    while waiting:
        unit = waiting.pop()
        if unit not in found:
            found.add(unit)
            # shared files include headers for a type or two: that makes no unit a part of all others
            files = _own(unit) if unit else ()
            included = (re.findall(r'#include "(?:libcore/)?(\w+)\.h"', path.read_text("utf-8")) for path in files)
            waiting += {_unit_of(name) for names in included for name in names}
    return found


def _python(tests: Iterable[str]) -> set[Path]:
    """Those tests and what they import."""
    found, waiting = set[Path](), [ROOT / "tests" / "libcore" / f"{name}.py" for name in tests]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            followed = path.parent.name == "reference" or "tests" in path.relative_to(ROOT).parts
            waiting += _imported(path) if followed else []
    return found


def _imported(path: Path) -> Iterator[Path]:
    """The modules of libcore and tests/libcore that a module imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            file = ROOT / f"{name.replace('.', '/')}.py"
            if name.startswith(("libcore.", "tests.libcore.")) and file.is_file():
                yield file

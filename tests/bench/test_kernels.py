"""The costs of single kernels: every C function that works on rows is measured, on a batch that reaches it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.kernel_cases import MAKERS
from bench.kernels import Case, measured
from libcore import IMPLEMENTATION, build_ffi
from libcore.hashing import xxh64

# what only makes, frees or tells: its cost is no row's
NO_ROWS = re.compile(r"lc_\w+_(free|new)|lc_table_(bytes|changes|rows)|lc_keep_freed")


def _functions() -> set[str]:
    declared = set(re.findall(r"\b(lc_\w+)\(", build_ffi.declarations()))
    return {name for name in declared if not NO_ROWS.fullmatch(name)}


def test_every_kernel_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each function of the library has a case, and each case calls the functions that it names."""
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path))
    cases = [case for maker in MAKERS for case in maker(200)]
    assert {name for case in cases for name in case.functions} == _functions()
    if IMPLEMENTATION == "c":  # the reference's faces call nothing in C
        for case in cases:
            assert all(row["ns_per_row"] >= 0 for row in measured(case, 1))


def test_a_case_that_does_not_reach_its_function_is_refused() -> None:
    """The error names the function, and what was called instead."""
    case = Case("hash", ("lc_hash_rows",), "a text", 1, 4, lambda: xxh64(b"text"))
    if IMPLEMENTATION == "c":
        with pytest.raises(RuntimeError, match="expected a call of lc_hash_rows, found lc_xxh64"):
            measured(case, 1)

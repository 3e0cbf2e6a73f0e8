"""`make examples`: every unit has its properties, all are run, and what was proven holds for these sources only."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from libcore import IMPLEMENTATION
from tests.libcore import examples, properties
from tests.libcore.c import proof

HERE = Path(__file__).parent


def test_every_header_has_properties() -> None:
    """A header with a kernel is a unit; a unit's properties are property tests."""
    headers = {path.stem for path in properties.HEADERS.glob("*.h")}
    assert headers - properties.WITHOUT_KERNEL <= set(properties.PROPERTIES)
    for name in itertools.chain.from_iterable(properties.PROPERTIES.values()):
        module, _, function = name.partition(".")
        assert hypothesis.is_hypothesis_test(getattr(importlib.import_module(f"tests.libcore.{module}"), function))


def test_every_comparison_with_the_reference_is_listed() -> None:
    """A property whose name says that it agrees with the reference belongs to a unit."""
    listed = set(itertools.chain.from_iterable(properties.PROPERTIES.values()))
    found = set()
    for path in HERE.glob("test_*.py"):
        module = importlib.import_module(f"tests.libcore.{path.stem}")
        tests = {name for name, test in vars(module).items() if hypothesis.is_hypothesis_test(test)}
        found |= {f"{path.stem}.{name}" for name in tests if "_the_reference" in name}
    assert found and found <= listed


def test_a_unit_stands_on_what_it_includes() -> None:
    """The store's header, C, reference and tests are sources of a join, and a window's are not."""
    names = {path.relative_to(properties.ROOT).as_posix() for path in properties.sources("join")}
    assert {"libcore/include/libcore/table.h", "libcore/src/table_heap.c", "libcore/src/common.c"} <= names
    assert {"libcore/reference/join.py", "tests/libcore/test_join_reference.py", "tests/libcore/batches.py"} <= names
    assert not {name for name in names if "window" in name}


def _pair(most: int) -> Any:
    """A property of two cases, written as ours are; it fails where a drawn number is above `most`."""

    @pytest.mark.parametrize("kind", ["a", "b"])
    @hypothesis.settings(max_examples=20, database=None, phases=[hypothesis.Phase.generate])
    @hypothesis.given(number=st.integers(0, 1000))
    def holds(kind: str, number: int) -> None:
        assert kind in "ab" and number <= most

    return holds


def _counted(monkeypatch: pytest.MonkeyPatch, test: Any) -> examples.Counted:
    monkeypatch.setattr("tests.libcore.test_examples.holds", test, raising=False)
    return examples.Counted("test_examples.holds")


def test_examples_are_counted_over_the_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many examples as asked for, or a slice more a case, in slices with seeds of their own."""
    counted, seeds = _counted(monkeypatch, _pair(1000)), itertools.count(1)
    assert counted.cases() == [{"kind": "a"}, {"kind": "b"}]
    counted.run(90, seeds)
    assert 90 <= counted.held <= 110
    assert next(seeds) == 6


def test_a_property_that_does_not_hold_tells_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure of an example comes out, with the case and the seed that find it again."""
    with pytest.raises(AssertionError) as caught:
        _counted(monkeypatch, _pair(500)).run(1000, itertools.count(7))
    assert any("'kind': 'a'" in note and "seed 7" in note for note in caught.value.__notes__)


def test_what_is_proven_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean note of these sources counts up to its number of examples; failures, other sources and none do not."""
    monkeypatch.setattr(proof, "PATH", tmp_path / "proof.json")
    share = 100 * len(properties.PROPERTIES["slots"])  # no unit of DEAR
    note = {"examples": share, "failures": 0, "sources": properties.version("slots")}
    assert not examples.proven("slots", 100)
    proof.note("examples", "slots", note)
    assert examples.proven("slots", 100) and not examples.proven("slots", 101)
    for wrong in ({"failures": 1}, {"sources": "0" * 16}):
        proof.note("examples", "slots", note | wrong)
        assert not examples.proven("slots", 100)


def _command(unit: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.libcore.examples", unit, "--examples", "1", "--again"]
    return subprocess.run(command, cwd=properties.ROOT, capture_output=True, text=True, check=False)


def test_the_command_runs_a_unit() -> None:
    """One unit in a process of its own: its line, and 0; without C there is nothing to compare."""
    done = _command("segment")
    if IMPLEMENTATION == "c":
        assert done.returncode == 0, done.stderr
        assert "segment            1 properties      2,000 examples   0 failures" in done.stdout
    else:
        assert done.returncode == 1 and "found no C library" in done.stderr


def test_a_unit_that_is_none_is_refused() -> None:
    """The names that there are, and the one that was found."""
    done = _command("segments")
    assert done.returncode == 1 and "sapfmt, segment, slots" in done.stderr and "found ['segments']" in done.stderr

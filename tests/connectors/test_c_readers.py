"""What `make build` compiles is there: a reader that is missing would leave its system to the slow one, in silence."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import connectors
from libcore import IMPLEMENTATION

BUILDERS = sorted(Path(connectors.__file__).parent.glob("*/build_reader.py"))
SYSTEMS = [path.parent.name for path in BUILDERS if IMPLEMENTATION == "c"]


def test_there_are_readers() -> None:
    """The next test looks at something."""
    assert len(BUILDERS) >= 2


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_reader_is_built_where_libcore_is(system: str) -> None:
    """Each system with a builder has its compiled module."""
    assert importlib.import_module(f"connectors.{system}._reader").lib is not None

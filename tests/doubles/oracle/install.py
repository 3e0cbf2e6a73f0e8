"""Puts the double in the driver's place: in this process, and in those that it starts."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

_SHIM = Path(__file__).parent / "shim"
_ROOT = Path(__file__).parents[3]


def driver() -> ModuleType:
    """What `import oracledb` finds where the double is in the driver's place."""
    spec = importlib.util.spec_from_file_location("oracledb", _SHIM / "oracledb" / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment(path: Path) -> dict[str, str]:
    """Variables of a process whose driver is the double; a pipeline's login names ORACLE_DSN, _USER, _PASSWORD."""
    found = [str(_SHIM), str(_ROOT)]
    login = {"ORACLE_DSN": str(path), "ORACLE_USER": "c##headrace", "ORACLE_PASSWORD": "secret"}
    return {"PYTHONPATH": ":".join(found), **login}


def install(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """For the rest of a test the double is the driver, here and in processes started from here."""
    monkeypatch.setitem(sys.modules, "oracledb", driver())
    for name, value in environment(path).items():
        monkeypatch.setenv(name, value)

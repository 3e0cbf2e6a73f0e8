"""What the habits look at: the project's own files, parsed once."""

from __future__ import annotations

import ast
import functools
import gc
import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("libcore", "connectors", "flows", "control", "bench")
_LEFT_OUT = {".git", ".venv", "build", "dist", "var", "node_modules", "__pycache__"}


def files(*suffixes: str, under: str = "") -> list[Path]:
    """The project's own files with one of these suffixes, sorted."""
    found = []
    for folder, folders, names in os.walk(ROOT / under):
        # those left out are not even entered: the environment alone has some ten thousand files
        folders[:] = [name for name in folders if not (name in _LEFT_OUT or name.endswith((".egg-info", "_cache")))]
        found += [Path(folder, name) for name in names if name.endswith(suffixes) and not _made(name)]
    return sorted(found)


def _made(name: str) -> bool:
    return name.startswith(("_c.", "_reader.")) and name.endswith(".c")


def modules(*packages: str) -> list[Path]:
    """The Python files of these packages (all of ours where none is named)."""
    return [path for package in packages or PACKAGES for path in files(".py", under=package)]


@functools.cache
def tree(path: Path) -> ast.Module:
    """The parsed module."""
    gc.disable()  # it would go through all trees that are kept, again and again: two thirds of the time
    try:
        return ast.parse(path.read_text("utf-8"), str(path))
    finally:
        gc.enable()


def name(path: Path) -> str:
    """How a file is called in messages: its path in the project."""
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> list[tuple[str, int]]:
    """(module, line) for everything that a module imports; `from a import b` gives a and a.b."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [(node.module, node.lineno)]
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found

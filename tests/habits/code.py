"""What the habits look at: the project's own files, parsed once."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("libcore", "connectors", "flows", "control", "bench")
_LEFT_OUT = {".git", ".venv", "build", "dist", "var", "node_modules", "__pycache__"}


def files(*suffixes: str, under: str = "") -> list[Path]:
    """The project's own files with one of these suffixes, sorted."""
    found = (path for path in (ROOT / under).rglob("*") if path.suffix in suffixes and path.is_file())
    return sorted(path for path in found if not _ignored(path.relative_to(ROOT)))


def _ignored(path: Path) -> bool:
    made = path.name.startswith(("_c.", "_reader.")) and path.suffix == ".c"
    return made or any(part in _LEFT_OUT or part.endswith((".egg-info", "_cache")) for part in path.parts)


def modules(*packages: str) -> list[Path]:
    """The Python files of these packages (all of ours where none is named)."""
    return [path for package in packages or PACKAGES for path in files(".py", under=package)]


@functools.cache
def tree(path: Path) -> ast.Module:
    """The parsed module."""
    return ast.parse(path.read_text("utf-8"), str(path))


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

"""Secrets are read in one place; nothing else in the product reads an environment variable that it does not own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.habits import code

HOME = "connectors/base/secrets.py"
# the variables that are settings, not secrets; a prefix ends with an underscore
SETTINGS = ("HEADRACE_", "BYTEWAX_", "XDG_", "JAVA_HOME", "PG", "PATH", "HOME", "CC", "TMPDIR", "NO_COLOR")


def environment_reads(tree: ast.Module) -> list[tuple[int, str | None]]:
    """(line, name) of each environment variable read; None where the name is computed or all are taken."""
    found: list[tuple[int, str | None]] = []
    parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def literal(node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return constants.get(node.id)
        return node.value if isinstance(node, ast.Constant) else None

    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")):
            continue
        above = parents[id(node)]
        if node.attr == "getenv" and isinstance(above, ast.Call):
            found.append((node.lineno, literal(above.args[0])))
        elif isinstance(above, ast.Subscript):
            found.append((node.lineno, literal(above.slice)))
        elif isinstance(above, ast.Attribute):
            call = parents[id(above)]
            arguments = call.args if isinstance(call, ast.Call) else []
            if above.attr in ("get", "setdefault", "pop"):
                found.append((node.lineno, literal(arguments[0]) if arguments else None))
    return found


def test_only_one_module_reads_secrets() -> None:
    """Outside connectors/base/secrets.py only named settings are read from the environment."""
    found = [
        f"{code.name(path)}:{line}: {name}"
        for path in code.modules("libcore", "connectors", "flows", "control")
        if code.name(path) != HOME
        for line, name in environment_reads(code.tree(path))
        if name is None or not name.startswith(SETTINGS)
    ]
    assert not found


def test_secrets_are_revealed_only_to_drivers() -> None:
    """Only the folder of a system takes a secret's value out of its wrapper."""
    found = {
        f"{code.name(path)}:{node.lineno}"
        for path in code.modules("libcore", "connectors", "flows", "control")
        for node in ast.walk(code.tree(path))
        if isinstance(node, ast.Attribute) and node.attr == "reveal"
    }
    outside = {place for place in found if not place.startswith("connectors/")}
    assert not outside


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import os\nos.environ['A']", ["A"]),
        ("import os\nos.environ.get('B', '')", ["B"]),
        ("import os\nos.getenv('C')", ["C"]),
        ("import os\nN = 'D'\nos.environ.get(N)", ["D"]),
        ("import os\nos.environ.get(x)", [None]),
        ("import os\n{**os.environ}", []),
    ],
)
def test_reads_are_recognised(text: str, names: list[str | None]) -> None:
    """Each way to read one variable is seen; handing the whole environment to a child process is not a read."""
    assert [name for _, name in environment_reads(ast.parse(text))] == names


def test_the_reader_of_secrets_exists() -> None:
    """The one place that the rule names is there, and it does read the environment."""
    assert environment_reads(code.tree(Path(code.ROOT / HOME)))

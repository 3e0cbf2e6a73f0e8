"""Sizes, opening sentences and forbidden words; the sizes are a ratchet that only stops growth."""

from __future__ import annotations

import ast
import re

import pytest

from tests.habits import code

LINE_MAX, FUNCTION_MAX, FILE_MAX = 120, 70, 400
# What was larger when the rule came, with its size then; it may shrink, never grow. An entry that is no longer needed
# fails the test, so that the list only gets shorter.
FILES_LARGER: dict[str, int] = {}
FUNCTIONS_LARGER: dict[str, int] = {}

C_FUNCTION = re.compile(r"^(?!typedef|struct|enum|union|#|/|\*)[A-Za-z_][\w \t*,()\[\]\n]*\)\s*\{$", re.M)
# spelt apart, so that this file does not find itself
FORBIDDEN = re.compile(
    r"\b(TO" r"DO|FIX" r"ME|XX" r"X|NotImplemented" r"Error)\b|(?<![\w.])/(?:ro" r"ot|ho" r"me/\w+)/|\.\./sha" r"red"
)


def written() -> list:
    """Everything that people write and read."""
    return code.files(".py", ".c", ".h", ".toml", ".md", ".yaml", ".yml", ".sh", ".in")


def functions(path) -> list[tuple[str, int]]:
    """(name, lines without the docstring) of each Python function, nested ones counted in their outer one too."""
    found = []
    for node in ast.walk(code.tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = ast.get_docstring(node) is not None and len(node.body) > 1
            start = first.end_lineno + 1 if documented else node.lineno
            found.append((f"{code.name(path)}:{node.name}", node.end_lineno - start + 1))
    return found


def c_functions(path) -> list[tuple[str, int]]:
    """(name, lines) of each C function whose brace closes in the first column."""
    text = path.read_text("utf-8")
    found = []
    for match in C_FUNCTION.finditer(text):
        end = text.find("\n}", match.end())
        called = re.findall(r"(\w+)\s*\(", match[0])
        found.append((f"{code.name(path)}:{called[0]}", text.count("\n", match.start(), end) + 1))
    return found


def check(sizes: dict[str, int], limit: int, larger: dict[str, int]) -> None:
    """Nothing above the limit but what is listed, and that not above its listed size."""
    grown = {name: size for name, size in sizes.items() if size > larger.get(name, limit)}
    assert not grown, f"above {limit} lines, or above the size listed for them: {grown}"
    stale = [name for name in larger if sizes.get(name, 0) <= limit]
    assert not stale, f"no longer above {limit} lines, so take them off the list: {stale}"


def test_files_are_of_a_size_to_read() -> None:
    """No Python or C file is longer than 400 lines, but those listed, which do not grow."""
    sizes = {code.name(path): path.read_text("utf-8").count("\n") for path in code.files(".py", ".c", ".h")}
    assert len(sizes) > 30
    check(sizes, FILE_MAX, FILES_LARGER)


def test_functions_fit_on_a_screen() -> None:
    """No function is longer than 70 lines, but those listed, which do not grow."""
    sizes = dict(pair for path in code.files(".py") for pair in functions(path))
    sizes |= dict(pair for path in code.files(".c") for pair in c_functions(path))
    assert len(sizes) > 100
    check(sizes, FUNCTION_MAX, FUNCTIONS_LARGER)


def test_lines_are_short() -> None:
    """No line of code is longer than 120 characters."""
    long = [
        f"{code.name(path)}:{number}"
        for path in code.files(".py", ".c", ".h", ".sh")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if len(line) > LINE_MAX
    ]
    assert not long


def test_every_module_says_what_it_is_for() -> None:
    """Each module opens with a sentence, and each C file with a comment."""
    silent = [
        code.name(path)
        for path in code.files(".py")
        if path.read_text("utf-8").strip() and not (ast.get_docstring(code.tree(path)) or "").strip()
    ]
    silent += [code.name(path) for path in code.files(".c", ".h") if not path.read_text("utf-8").startswith("/*")]
    assert not silent


def test_every_test_states_its_claim() -> None:
    """Each test function has a sentence and asserts something: by assert, pytest.raises or a helper named so."""
    silent, empty = [], []
    for path in code.files(".py", under="tests"):
        for node in ast.walk(code.tree(path)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                if not ast.get_docstring(node):
                    silent.append(f"{code.name(path)}:{node.name}")
                if not re.search(r"Assert\(|raises|warns|check|assert_|expect", ast.dump(node)):
                    empty.append(f"{code.name(path)}:{node.name}")
    assert not silent, "without a sentence"
    assert not empty, "without an assertion"


def test_nothing_is_put_off_or_tied_to_a_machine() -> None:
    """No file holds a note to do something later, a stub, or a path of one machine."""
    found = [
        f"{code.name(path)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for path in written()
        for text in [path.read_text("utf-8")]
        for match in FORBIDDEN.finditer(text)
    ]
    assert not found


def test_no_error_is_swallowed() -> None:
    """No `except` does nothing at all."""
    found = [
        f"{code.name(path)}:{node.lineno}"
        for path in code.files(".py")
        for node in ast.walk(code.tree(path))
        if isinstance(node, ast.ExceptHandler) and len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
    ]
    assert not found


def test_no_test_is_skipped() -> None:
    """No test is marked to be skipped or to fail."""
    mark = re.compile(r"pytest\.(skip|importorskip|xfail)|mark\.(skip|skipif|xfail)")
    found = [code.name(path) for path in code.files(".py", under="tests") if mark.search(path.read_text("utf-8"))]
    assert [name for name in found if name != code.name(code.Path(__file__))] == []


def test_the_ratchet_turns_one_way() -> None:
    """A listed file may not grow, a file not listed may not pass the limit, and a stale entry is refused."""
    check({"a": 500, "b": 10}, 400, {"a": 500})
    for sizes, larger in (({"a": 501}, {"a": 500}), ({"a": 401}, {}), ({"a": 300}, {"a": 500})):
        with pytest.raises(AssertionError):
            check(sizes, 400, larger)

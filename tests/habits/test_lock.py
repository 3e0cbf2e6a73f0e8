"""The lock file: every requirement pinned with hashes, from no place in particular, and fitting pyproject.toml."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.habits import code

UNLOCKED = {"pyrfcx"}
"""Loads SAP's NW RFC SDK, which only a customer has, and is called pyrfc as the tests' fake is."""
LOCK = (code.ROOT / "requirements.lock").read_text("utf-8")


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement(line: str) -> tuple[str, str]:
    """(name, version bounds) of one line of requirements."""
    match = re.match(r"([A-Za-z0-9][\w.-]*)(?:\[[\w,]+\])?\s*(.*)", line)
    assert match, line
    return normal(match[1]), match[2]


def pinned() -> dict[str, str]:
    """The versions in the lock file by name."""
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", LOCK, re.M)}


def numbers(version: str) -> tuple[int, ...]:
    """The release part of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def wanted() -> list[tuple[str, str]]:
    """What the requirement files and pyproject.toml ask for."""
    lines = []
    for name in ("requirements.in", "requirements-dev.in"):
        lines += [line for line in (code.ROOT / name).read_text("utf-8").splitlines() if line and line[0] not in "#-"]
    project = tomllib.loads((code.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines += project["dependencies"]
    lines += [line for extra in project["optional-dependencies"].values() for line in extra]
    asked = [requirement(line) for line in lines if not line.startswith("headrace")]
    return [(name, bounds) for name, bounds in asked if name not in UNLOCKED]


@pytest.mark.parametrize(("name", "bounds"), sorted(set(wanted())))
def test_every_requirement_is_in_the_lock(name: str, bounds: str) -> None:
    """What is asked for is pinned, at a version within its bounds."""
    assert name in pinned()
    for operator, version in re.findall(r"(>=|==|<)\s*([\d.]+)", bounds):
        locked, bound = numbers(pinned()[name]), numbers(version)
        length = len(bound)
        assert {">=": locked >= bound, "==": locked[:length] == bound, "<": locked < bound}[operator], (locked, bound)


def test_every_pin_has_a_hash() -> None:
    """Each pinned distribution is followed by at least one sha256."""
    for block in re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.M)[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_the_lock_names_no_place() -> None:
    """The lock holds no index, no link and no host, so it installs from whatever registry is set up."""
    assert not re.search(r"https?://|--find-links|-f |--index-url|--extra-index-url|--trusted-host", LOCK)

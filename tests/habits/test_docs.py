"""What README and docs tell a reader to type works: marked commands are run, links lead somewhere, commands exist.

A block is marked by an HTML comment on the line before it: `<!-- run -->` runs a sh block, `<!-- file: NAME -->` writes
the block into the directory in which the page's later commands run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.habits import code

BLOCK = re.compile(r"<!-- (run|file: ([\w.-]+)) -->\n```\w*\n(.*?)```", re.S)
PAGES = [code.ROOT / "README.md", *code.files(".md", under="docs")]
MARKED = [page for page in PAGES if BLOCK.search(page.read_text("utf-8"))]


def typed(program: str) -> set[str]:
    """The first words after a program's name in the pages' code, inline or in blocks, never in plain text."""
    found: set[str] = set()
    for page in PAGES:
        text = page.read_text("utf-8")
        pieces = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) + re.findall(r"`([^`\n]+)`", text)
        for piece in pieces:
            found |= set(re.findall(rf"^{program} ([a-z-]+)", piece, re.M))
    return found


def run_page(page: Path, directory: Path) -> list[str]:
    """Write the page's files, run its commands in order; the commands run. Fails the test at the first that fails."""
    programs = directory / "bin"
    programs.mkdir()
    # the command as this environment has it, installed or not
    launcher = programs / "headrace"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m control.cli "$@"\n', "utf-8")
    launcher.chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(code.ROOT)}
    commands = []
    for kind, name, text in BLOCK.findall(page.read_text("utf-8")):
        if kind == "run":
            done = subprocess.run(
                ["bash", "-eu", "-c", text], cwd=directory, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{code.name(page)}:\n{text}\n{done.stdout}{done.stderr}"
            commands.append(text)
        else:
            (directory / name).write_text(text, "utf-8")
    return commands


@pytest.mark.parametrize("page", MARKED, ids=code.name)
def test_marked_commands_work(page: Path, tmp_path: Path) -> None:
    """Every marked command of a page ends well, with the files that the page shows."""
    assert run_page(page, tmp_path)


def test_a_command_that_fails_is_seen(tmp_path: Path) -> None:
    """A page whose command fails fails its test: the runner is really looking."""
    page = tmp_path / "page.md"
    page.write_text('<!-- file: a -->\n```\nx\n```\n<!-- run -->\n```sh\ntest "$(cat a)" = y\n```\n', "utf-8")
    directory = tmp_path / "run"
    directory.mkdir()
    with pytest.raises((AssertionError, ValueError)):
        run_page(page, directory)


def test_readme_and_tutorial_are_run() -> None:
    """The two pages that newcomers type from are among those that are run."""
    assert {code.name(page) for page in MARKED} >= {"README.md", "docs/tutorial.md"}


def test_links_lead_somewhere() -> None:
    """Each relative link of a page names a file that is there."""
    broken = [
        f"{code.name(page)}: {target}"
        for page in PAGES
        for prose in [re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)]  # code has no links
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose)
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


def test_make_targets_named_exist() -> None:
    """Each `make x` in a page is a target that `make help` lists."""
    listed = set(re.findall(r"^([a-z-]+):.*## ", (code.ROOT / "Makefile").read_text("utf-8"), re.M))
    named = typed("make")
    assert {"demo", "test", "bench"} <= named
    assert named <= listed


def test_commands_named_exist() -> None:
    """Each `headrace x` in a page is a command of the command line."""
    from control.cli.main import app

    known = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    named = typed("headrace")
    assert {"run", "verify"} <= named
    assert named <= known


def test_files_named_in_the_map_exist() -> None:
    """Each path of ours that architecture.md and README put in backticks is there."""
    ours = re.compile(r"`((?:libcore|connectors|flows|control|bench|tests|k8s|docs)/[a-z0-9_./-]*)`")
    pages = ("README.md", "docs/architecture.md", "docs/connectors.md")
    paths = {path for page in pages for path in ours.findall((code.ROOT / page).read_text("utf-8"))}
    assert len(paths) > 8
    assert not [path for path in paths if not (code.ROOT / path).exists()]

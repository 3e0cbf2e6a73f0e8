"""What the pages of the sources tell a reader to type works, against a real database, and their verdicts are equal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.habits import code

BLOCK = re.compile(r"<!-- (run|run with a database|run with a server|file: ([\w.-]+)) -->\n```\w*\n(.*?)```", re.S)


@pytest.mark.parametrize("page", ["files", "postgres", "several", "sqlite"])
def test_a_page_runs_from_its_first_command_to_its_last(page: str, postgres: str, tmp_path: Path) -> None:
    """Files are written, commands run in order, and each verify says that all tables are equal."""
    verdicts = run_page(page, tmp_path, {"WAREHOUSE_DSN": postgres})
    assert verdicts == {"files": 1, "postgres": 3, "several": 1, "sqlite": 3}[page]


def run_page(page: str, tmp_path: Path, addresses: dict[str, str]) -> int:
    """Do what a page says; how many verifications found all equal. `addresses`: what a reader has to put in."""
    (tmp_path / "bin").mkdir()
    launcher = tmp_path / "bin" / "headrace"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m control.cli "$@"\n', "utf-8")
    launcher.chmod(0o755)
    python = tmp_path / "bin" / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', "utf-8")
    python.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(code.ROOT)}
    environment |= addresses
    verdicts = 0
    for kind, name, text in BLOCK.findall((code.ROOT / "docs" / "sources" / f"{page}.md").read_text("utf-8")):
        if name:
            (tmp_path / name).write_text(text, "utf-8")
            continue
        # the address that a reader has to put in is that of the test's database
        typed = re.sub(rf"(?m)^export ({'|'.join(addresses)})=.*$", "", text)
        done = subprocess.run(
            ["bash", "-eu", "-c", typed], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{kind}:\n{typed}\n{done.stdout}{done.stderr}"
        verdicts += done.stdout.count("all equal") - done.stdout.count("NOT all equal")
    return verdicts

"""The demo does what it shows: both pipelines run, every table is equal, nothing is left behind."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from control import demo


def test_the_demo_ends_equal_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With few events the demo proves both streams equal, prints the rate, and removes what it made."""
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path))
    monkeypatch.setenv("HEADRACE_DEMO_DSN", "")  # so that the test's environment is put back
    shown = io.StringIO()
    code = demo.main(2000, 1, parts=["kafka"], console=Console(file=shown, width=200, force_terminal=False))
    text = shown.getvalue()
    assert code == 0, text
    assert re.search(r"equal: every row of every table but 3 .*; [\d,]+ events/s", text)
    assert re.search(r"items +1,\d+ +1,\d+ +0 +0", text) and text.count("0 missing, 0 extra, 0 different") == 10
    (folder,) = {match.group(1) for match in re.finditer(r"headrace run (\S+)/\w+\.toml", text)}
    assert not os.path.exists(folder)


def test_a_target_that_is_not_equal_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A row changed behind the pipeline's back makes the demo fail: the comparison really looks."""
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path))
    honest = demo.Stage.run

    def spoiled(self: demo.Stage, name: str, text: str) -> object:
        result = honest(self, name, text)
        self.postgres.execute("UPDATE orders SET status = 'LOST' WHERE id = 7", "warehouse")
        return result

    monkeypatch.setattr(demo.Stage, "run", spoiled)
    shown = io.StringIO()
    assert demo.main(2000, 1, parts=["kafka"], console=Console(file=shown, width=200, force_terminal=False)) == 1
    assert "NOT EQUAL" in shown.getvalue() and re.search(r"orders +500 +500 +1 +1", shown.getvalue())

"""The demo's live half: an ERP written to meanwhile, interrupted, gone on with, and equal at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from control import demo_live
from libcore.errors import ConfigurationError

_ROOT = Path(__file__).parents[2]
_ROWS = 6000 + 1500 + 150  # items, orders, customers of --events 24000


def _demo(place: Path, *options: str) -> subprocess.Popen[str]:
    arguments = ["demo", "--part", "live", "--events", "24000", "--directory", str(place), *options]
    return subprocess.Popen(
        [sys.executable, "-m", "control.cli", *arguments],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "200"},
    )


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the server's own user may pass."""
    with tempfile.TemporaryDirectory(prefix="headrace-test-demo-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder) / "demo"


def test_an_interrupted_demo_goes_on_from_where_it_was(place: Path) -> None:
    """SIGINT in the middle of the stream keeps the position; the next start reads no row twice, and ends equal."""
    first = _demo(place, "--seconds", "60")
    deadline = time.monotonic() + 50
    applied = place / "var" / "live" / "run" / "worker-0.json"
    while time.monotonic() < deadline:
        found = re.search(r'"rows_applied": (\d+)', applied.read_text()) if applied.exists() else None
        if found and int(found[1]) > _ROWS + 6000 + 300:  # the snapshot, its joined lines, and changes
            break
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    text = first.communicate(timeout=30)[0]
    assert first.returncode == 0 and "are kept in" in text and "goes on from there" in text, text
    second = _demo(place, "--seconds", "3")
    text = second.communicate(timeout=50)[0]
    assert second.returncode == 0, text
    assert "no second snapshot" in text
    events = sum(int(number.replace(",", "")) for number in re.findall(r"ended after [\d:]+: ([\d,]+) events", text))
    assert 0 < events < _ROWS, text
    assert len(re.findall(r"^ *(?:customers|orders|items|order_lines) +([\d,]+) +\1 +0 +0 *$", text, re.M)) == 4, text
    assert re.search(r"equal; [\d,]+ rows/s", text) and not place.exists()


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A directory with other things in it is neither used nor emptied."""
    (tmp_path / "thesis.tex").touch()
    options = demo_live.Options(items=1000, processes=1, directory=tmp_path)
    for doing in (lambda: demo_live.forget(options), lambda: demo_live.run(options, Console())):
        with pytest.raises(ConfigurationError, match=r"found 'thesis\.tex' in it"):
            doing()
    assert (tmp_path / "thesis.tex").exists()

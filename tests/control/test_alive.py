"""The liveness probe fails where epochs stand still, and only there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control import alive
from control.status import WorkerStatus, worker_path
from flows import json_file

_NOW = 1_800_000_000.0


@given(st.floats(0, 1000), st.floats(0, 1000), st.integers(0, 5), st.booleans())
def test_dead_means_an_old_epoch_or_an_old_word(
    epoch_age: float, word_age: float, epochs: int, backpressure: bool
) -> None:
    """A worker lives while it speaks and its epochs move, or it waits for the spool; the start has a wider bound."""
    status = WorkerStatus(
        0,
        written_at=_NOW - word_age,
        started_at=_NOW - 2000 if epochs else _NOW - epoch_age,
        epoch_at=_NOW - epoch_age if epochs else 0.0,
        epochs=epochs,
        backpressure=backpressure,
    )
    bound = 120.0 if epochs else 300.0
    dead = alive.reason_dead(status, _NOW, 120.0, 300.0) is not None
    assert dead == (word_age > bound or (not backpressure and _NOW - (_NOW - epoch_age) > bound))


@pytest.mark.parametrize(
    ("environment", "worker"),
    [
        ({}, 0),
        ({"BYTEWAX_POD_NAME": "headrace-12"}, 12),
        ({"BYTEWAX_POD_NAME": "headrace-12", "HEADRACE_WORKER": "3"}, 3),
    ],
)
def test_a_pod_knows_its_number(environment: dict[str, str], worker: int) -> None:
    """The supervisor's word counts, then the pod's name."""
    assert alive.worker_index(environment) == worker


def test_the_probe_reads_this_workers_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before its first word it is not started and not dead; a hung worker is dead, its neighbour is not."""
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("HEADRACE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("HEADRACE_WORKER", "1")
    assert (alive.main([]), alive.main(["--started"])) == (0, 1)
    now = time.time()
    json_file.write(worker_path(tmp_path, 0), {"worker": 0, "written_at": now, "epoch_at": now, "epochs": 9})
    json_file.write(worker_path(tmp_path, 1), {"worker": 1, "written_at": now, "epoch_at": now - 500, "epochs": 9})
    capsys.readouterr()
    assert (alive.main([]), alive.main(["--started"]), alive.main(["--epoch-age", "900"])) == (1, 0, 0)
    assert "last epoch is 500 s old" in capsys.readouterr().out
    monkeypatch.setenv("HEADRACE_WORKER", "0")
    assert alive.main([]) == 0

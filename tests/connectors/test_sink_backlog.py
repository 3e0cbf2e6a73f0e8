"""The spooled sink while its target is away for long: segments stay few, whatever the pace of the changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.base import sink, stop
from connectors.base.items import Tick
from tests.connectors.shelf import Shelf
from tests.connectors.test_sink import changes, part_of, sink_at

EPOCHS = 6


@pytest.fixture(autouse=True)
def _no_stop() -> Iterator[None]:
    yield
    stop.reset()


@pytest.mark.parametrize("ended_by", ["the target's return", "a stop"])
def test_behind_many_segments_an_epoch_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    """Behind as many segments as are many, an epoch stays open, until the target takes some or the flow stops."""
    monkeypatch.setattr(sink, "_MANY_SEGMENTS", 3)
    monkeypatch.setattr(sink, "_LONG_EPOCH_S", 60.0)
    shelf = Shelf()
    target = sink_at(tmp_path, shelf)
    part, done, states = part_of(target), threading.Event(), []
    shelf.up.clear()

    def feed() -> None:
        for number in range(EPOCHS):
            part.write_batch([changes(number)])
            states.append(part.snapshot())
        done.set()

    thread = threading.Thread(target=feed)
    thread.start()
    assert not done.wait(0.5)
    assert len(states) == len(list(tmp_path.iterdir())) == 3
    if ended_by == "a stop":
        stop.request()
    else:
        shelf.up.set()
    assert done.wait(15)
    thread.join()
    part.write_batch([Tick()])
    states.append(part.snapshot())
    part.close()
    stop.reset()
    shelf.up.set()
    part_of(target, states[-1]).close()
    assert shelf.ids == list(range(EPOCHS))

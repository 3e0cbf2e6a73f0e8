"""Files that an epoch's end writes in threads: all there before the epoch can end, or at once where nobody waits."""

from __future__ import annotations

import threading

import pytest

from connectors.base.epoch_writes import EpochWrites


def test_all_is_written_when_the_wait_ends() -> None:
    """Several writes run beside the caller, and `wait` ends behind the last of them."""
    writes, go, written = EpochWrites(), threading.Event(), list[int]()
    writes.will_wait()

    def write(number: int) -> int:
        assert go.wait(10)
        written.append(number)
        return number

    futures = [writes.write(write, number) for number in range(3)]
    assert written == []
    go.set()
    writes.wait()
    assert sorted(written) == [future.result() for future in futures] == [0, 1, 2]


def test_a_file_is_written_at_once_where_nobody_waits() -> None:
    """Without a part of the sink in this worker, or where it is asked for, it is written when the call returns."""
    writes = EpochWrites()
    assert writes.write(threading.get_ident).result() == threading.get_ident()
    writes.will_wait()
    assert writes.write(threading.get_ident, at_once=True).result() == threading.get_ident()
    assert writes.write(threading.get_ident).result() != threading.get_ident()


def test_what_a_write_raises_ends_the_wait() -> None:
    """A full disk is told to whoever waits, once."""
    writes = EpochWrites()
    writes.will_wait()

    def full() -> None:
        raise OSError(28, "No space left on device")

    writes.write(full)
    with pytest.raises(OSError, match="No space left"):
        writes.wait()
    writes.wait()

"""What every source shares: the pacing of ticks, the stop flag, secrets, retries, configuration."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.base import retry, secrets, stop
from connectors.base.items import Item, Tick
from connectors.base.source import IDLE_MS_MAX, Pacing
from connectors.kafka.config import KafkaConfig
from libcore.errors import ConfigurationError, TransientError


@given(calls=st.lists(st.sampled_from(["rows", "idle", "nothing", "closed"]), max_size=40), rows_max=st.integers(1, 9))
def test_rows_are_always_followed_by_a_tick_of_a_later_epoch(calls: list[str], rows_max: int) -> None:
    """Whatever the order of calls: rows end with a Tick, the end brings one more in a later epoch, the quota holds."""
    pacing = Pacing(rows_max)
    epochs: list[list[str]] = [[]]

    def note(items: list[Item]) -> None:
        epochs[-1] += ["tick" if isinstance(item, Tick) else "rows" for item in items]

    taken = 0
    for call in calls:
        assert pacing.room == rows_max - taken
        if call == "closed":
            pacing.closed()
            epochs.append([])
            taken = 0
        elif call == "idle" or pacing.room == 0:
            note(pacing.idle())
        elif call == "nothing":
            taken += 1
            note(pacing.nothing(1))
        else:
            taken += 1
            note(pacing.rows(["row"], 1))  # type: ignore[list-item]
    for _ in range(3):
        try:
            note(pacing.ending())
        except StopIteration:
            break
        pacing.closed()
        epochs.append([])
    else:
        raise AssertionError("no end after three epochs")
    with_rows = [number for number, epoch in enumerate(epochs) if "rows" in epoch]
    assert all(epochs[number][-1] == "tick" for number in with_rows)
    assert not with_rows or any("tick" in epoch for epoch in epochs[with_rows[-1] + 1 :])
    assert sum("tick" in epoch for epoch in epochs) <= 2 * len(with_rows) + 1


def test_idle_partitions_awake_together() -> None:
    """Partitions that have been idle for a while are due at the same moments, so they share epochs."""
    first, second = Pacing(10), Pacing(10)
    for _ in range(5):
        first.idle()
    for _ in range(9):
        second.idle()
    awake = [pacing.next_awake() for pacing in (first, second)]
    assert all(moment is not None and moment.timestamp() * 1000 % IDLE_MS_MAX < 0.01 for moment in awake if moment)
    first.rows([], 1)
    assert first.next_awake() is None


def test_an_epoch_that_stands_alone_takes_nothing_more() -> None:
    """After items that must stand alone there is no room until the epoch is closed."""
    pacing = Pacing(10)
    assert pacing.rows([], 1, alone=True) == [Tick()]
    assert pacing.room == 0
    pacing.closed()
    assert pacing.room == 10


STOPPING = """
import os, signal, sys
from connectors.base import stop
assert stop.install() and stop.install()
os.kill(os.getpid(), signal.{name})
assert stop.requested()
print("asked", flush=True)
os.kill(os.getpid(), signal.{name})
print("survived", flush=True)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_asks_and_a_second_one_ends(name: str) -> None:
    """The first SIGTERM or SIGINT only sets the flag; the second has the effect it had before."""
    done = subprocess.run(
        [sys.executable, "-c", STOPPING.format(name=name)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "asked\n"
    assert done.returncode == -getattr(signal, name) or "KeyboardInterrupt" in done.stderr


def test_reset_puts_the_handlers_back() -> None:
    """install() and reset() leave the process as it was."""
    before = [signal.getsignal(number) for number in stop.SIGNALS]
    assert stop.install()
    stop.request()
    stop.reset()
    assert not stop.requested()
    assert [signal.getsignal(number) for number in stop.SIGNALS] == before


@given(value=st.text(min_size=1).filter(lambda text: text not in "Secret(env:NAME)"))
def test_a_secret_never_shows(value: str) -> None:
    """No way to print a secret shows it, and it does not pickle."""
    secret = secrets.Secret(value, "env:NAME")
    assert {repr(secret), str(secret), f"{secret}", f"{secret!s}"} == {"Secret(env:NAME)"}
    assert secret.reveal() == value
    with pytest.raises(TypeError, match="not to be pickled"):
        pickle.dumps(secret)


def test_references_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """env: and file: give the value; a file loses one line break at its end; other text stays as it is."""
    monkeypatch.setenv("HEADRACE_TEST_SECRET", "s3cret")
    file = tmp_path / "password"
    file.write_text("pass word\n\n")
    assert secrets.resolve("env:HEADRACE_TEST_SECRET").reveal() == "s3cret"
    assert secrets.resolve(f"file:{file}").reveal() == "pass word\n"
    assert secrets.plain("PLAIN") == "PLAIN"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("env:HEADRACE_NOT_THERE", "the environment variable HEADRACE_NOT_THERE is not set"),
        ("file:/not/there", "file:/not/there: No such file"),
        ("file:relative", "expected an absolute path"),
        ("vault:secret/db", "vault references are not supported; use env:NAME and file:/path"),
    ],
)
def test_a_bad_reference_says_what_is_missing(reference: str, words: str) -> None:
    """The error names the reference and what is supported."""
    with pytest.raises(ConfigurationError, match=words):
        secrets.resolve(reference)


def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    """Plain text where a reference belongs is refused without being printed; a bad setting neither."""
    with pytest.raises(ConfigurationError) as caught:
        secrets.resolve("hunter2")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        KafkaConfig.read(
            {"servers": "h:1", "queued_bytes_max": "hunter2", "nothing": "hunter2"}, "orders.toml [source.kafka]"
        )
    assert "hunter2" not in str(caught.value) and "known fields are servers" in str(caught.value)


def test_security_settings_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """A printed configuration shows no property; the client gets the secret; a missing one is named."""
    monkeypatch.setenv("HEADRACE_TEST_SECRET", "s3cret")
    given_properties: dict[str, Any] = {"sasl.username": "me", "sasl.password": "env:HEADRACE_TEST_SECRET"}
    config = KafkaConfig(servers="h:1", properties=given_properties)
    assert "s3cret" not in repr(config) and "sasl" not in repr(config)
    assert config.client_properties(1)["sasl.password"] == "s3cret"
    missing = KafkaConfig(servers="h:1", properties={"sasl.password": "env:HEADRACE_NOT_THERE"})
    with pytest.raises(ConfigurationError, match=r"property sasl.password: env:HEADRACE_NOT_THERE"):
        missing.client_properties(1)
    with pytest.raises(ConfigurationError, match=r"property enable.auto.commit is set by the recovery store"):
        KafkaConfig.read({"servers": "h:1", "properties": {"enable.auto.commit": True}}, "source")


def test_transient_errors_are_tried_again() -> None:
    """A call that fails twice for a passing reason succeeds at the third try; another error passes at once."""
    answers: list[Exception | str] = [TransientError("not now"), TransientError("not yet"), "here"]
    tries: list[int] = []

    def ask() -> str:
        tries.append(1)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retry.call("ask", ask, total_s=None, first_s=0.001, wait_max_s=0.002) == "here"
    assert len(tries) == 3
    answers[:] = [ValueError("no"), "never"]
    with pytest.raises(ValueError, match="no"):
        retry.call("ask", ask, total_s=None)


def test_a_stop_request_ends_the_retries() -> None:
    """After a stop request no further try is made: the last error is raised as it is."""

    def ask() -> None:
        stop.request()
        raise TransientError("down")

    try:
        with pytest.raises(TransientError, match="down"):
            retry.call("ask", ask, total_s=None)
    finally:
        stop.reset()


def test_the_environment_of_tests_holds_no_secret() -> None:
    """The name used for a missing secret is really missing, else the tests above prove nothing."""
    assert "HEADRACE_NOT_THERE" not in os.environ

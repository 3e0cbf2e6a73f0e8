"""State in an object store: the same promises as on a disk, on a server that speaks S3."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import fs

from control.embedded import S3Proxy, ServerError
from flows import spec
from flows.state.look import read_state
from flows.state.segments import SLOTS, SegmentStore
from flows.testing import run_flow
from libcore.errors import ConfigurationError, TransientError
from libcore.schema import Table
from tests.flows.joined import History, fill, log, pipeline_text, read_lines, some_lines
from tests.flows.test_state import check_life


@dataclass(frozen=True)
class Place:
    """Where segments go: an S3 server, or a directory by its URI where there is no Java."""

    root: str
    server: S3Proxy | None
    environment: Mapping[str, str] = field(default_factory=dict)

    def uri(self, prefix: str) -> str:
        """A place of its own."""
        return self.server.uri(prefix) if self.server is not None else f"{self.root}/{prefix}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One S3 server for the module."""
    if not S3Proxy.available():
        yield Place(tmp_path_factory.mktemp("segments").as_uri(), None)
        return
    with S3Proxy() as found:
        yield Place("", found, found.environment)


@pytest.fixture
def place(server: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The server, with this process let in."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_what_was_durable_comes_back_from_an_object_store(seed: int, place: Place) -> None:
    """After any epochs, crashes, merges and rescales the stores hold the last durable content, and no file is left."""
    check_life(seed, place.uri(f"state-{uuid.uuid4().hex[:8]}"))


@pytest.mark.timeout(180)
def test_a_join_with_its_state_in_an_object_store(place: Place, broker: str, postgres: str, tmp_path: Path) -> None:
    """Killed on one process and resumed on three and two, the join is right, and nothing of its state lies on disk."""
    history = History(7, f"s3-{uuid.uuid4().hex[:8]}")
    location = place.uri(f"flow-{uuid.uuid4().hex[:8]}")
    file = tmp_path / "joined.toml"
    file.write_text(pipeline_text(history, broker, settings=f'segments = "{location}"'), "utf-8")
    environment = {"TARGET_DSN": postgres, **place.environment}
    flow, to_end = f"flows.build:flow('{file}')", f"flows.build:flow('{file}', until_end=True)"
    fill(broker, history, history.messages(1_500))
    codes = run_flow(flow, tmp_path, kill_after_s=0, ready=some_lines(postgres, 100), environment=environment)
    assert codes == [-9], log(tmp_path)
    assert run_flow(to_end, tmp_path, processes=3, environment=environment) == [0] * 3, log(tmp_path)
    assert read_lines(postgres) == history.lines()
    fill(broker, history, history.messages(1_500), make=False)
    assert run_flow(to_end, tmp_path, processes=2, environment=environment) == [0] * 2, log(tmp_path)
    assert read_lines(postgres) == history.lines()
    files, directory = fs.FileSystem.from_uri(location)
    assert [info for info in files.get_file_info(fs.FileSelector(directory)) if info.extension == "seg"]
    assert not (tmp_path / "state" / "segments").exists()
    state = {step.step: stores for step, stores in read_state(tmp_path / "recovery", "joined", location)}
    dimension, _ = state["join-order_lines-orders.match.state"]["dimension"]
    assert dimension.num_rows == len(history.orders)


def test_a_bucket_that_is_not_there_is_refused(place: Place) -> None:
    """A location that cannot be written is refused with its name."""
    if place.server is None:  # a directory is made where it is missing
        assert SegmentStore(place.uri("made"), "step", 0).names() == {}
        return
    location = place.uri("x").replace("s3://state/", "s3://nowhere/")
    with pytest.raises(ConfigurationError, match=r"state segments s3://nowhere/x.*can be written, found: .*nowhere"):
        SegmentStore(location, "step", 0)


def test_a_store_that_is_down_is_another_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A put into a store that went down, and a start without it, are worth another try; then all is there."""
    if not S3Proxy.available():
        with pytest.raises(ServerError, match="Java"), S3Proxy():
            raise AssertionError("it must not start")
        return
    table, record = Table("t", ()), pa.record_batch([pa.array([1, 2])], names=["id"])
    with S3Proxy() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = SegmentStore(server.uri("down"), "step", 0)
        name = store.new_name()
        store.write(name, [(table, record)], {SLOTS: {"t": [[3, 0, 2]]}})
        server.kill()
        with pytest.raises(TransientError, match=r"state segment state/down/step-0-00000002.*NETWORK_CONNECTION"):
            store.write(store.new_name(), [(table, record)], {})
        with pytest.raises(TransientError, match=r"state segments s3://state/down.*NETWORK_CONNECTION"):
            SegmentStore(server.uri("down"), "step", 0)
        server.start()
        assert store.names().keys() == {name} and store.slot_counts(name) == {3: 2}
        assert store.read(name).parts[0][1].equals(record)


def test_a_file_that_goes_while_it_is_read_is_gone(place: Place) -> None:
    """Processes delete what no slot needs while others look at it: for them it is as if it had not been there."""
    store = SegmentStore(place.uri("going"), "step", 0)
    name = store.new_name()
    store.write(name, [(Table("t", ()), pa.record_batch([pa.array(range(50_000))], names=["id"]))], {SLOTS: {}})
    with pytest.raises(FileNotFoundError), store._opened(name) as source:
        store.delete([name])
        source.read()


@pytest.mark.parametrize("location", ["s3://AKIA:top-secret@bucket/x", "s3://AKIA:top/secret@bucket/x"])
def test_keys_in_a_location_are_refused(location: str) -> None:
    """A location with keys in it is refused, and the message does not show them."""
    assert "AWS_ACCESS_KEY_ID" not in os.environ
    with pytest.raises(ConfigurationError, match="expected a location without keys in it") as caught:
        SegmentStore(location, "step", 0)
    assert "AKIA" not in str(caught.value) and "secret" not in str(caught.value)
    history = History(1, "any")
    with pytest.raises(ConfigurationError, match=r"x.toml:2: segments: expected .* without keys in it") as caught:
        spec.parse(pipeline_text(history, "127.0.0.1:9092", settings=f'segments = "{location}"'), "x.toml")
    assert "AKIA" not in str(caught.value) and "secret" not in str(caught.value)

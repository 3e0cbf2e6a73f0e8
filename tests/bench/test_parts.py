"""The bench's own parts: the pipeline file it writes, the soak's rounds, the probes, the peer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from bench import crash, generate, latency, rig, soak, truth
from flows.spec import load


def test_the_pipeline_file_is_one_that_headrace_reads(tmp_path: Path) -> None:
    """The file for two tables of the workload, one of them without a key, loads with the workload's exact types."""
    tables = {"items": ("items", None, "t.items"), "ledger": ("items", (), "t.ledger")}
    file = rig.pipeline(tmp_path, "127.0.0.1:9092", tables, settings="parts = 2", source="batch_rows_max = 500")
    pipeline = load(file)
    assert pipeline.tables["items"].key == ("order_id", "line_no")
    assert pipeline.tables["ledger"].key == ()
    assert pipeline.tables["items"].columns == {name: types[0] for name, types in truth.COLUMNS["items"].items()}
    assert (pipeline.sink.settings.parts, pipeline.source.kafka.batch_rows_max) == (2, 500)
    assert load(rig.pipeline(tmp_path, "127.0.0.1:9092", tables, sink="null")).sink.name == "null"


def test_rounds_of_the_soak_rise(tmp_path: Path) -> None:
    """Every round has the same keys and rows, and greater positions than all before."""
    generate.write(tmp_path, 200)
    soak.template(tmp_path / "items.tsv", tmp_path / "template.tsv")
    first = list(generate.read(tmp_path / "items.tsv"))
    events = list(soak.rounds(tmp_path / "template.tsv", 450))
    assert len(events) == 450
    positions = [json.loads(value)["source"]["lsn"] for _, value in events]
    assert positions == sorted(set(positions))
    assert all(
        json.loads(json.loads(value)["source"]["sequence"])[1] == str(lsn)
        for (_, value), lsn in zip(events, positions, strict=True)
    )
    for index in (0, 199, 200, 449):
        (key, value), (old_key, old_value) = events[index], first[index % 200]
        assert key == old_key
        assert json.loads(value)["after"] == json.loads(old_value)["after"]


def test_a_probe_carries_its_moment() -> None:
    """A probe's row says when it was sent, under one of a few keys outside of the workload's."""
    key, value = latency.probe(11, 1_760_000_000_123_456)
    assert json.loads(key) == {"order_id": -1, "line_no": 3}
    assert json.loads(value)["after"]["created_at"] == 1_760_000_000_123_456


def peer(broker: str, topic: str, dsn: str) -> list[str]:
    """The script's command line."""
    return [sys.executable, "-m", "bench.peers.script", "--servers", broker, "--topic", topic, "--dsn", dsn]


def test_the_peer_is_right_also_after_a_kill(tmp_path: Path, broker: str, postgres: str) -> None:
    """The hand-written script ends with the truth, also after a kill in the middle: it is no straw man."""
    generate.write(tmp_path, 75_000, hard=True)  # the script commits every 50,000
    topic = f"peer-{tmp_path.name}"
    generate.produce(broker, tmp_path, {"items": topic}, 2)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(truth.ddl("items"))
        process = subprocess.Popen(peer(broker, topic, postgres), stdout=subprocess.PIPE)
        offsets = "SELECT coalesce(sum(next_offset), 0) FROM peer_offsets"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            exists = connection.execute("SELECT to_regclass('peer_offsets') IS NOT NULL").fetchone()
            if exists == (True,) and connection.execute(offsets).fetchone()[0] > 0:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert connection.execute(offsets).fetchone()[0] > 0
        done = subprocess.run(peer(broker, topic, postgres), capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["events"] < 75_000
        assert truth.check(connection, "items", tmp_path, "items").equal


def test_the_target_is_compared_as_postgresql_prints_it(tmp_path: Path, postgres: str) -> None:
    """Rows written by plain INSERTs of the events' values are equal to the truth, and one changed digit is not."""
    generate.write(tmp_path, 300, hard=True)
    with psycopg.connect(postgres, autocommit=True) as connection:
        for table in truth.COLUMNS:
            connection.execute(truth.ddl(table))
            rows = truth.final(tmp_path, table)
            marks = ", ".join(["%s"] * rows.num_columns)
            values = list(zip(*(column.to_pylist() for column in rows.columns), strict=True))
            connection.cursor().executemany(f"INSERT INTO {table} VALUES ({marks})", values)
            assert truth.check(connection, table, tmp_path, table).equal
        one = "(SELECT min(line_no) FROM items)"
        connection.execute(f"UPDATE items SET unit_price = unit_price + 0.0001 WHERE line_no = {one}")
        assert truth.check(connection, "items", tmp_path, "items").missing == 1


def test_a_killing_run_is_equal_only_if_both_tables_are() -> None:
    """One different row in either table, or a table that was not compared, makes the run unequal, and is shown."""
    same, other = truth.Comparison(10, 10, 0, 0), truth.Comparison(10, 11, 0, 1)
    outcome = crash.Outcome(
        3, [1, 2], ("items", "ledger"), ["worker at 1.00 s"], compared={"items": same, "ledger": same}
    )
    assert outcome.equal
    assert str(outcome) == "run 3: 1 -> 2 processes, worker at 1.00 s: equal"
    outcome.compared["ledger"] = other
    assert not outcome.equal
    assert "ledger: 10 rows expected, 11 found, 0 missing, 1 extra" in str(outcome)
    assert not crash.Outcome(4, [1], ("items", "ledger"), compared={"items": same}).equal


def test_the_spool_is_watched(tmp_path: Path) -> None:
    """The probe sees the greatest sum of a spool's files, also after they are gone."""
    probe = soak.SpoolProbe(tmp_path)
    probe.start()
    part = tmp_path / "part-0"
    part.mkdir()
    (part / "1").write_bytes(bytes(70_000))
    (part / "2").write_bytes(bytes(30_000))
    deadline = time.monotonic() + 10
    while probe.bytes_max < 100_000 and time.monotonic() < deadline:
        time.sleep(0.01)
    (part / "1").unlink()
    probe.ended.set()
    probe.join()
    assert probe.bytes_max == 100_000

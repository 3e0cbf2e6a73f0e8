"""Tables that a person asks a running flow to read again: SQL Server, Oracle, SAP by RFC over their doubles; SQLite."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from connectors.base import requests
from connectors.base.requests import Request, Requests, behind, keyed
from connectors.oracle.session import Refused, sorted_error
from control.cli.main import app
from flows import build
from tests.connectors import asked_parts
from tests.connectors.asked_parts import CONDITIONS, PLACES, REFUSALS, Marked, sap_items, silently, ways
from tests.connectors.contract_source import Followed, SourceSystem, some_rows
from tests.connectors.request_parts import answered, ask, asked_table
from tests.connectors.sqlserver_parts import WAYS

kind, system = asked_parts.kind, asked_parts.system


@ways(PLACES)
def test_read_again_under_a_writer(system: SourceSystem, kind: str, tmp_path: Path) -> None:
    """What a target lost comes back by a condition, a writer going on, crashed in mid-table; the answer counts it."""
    table, where = CONDITIONS[kind]
    system.write(some_rows(Random(1), 0, 200))
    followed = Marked(system.pipeline(batch_rows_max=15, chunk_rows=15), tmp_path / "state")
    followed.until(lambda: followed.rows() == system.rows())
    lost = {key for key in followed.tables["items"] if key[0] < 120}
    for key in lost:
        del followed.tables["items"][key]
    ended = threading.Event()

    def write() -> None:
        random = Random(2)
        for number in range(12):
            system.write(some_rows(random, random.randrange(180), 3), (number * 3 + 40,))
            time.sleep(0.005)
        ended.set()

    writer = threading.Thread(target=write)
    answer = ask(tmp_path / "state", table, where)
    writer.start()
    followed.until(lambda: any(key in followed.tables["items"] for key in lost))
    followed.crash()
    followed.until(lambda: len(lost & followed.tables["items"].keys()) > 60)
    assert not answer.exists()
    followed.crash()
    followed.until(ended.is_set)
    writer.join()
    followed.until(answer.exists)
    assert "one" in next(iter(followed.durable.values()))[-1]
    followed.until(lambda: followed.rows() == system.rows())
    followed.close()
    assert answered(answer)["done"] and 0 < answered(answer)["rows"] <= 121
    assert list((tmp_path / "state" / "requests").iterdir()) == []


@ways(
    [
        PLACES[0],
        ("sqlserver", WAYS[-1]),
        ("oracle", "logminer"),
        ("oracle", "trigger_log"),
        ("sap_rfc", "documents"),
        ("sqlite", "triggers"),
    ]
)
def test_what_cannot_be_read_is_refused(system: SourceSystem, kind: str, tmp_path: Path) -> None:
    """A condition that the database refuses, a table that is not there: the answer says so, and the flow goes on."""
    system.write(some_rows(Random(1), 0, 20))
    followed = Followed(system.pipeline(), tmp_path / "state")
    followed.until(lambda: followed.rows() == system.rows())
    table = CONDITIONS[kind][0]
    wrong = ask(tmp_path / "state", table, f"{REFUSALS[kind]} = 1", "wrong")
    missing = ask(tmp_path / "state", "no_table", "", "missing")
    cut = ask(tmp_path / "state", table, "1 = 1) -- the rest", "cut")
    followed.until(lambda: wrong.exists() and missing.exists() and cut.exists())
    whole = ask(tmp_path / "state", table, "", "whole")
    system.write({500: (500, "on", None)})
    followed.until(lambda: whole.exists() and followed.rows() == system.rows())
    followed.close()
    assert not answered(cut)["done"]
    assert REFUSALS[kind].lower() in answered(wrong)["error"].lower()
    assert "expected one of" in answered(missing)["error"] and "found 'no_table'" in answered(missing)["error"]
    assert answered(whole) == {"done": True, "rows": answered(whole)["rows"]} and answered(whole)["rows"] >= 20


def test_sap_knows_what_was_brought_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that no document told of comes by a request; that it is as before then comes by its document, again."""
    monkeypatch.setattr(requests, "_LOOK_S", 0.02)
    system = sap_items(tmp_path, monkeypatch)
    followed = Followed(system.pipeline(), tmp_path / "state")
    system.write({1: (1, "old", None)})
    followed.until(lambda: followed.rows() == system.rows())
    silently(system, {1: (1, "new", None)})
    answer = ask(tmp_path / "state", "items")
    followed.until(lambda: answer.exists() and followed.rows()[1][1] == "new")
    system.write({1: (1, "old", None)})
    followed.until(lambda: followed.rows()[1][1] == "old")
    followed.close()
    assert answered(answer) == {"done": True, "rows": 1}


class TestFiles:
    """The directory, and what a source's state keeps."""

    def _requests(self, directory: Path) -> Requests:
        return Requests(directory, keyed({"t": asked_table("t", ["id"]), "log": asked_table("log", [])}))

    def test_what_is_no_request_is_refused(self, tmp_path: Path) -> None:
        """A file that is not JSON, one without a table, a table without a key: each is answered, none is kept."""
        answers = [ask(tmp_path, "log", "", "keyless"), *(tmp_path / "run" / f"request-{one}.json" for one in "ab")]
        (tmp_path / "requests" / "a.json").write_text("{", "utf-8")
        (tmp_path / "requests" / "b.json").write_text("{}", "utf-8")
        assert self._requests(tmp_path).joined((), (), ()) == ()
        errors = [answered(one)["error"] for one in answers]
        assert "has no key" in errors[0] and all("expected {table, where}" in one for one in errors[1:])

    @pytest.mark.parametrize("words", ["[]", "null", '"t"', "7"])
    def test_json_that_is_no_request_is_refused(self, words: str, tmp_path: Path) -> None:
        """JSON of another kind is answered as what is no JSON is: it does not stop the flow at each start."""
        (tmp_path / "requests").mkdir()
        (tmp_path / "requests" / "a.json").write_text(words, "utf-8")
        assert self._requests(tmp_path).joined((), (), ()) == ()
        assert "expected {table, where}" in answered(tmp_path / "run" / "request-a.json")["error"]

    def test_a_request_that_is_gone_when_it_is_read(self, tmp_path: Path) -> None:
        """A file that another process answered meanwhile keeps that answer."""
        (tmp_path / "requests").mkdir()
        (tmp_path / "requests" / "a.json").symlink_to(tmp_path / "gone")  # listed, and not there
        assert self._requests(tmp_path).joined((), (), ()) == ()
        assert not (tmp_path / "run" / "request-a.json").exists()

    def test_answered_once_it_is_durable(self, tmp_path: Path) -> None:
        """Done in the open epoch it has no answer; a process that begins behind it answers, and does not read again."""
        answer = ask(tmp_path, "t", "x > 1")
        ((request),) = self._requests(tmp_path).joined((), (), ())
        open_ones, done = behind((request,), (), request, ("7",), 5)
        assert (open_ones, done) == ((("one", "t", "x > 1", ("7",), (), 5),), ())
        open_ones, done = behind(open_ones, done, open_ones[0], None)
        assert self._requests(tmp_path).joined(open_ones, done, ()) == ()
        assert (done, answer.exists()) == (("one",), False)
        assert self._requests(tmp_path).joined((), done, done) == ()
        assert answered(answer)["done"]

    def test_a_table_that_left_the_pipeline(self, tmp_path: Path) -> None:
        """A request of a former start that names it is refused, and is not open any more."""
        gone: Request = ("one", "gone", "", ("5",), (), 0)
        assert self._requests(tmp_path).joined((gone,), (), ()) == ()
        assert "found 'gone'" in answered(tmp_path / "run" / "request-one.json")["error"]


def test_sources_that_cannot_be_asked(tmp_path: Path) -> None:
    """The command refuses at once, and names what can be asked, where nobody would answer."""
    file = tmp_path / "events.toml"
    file.write_text('name = "events"\ntables = ["t"]\n[source.redis]\nurl = "env:URL"\n[sink.null]\n', "utf-8")
    result = CliRunner().invoke(app, ["snapshot", str(file), "--table", "t", "--wait", "30"])
    assert result.exit_code == 78
    assert "(postgres, sqlite, sqlserver, oracle, sap_rfc), found [source.redis]" in " ".join(result.output.split())


def test_the_command_asks_and_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's file is what a source reads, and its answer is what the command says."""
    monkeypatch.setattr(requests, "_LOOK_S", 0.02)
    file = tmp_path / "ms.toml"
    text = 'name = "ms"\ntables = ["dbo.items"]\n[source.sqlserver]\ndsn = "env:ERP_DSN"\n[sink.null]\n'
    file.write_text(text, "utf-8")
    directory = build.state_directory(build.load(str(file)), str(file))
    directory.mkdir(parents=True)
    asked, done = Requests(directory, keyed({"dbo.items": asked_table("dbo.items", ["id"])})), threading.Event()

    def serve() -> None:
        finished: tuple[str, ...] = ()
        while not done.is_set():
            for request in asked.joined((), finished, finished):
                asked.begin_table(request, lambda: 1000)
                asked.read(request, 1234)
                finished = (request[0],)
            time.sleep(0.01)

    server = threading.Thread(target=serve)
    server.start()
    arguments = ["snapshot", str(file), "--wait", "10", "--table"]
    read, refused = (CliRunner().invoke(app, [*arguments, table]) for table in ("dbo.items", "dbo.other"))
    done.set()
    server.join()
    assert (read.exit_code, refused.exit_code) == (0, 1), (read.output, refused.output)
    assert "done: 1,234 rows" in read.output and "expected one of dbo.items" in " ".join(refused.output.split())


def test_a_condition_with_a_bind_is_oracles_refusal() -> None:
    """The driver's own error of a bind without a value ends the request, instead of being waited out for ever."""
    error = SimpleNamespace(args=(SimpleNamespace(code=0, full_code="DPY-4010", isrecoverable=False),))
    assert isinstance(sorted_error(error, "fetch"), Refused)

"""Which rows of an SAP system changed: change documents, change pointers, days of change, keys compared."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.sap import rfc_signals
from connectors.sap.rfc_keys import KeyLog
from libcore.errors import ConfigurationError
from tests.connectors.contract_source import Followed
from tests.connectors.sap_rfc_parts import HALVES, KEYED, PASSWORD, Sales, drained, named
from tests.doubles.sap_rfc import SHIM, functions
from tests.doubles.sap_rfc.standard import CLIENT, Field


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The fake pyrfc, and the password."""
    monkeypatch.syspath_prepend(str(SHIM))
    monkeypatch.setenv(PASSWORD, "secret")
    yield
    functions.BEFORE.clear()


def test_a_document_that_shows_up_late(tmp_path: Path) -> None:
    """A change that was committed later than it began is found, as long as the overlap reaches back to its begin."""
    sales = Sales(tmp_path)
    sales.order(1)
    followed = Followed(sales.pipeline("VBAK", overlap_seconds=100), tmp_path / "state")
    followed.until(lambda: len(named(followed, "VBAK")) == 1)
    sales.system.set(clock_seconds=-80)
    sales.order(2)
    sales.system.set(clock_seconds=0)
    followed.until(lambda: len(named(followed, "VBAK")) == 2)
    sales.system.write({}, {"VBAK": [{"VBELN": "0000000001"}]})
    sales.system.write({"VBAK": [{"VBELN": "0000000002", "AUART": "ZZ"}]})
    followed.until(lambda: [row["AUART"] for row in named(followed, "VBAK")] == ["ZZ"])
    followed.close()
    assert [row["VBELN"] for row in named(followed, "VBAK")] == ["0000000002"]


def test_the_systems_clock_goes_back(tmp_path: Path) -> None:
    """When the system's clock is set back by an hour, what is written from then on is found all the same."""
    sales = Sales(tmp_path)
    followed = Followed(sales.pipeline("VBAK", poll_s=0.5), tmp_path / "state")
    sales.order(1)
    followed.until(lambda: len(named(followed, "VBAK")) == 1)
    sales.system.set(clock_seconds=-3600)
    sales.order(2)  # before the next look
    followed.until(lambda: len(named(followed, "VBAK")) == 2)
    followed.close()
    assert named(followed, "VBAK")[1]["VBELN"] == "0000000002"


def test_more_documents_than_one_answer_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long pause the documents come in spans of time, those of one crowded second together."""
    monkeypatch.setattr(rfc_signals, "_DOCUMENTS_MAX", 4)
    sales = Sales(tmp_path)
    file = sales.pipeline("VBAK", overlap_seconds=10_000)
    drained(file, tmp_path / "state")
    followed = Followed(file, tmp_path / "state")
    followed.until(lambda: sales.system.calls.get("STFC_CONNECTION", 0) > 3)
    for number in range(30):
        sales.system.set(clock_seconds=-300 * (number // 9))
        sales.order(number)
    sales.system.set(clock_seconds=0)
    followed.until(lambda: len(named(followed, "VBAK")) == 30)
    followed.close()
    assert [int(row["VBELN"]) for row in named(followed, "VBAK")] == list(range(30))


def test_pointers_are_marked_when_their_rows_are_durable(tmp_path: Path) -> None:
    """Before two epochs have closed no pointer is marked; lost before that, they come again; then all are marked."""
    sales = Sales(tmp_path, message_types={"ZSALES": ["VBAK", "VBAP"]})

    def unmarked() -> int:
        return int(sales.system.select('SELECT count(*) FROM "t BDCP2" WHERE "PROCESS" = \'\'')[0][0])

    file = sales.pipeline("VBAK", signal='"change_pointers"', message_type='"ZSALES"')
    followed = Followed(file, tmp_path / "state")
    followed.until(lambda: sales.system.calls.get("CHANGE_POINTERS_READ", 0) > 2)
    sales.order(1)
    while followed.epoch() < 1:
        assert unmarked() == 1
    followed.crash()
    assert (unmarked(), named(followed, "VBAK")) == (1, [])
    sales.system.write({"VBAP": [{"VBELN": "0000000001", "POSNR": "10"}]})  # of a table that nobody wants
    followed.until(lambda: not unmarked())
    followed.close()
    assert len(named(followed, "VBAK")) == 1


def test_pointers_of_more_rows_than_an_epoch_takes(tmp_path: Path) -> None:
    """Lost half-way, none of the pointers counts as done with: all of their rows arrive."""
    sales = Sales(tmp_path, message_types={"ZSALES": ["VBAK"]})
    file = sales.pipeline("VBAK", signal='"change_pointers"', message_type='"ZSALES"', batch_rows_max=10)
    followed = Followed(file, tmp_path / "state")
    followed.until(lambda: sales.system.calls.get("CHANGE_POINTERS_READ", 0) > 2)
    sales.system.write({"VBAK": [{"VBELN": f"{number:010d}"} for number in range(60)]})
    followed.until(lambda: len(named(followed, "VBAK")) > 5)
    assert len(named(followed, "VBAK")) < 60
    followed.crash()
    followed.until(lambda: len(named(followed, "VBAK")) == 60)
    followed.close()
    assert followed.letters == []


def test_a_connection_breaks_before_pointers_are_durable(tmp_path: Path) -> None:
    """A reader made anew goes on behind what is queued: that is not durable yet, and its pointers are not marked."""
    sales = Sales(tmp_path, message_types={"ZSALES": ["VBAK"]})
    file = sales.pipeline("VBAK", signal='"change_pointers"', message_type='"ZSALES"')
    followed = Followed(file, tmp_path / "state")
    followed.until(lambda: sales.system.calls.get("CHANGE_POINTERS_READ", 0) > 2)
    sales.order(1)

    def looks(more: int) -> None:
        seen = sales.system.calls["CHANGE_POINTERS_READ"]
        while sales.system.calls["CHANGE_POINTERS_READ"] < seen + more:
            time.sleep(0.01)

    looks(2)  # the row is queued
    sales.system.set(faults=[["CHANGE_POINTERS_READ", "communication", "RFC_CLOSED"]])
    looks(3)  # by another reader
    assert sales.system.calls.get("CHANGE_POINTERS_STATUS_WRITE", 0) == 0
    followed.crash()
    followed.until(lambda: len(named(followed, "VBAK")) == 1)
    followed.close()
    assert followed.letters == []


def test_days_of_change_and_keys_that_are_gone(tmp_path: Path) -> None:
    """Without documents, rows come by their day of change, and a comparison of keys shows deleted and missed ones."""
    sales = Sales(tmp_path)
    today = f"{sales.system.clock:%Y%m%d}"
    for number in range(30):
        sales.order(number)
    file = sales.pipeline("VBAK", signal='"timestamp"', compare_seconds=0.05, chunk_rows=7)
    followed = Followed(file, tmp_path / "state")
    followed.until(lambda: len(named(followed, "VBAK")) == 30)
    sales.order(3, AEDAT=today, AUART="ZNEU")
    sales.order(99, ERDAT="19990101")  # no day tells of it
    sales.system.write({}, {"VBAK": [{"VBELN": f"{number:010d}"} for number in range(10, 20)]})
    for _ in range(3):
        followed.epoch()
        followed.crash()
    followed.until(lambda: len(named(followed, "VBAK")) == 21)
    followed.close()
    found = {int(row["VBELN"]): row["AUART"] for row in named(followed, "VBAK")}
    assert sorted(found) == [*range(10), *range(20, 30), 99]
    assert found[3] == "ZNEU"


def test_tables_under_different_signals(tmp_path: Path) -> None:
    """Documents, pointers and days of change beside one another, each for its table, across crashes."""
    sales = Sales(tmp_path, message_types={"ZSALES": ["VBAP"]})
    today = f"{sales.system.clock:%Y%m%d}"
    sales.system.add_table("EKBE", [CLIENT, Field("BELNR", "CHAR", 10, key=True), Field("CPUDT", "DATS", 8)])
    signals = '{ VBAP = "change_pointers", EKBE = "timestamp" }'
    file = sales.pipeline("VBAK", "VBAP", "EKBE", signals=signals, message_type='"ZSALES"')
    followed = Followed(file, tmp_path / "state")

    def counts() -> list[int]:
        return [len(named(followed, name)) for name in ("VBAK", "VBAP", "EKBE")]

    for number in range(1, 7):
        sales.order(number)
        sales.system.write({"VBAP": [{"VBELN": f"{number:010d}", "POSNR": "10"}]})
        sales.system.write({"EKBE": [{"BELNR": str(number), "CPUDT": today}]}, documents=False)
        followed.epoch()
        if number % 2:
            followed.crash()
        followed.until(lambda: counts() == [number] * 3)  # noqa: B023
    followed.close()
    assert followed.letters == []


def _crashed_without_keys(directory: Path) -> Followed:
    """Orders 1 and 2 are in the target; the first is deleted while the flow is down, and the files of keys are lost."""
    sales = Sales(directory)
    sales.order(1)
    sales.order(2)
    followed = Followed(sales.pipeline("VBAK", signal='"timestamp"'), directory / "state")
    followed.until(lambda: len(named(followed, "VBAK")) == 2)
    for _ in range(5):
        followed.epoch()
    sales.system.write({}, {"VBAK": [{"VBELN": "0000000001"}]})
    for file in directory.rglob("keys-*"):
        file.unlink()
    followed.crash()
    return followed


def test_keys_that_were_lost_begin_the_table_anew(tmp_path: Path) -> None:
    """Where the file of keys is gone, the table is emptied and read again: nobody knows what was deleted meanwhile."""
    followed = _crashed_without_keys(tmp_path)
    followed.until(lambda: len(named(followed, "VBAK")) == 1)
    followed.close()
    assert named(followed, "VBAK")[0]["VBELN"] == "0000000002"


def test_a_crash_while_a_table_is_begun_anew(tmp_path: Path) -> None:
    """Keys that were lost are lost still after a crash before the emptied table is durable, whatever was read since."""
    followed = _crashed_without_keys(tmp_path)
    time.sleep(0.5)  # as much is read ahead as the reader likes
    followed.crash()
    followed.until(lambda: len(named(followed, "VBAK")) == 1)
    followed.close()
    assert named(followed, "VBAK")[0]["VBELN"] == "0000000002"


def test_keys_that_were_not_kept_for_a_while(tmp_path: Path) -> None:
    """Compared again after it was not, a table begins anew: what came meanwhile is in no file of keys."""
    sales = Sales(tmp_path)
    sales.order(1)
    followed = Followed(sales.pipeline("VBAK", signal='"timestamp"'), tmp_path / "state")
    followed.until(lambda: len(named(followed, "VBAK")) == 1)
    for signal, count in (("change_documents", 2), ("timestamp", 1)):
        for _ in range(5):
            followed.epoch()
        followed.close()
        file = sales.pipeline("VBAK", signal=f'"{signal}"')
        if count == 1:
            sales.system.write({}, {"VBAK": [{"VBELN": "0000000002"}]})
        followed.follow(file)
        if count == 2:
            sales.order(2)
        followed.until(lambda: len(named(followed, "VBAK")) == count)  # noqa: B023
    followed.close()
    assert named(followed, "VBAK")[0]["VBELN"] == "0000000001"


@pytest.mark.parametrize("between", ["another signal", "left out"])
def test_a_table_that_was_not_followed_for_a_while(tmp_path: Path, between: str) -> None:
    """Nobody knows what was changed and deleted of it meanwhile: it is emptied and read again when it is followed."""
    sales = Sales(tmp_path)
    sales.order(1)
    sales.order(2)
    followed = Followed(sales.pipeline("VBAK", "VBAP"), tmp_path / "state")
    followed.until(lambda: len(named(followed, "VBAK")) == 2)
    for _ in range(5):
        followed.epoch()
    followed.close()
    tables = ("VBAK", "VBAP") if between == "another signal" else ("VBAP",)
    followed.follow(sales.pipeline(*tables, signals='{ VBAK = "none" }' if between == "another signal" else "{}"))
    sales.system.write({}, {"VBAK": [{"VBELN": "0000000001"}]})
    sales.order(3)
    sales.system.set(clock_seconds=86_400)
    sales.system.write({"VBAP": [{"VBELN": "0000000009", "POSNR": "10"}]})
    followed.until(lambda: any(row["VBELN"] == "0000000009" for row in named(followed, "VBAP")))
    for _ in range(5):
        followed.epoch()
    assert [row["VBELN"] for row in named(followed, "VBAK")] == ["0000000001", "0000000002"]
    followed.close()
    followed.follow(sales.pipeline("VBAK", "VBAP"))
    followed.until(lambda: sorted(row["VBELN"] for row in named(followed, "VBAK")) == ["0000000002", "0000000003"])
    followed.crash()
    sales.order(4)
    followed.until(lambda: len(named(followed, "VBAK")) == 3)
    followed.close()


def test_a_row_that_is_written_again_while_keys_are_compared(tmp_path: Path) -> None:
    """Deleted before a comparison reads its key, there again when its row is read, a row that goes later goes."""
    sales = Sales(tmp_path)
    sales.order(1)
    followed = Followed(sales.pipeline("VBAK", signal='"timestamp"', compare_seconds=2), tmp_path / "state")
    followed.until(lambda: len(named(followed, "VBAK")) == 1)
    row = {"VBELN": "0000000002", "AEDAT": f"{sales.system.clock:%Y%m%d}"}
    sales.system.write({"VBAK": [row]})
    followed.until(lambda: len(named(followed, "VBAK")) == 2)
    done: list[str] = []

    def between(name: str, given: dict[str, Any]) -> None:
        alone = given.get("QUERY_TABLE") == "VBAK" and len(given["FIELDS"]) == 1
        if alone and not done:
            sales.system.write({}, {"VBAK": [{"VBELN": "0000000002"}]})
            done.append("gone")
        elif not alone and done == ["gone"] and given.get("QUERY_TABLE") == "VBAK":
            sales.system.write({"VBAK": [row]})
            done.append("there")

    functions.BEFORE.append(between)
    followed.until(lambda: len(done) == 2)
    looks = sales.system.calls["STFC_CONNECTION"]
    followed.until(lambda: sales.system.calls["STFC_CONNECTION"] > looks + 1)
    sales.system.write({}, {"VBAK": [{"VBELN": "0000000002"}]})
    followed.until(lambda: len(named(followed, "VBAK")) == 1)
    followed.close()
    assert named(followed, "VBAK")[0]["VBELN"] == "0000000001"


def test_midnight_between_days_of_change_and_documents(tmp_path: Path) -> None:
    """A row written behind a look at its day is found by the next one, however late the documents' look came."""
    sales = Sales(tmp_path)
    sales.system.add_table("EKBE", [CLIENT, Field("BELNR", "CHAR", 10, key=True), Field("CPUDT", "DATS", 8)])
    noon = sales.system.clock.replace(hour=12, minute=0)
    sales.system.set(clock_seconds=(noon - sales.system.clock).total_seconds())
    followed = Followed(sales.pipeline("VBAK", "EKBE", signals='{ EKBE = "timestamp" }'), tmp_path / "state")
    asked: list[str] = []

    def between(name: str, given: dict[str, Any]) -> None:
        asked.append(str(given.get("QUERY_TABLE") or name))
        if asked[-3:] == ["STFC_CONNECTION", "EKBE", "STFC_CONNECTION"] and "done" not in asked:
            asked.append("done")
            sales.system.write({"EKBE": [{"BELNR": "1", "CPUDT": f"{noon:%Y%m%d}"}]}, documents=False)
            sales.system.set(clock_seconds=(noon - sales.system.clock).total_seconds() + 86_400)

    functions.BEFORE.append(between)
    followed.until(lambda: bool(named(followed, "EKBE")))
    followed.close()
    assert "done" in asked


def test_a_signal_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """A table without a change document object, without a day of change, or with another key is refused by name."""
    sales = Sales(tmp_path)
    sales.system.add_table("ZKEYED", KEYED)
    sales.system.add_table("ZPLAIN", HALVES)
    for name, signal, found in (
        ("ZPLAIN", "change_documents", "TCDOB"),
        ("ZKEYED", "change_pointers", "INT4"),
        ("ZPLAIN", "timestamp", "changed_on"),
    ):
        more = {"message_type": '"Z"'} if signal == "change_pointers" else {}
        followed = Followed(sales.pipeline(name, signal=f'"{signal}"', **more), tmp_path / signal)
        with pytest.raises(ConfigurationError, match=found):
            followed.until(lambda: False)
        followed.close()
    file = sales.pipeline("VBAK", extra='key = ["VBELN", "AUART"]\n')
    with pytest.raises(ConfigurationError, match="AUART"):
        Followed(file, tmp_path / "state")


def test_the_log_of_keys_outlives_a_crash(tmp_path: Path) -> None:
    """A comparison counts once it is durable; until then the keys from before stand, and those added meanwhile."""
    log = KeyLog(tmp_path, "/BIC/T", 0)
    log.add([("1",), ("2",)])
    log.compared([("2",)], 1)
    log.add([("3",)])
    log.add([("4",)], sure=False)
    assert KeyLog(tmp_path, "/BIC/T", 0).all() == ({("1",), ("2",), ("3",)}, {("4",)})
    log = KeyLog(tmp_path, "/BIC/T", 0)
    log.compared([("2",), ("4",)], 1)
    log.add([("5",)])
    with next(tmp_path.glob("*.1.jsonl")).open("a") as file:
        file.write('[["6"')  # cut short by a crash
    assert KeyLog(tmp_path, "/BIC/T", 1).all() == ({("2",), ("4",), ("5",)}, set())
    assert len(list(tmp_path.iterdir())) == 1

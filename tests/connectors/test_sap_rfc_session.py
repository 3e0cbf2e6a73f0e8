"""Sessions with an SAP system: calls that hang, connections that break, refusals, and what the doctor says."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.sap import rfc_session
from connectors.sap.rfc_config import SapRfcConfig
from connectors.sap.rfc_driver import driver, parameters, translated
from connectors.sap.rfc_session import Session
from connectors.sap.rfc_table import found
from flows import doctor
from libcore.errors import ConfigurationError, FatalError, HeadraceError, TransientError
from tests.connectors.contract_source import Followed
from tests.connectors.sap_rfc_parts import NARROW, PASSWORD, Sales, named
from tests.doubles.sap_rfc import SHIM, failures, functions
from tests.doubles.sap_rfc.standard import Field


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The fake pyrfc, and the password; calls that a test left hanging are no matter of the next one."""
    monkeypatch.syspath_prepend(str(SHIM))
    monkeypatch.setenv(PASSWORD, "secret")
    monkeypatch.setattr(rfc_session, "_abandoned", [])
    yield
    functions.BEFORE.clear()


def config(sales: Sales, **more: Any) -> SapRfcConfig:
    """A configuration for that system."""
    plain = {"ashost": str(sales.path), "client": "100", "user": "HEADRACE", "passwd": f"env:{PASSWORD}"}
    return SapRfcConfig.read(plain | more, "source.sap_rfc")


@pytest.mark.parametrize("hangs", ["LOGON", "STFC_CONNECTION"])
@pytest.mark.parametrize("deaf", [True, False])
def test_a_silent_gateway(hangs: str, deaf: bool, tmp_path: Path) -> None:
    """A call without an answer is given up in time, whether it can be cancelled or not; the next session works."""
    sales = Sales(tmp_path, hang=[hangs], deaf=deaf)
    session = Session(config(sales, guardian={"query_seconds_max": 0.2}))
    begun = time.monotonic()
    with pytest.raises(TransientError, match="query_seconds_max"):
        session.clock()
    assert time.monotonic() - begun < 10
    sales.system.set(hang=[])
    assert session.clock().year > 2020
    session.close()


def test_so_many_calls_hang_and_no_more(tmp_path: Path) -> None:
    """While as many calls hang as are allowed, no further one is started, so threads and sessions stay bounded."""
    sales = Sales(tmp_path, hang=["LOGON"], deaf=True)
    session = Session(config(sales, guardian={"query_seconds_max": 0.05, "abandoned_max": 3}))
    for _ in range(3):
        with pytest.raises(TransientError, match="found none: the call was given up"):
            session.clock()
    with pytest.raises(TransientError, match="abandoned_max"):
        session.clock()
    assert len(rfc_session._abandoned) == 3


def test_a_flow_outlives_hangs_and_broken_connections(tmp_path: Path) -> None:
    """In snapshot and stream, a gateway that falls silent and connections that break cost time, and no row."""
    sales = Sales(tmp_path)
    for number in range(60):
        sales.order(number)
    broken = [["RFC_READ_TABLE", "communication", "RFC_CLOSED"], ["RFC_READ_TABLE", "runtime", "TIME_OUT"]]
    sales.system.set(faults=broken)
    file = sales.pipeline("VBAK", chunk_rows=10, guardian="{ query_seconds_max = 0.5 }")
    with pytest.raises(TransientError):
        Followed(file, tmp_path / "state")  # who looks at the tables first is told at once
    sales.system.set(faults=[])
    followed = Followed(file, tmp_path / "state")
    sales.system.set(faults=broken)
    followed.until(lambda: len(named(followed, "VBAK")) == 60)
    sales.system.set(hang=["STFC_CONNECTION"])
    time.sleep(0.1)
    sales.order(60)
    sales.system.set(hang=[])
    followed.until(lambda: len(named(followed, "VBAK")) == 61)
    followed.close()
    assert followed.letters == []


def test_a_call_that_is_too_much_is_asked_for_less(tmp_path: Path) -> None:
    """After a call that ran out of time or memory pages are half as large."""
    sales = Sales(tmp_path)
    for number in range(40):
        sales.order(number)
    followed = Followed(sales.pipeline("VBAK", chunk_rows=16, signal='"none"'), tmp_path / "state", until_end=True)
    counts: list[int] = []

    def look(name: str, given: dict[str, Any]) -> None:
        if given.get("QUERY_TABLE") == "VBAK":
            counts.append(int(given["ROWCOUNT"]))
            if len(counts) == 1:
                sales.system.set(faults=[["RFC_READ_TABLE", "runtime", "TSV_TNEW_PAGE_ALLOC_FAILED"]])

    functions.BEFORE.append(look)
    followed.drained()
    assert len(named(followed, "VBAK")) == 40
    assert (counts[0], set(counts[1:])) in [(16, {8}), (16, {16, 8})]


def test_a_wrong_password_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused logon ends the start at once, without the password in the message; no host is a passing error."""
    sales = Sales(tmp_path)
    monkeypatch.setenv(PASSWORD, "wrong-and-secret")
    with pytest.raises(ConfigurationError, match="LogonError") as told:
        Session(config(sales)).clock()
    assert "wrong-and-secret" not in str(told.value)
    with pytest.raises(TransientError, match="not reached"):
        Session(config(sales, ashost=str(tmp_path / "nowhere"))).clock()


def test_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyrfc, or without SAP's library behind it, one message says what to install."""
    sales = Sales(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(SHIM)])
    monkeypatch.delitem(sys.modules, "pyrfc", raising=False)
    for look in (driver, Session(config(sales)).clock):
        with pytest.raises(ConfigurationError, match=r"headrace\[sap\].*NW RFC SDK"):
            look()

    class SdkNotFoundError(Exception):
        """What pyrfcx raises."""

    assert "SAPNWRFC_HOME" in str(translated(SdkNotFoundError("libsapnwrfc.so: cannot open"), "log on"))


KINDS: list[tuple[Exception, type[HeadraceError]]] = [
    (failures.ABAPApplicationError("no authority", "NOT_AUTHORIZED"), ConfigurationError),
    (failures.ABAPApplicationError("", "OPTION_NOT_VALID"), ConfigurationError),
    (failures.ABAPApplicationError("", "FIELD_NOT_VALID"), FatalError),
    (failures.ABAPRuntimeError("", "TIME_OUT"), TransientError),
    (failures.ABAPRuntimeError("", "RFC_NO_AUTHORITY"), ConfigurationError),
    (failures.ExternalRuntimeError("", "RFC_CANCELED"), TransientError),
    (failures.ExternalRuntimeError("", "RFC_INVALID_PARAMETER"), ConfigurationError),
    (failures.CommunicationError("", "RFC_CLOSED"), TransientError),
    (ValueError("odd"), FatalError),
]


@pytest.mark.parametrize(("error", "kind"), KINDS, ids=lambda one: getattr(one, "key", None) or str(one))
def test_errors_by_what_they_ask_for(error: Exception, kind: type[HeadraceError]) -> None:
    """Errors of the driver become those that are tried again, that a person mends, or that stop."""
    assert type(translated(error, "read")) is kind or isinstance(translated(error, "read"), kind)


def test_odp_by_rfc_is_never_called(tmp_path: Path) -> None:
    """A function of RODPS is refused by name, in the configuration and in a call, with the note that forbids it."""
    sales = Sales(tmp_path)
    for setting in ({"function": "RODPS_REPL_ODP_FETCH"}, {"bapi_allowed": ["RODPS_REPL_ODP_OPEN"]}):
        with pytest.raises(ConfigurationError, match="3255746"):
            config(sales, **setting)
    session = Session(config(sales))
    with pytest.raises(ConfigurationError, match="3255746"):
        session.call("rodps_repl_odp_open")
    assert not any("RODPS" in name for name in sales.system.calls)


def test_logon_by_group_and_snc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message server's group and SNC go to the driver by its names; halves of either are refused."""
    monkeypatch.setenv("SAP_USER", "RFCUSER")
    given = parameters(SapRfcConfig.read({
        "mshost": "ms", "r3name": "PRD", "group": "PUBLIC", "client": "100", "user": "env:SAP_USER",
        "snc": {"partner_name": "p:CN=PRD", "quality": "9"},
    }, "source.sap_rfc"))  # fmt: skip
    assert given == {
        "mshost": "ms", "r3name": "PRD", "group": "PUBLIC", "client": "100", "user": "RFCUSER", "lang": "EN",
        "snc_mode": "1", "snc_partnername": "p:CN=PRD", "snc_qop": "9",
    }  # fmt: skip
    for wrong, told in (({"mshost": "ms"}, "group"), ({}, "ashost"), ({"ashost": "a", "passwd": "plain"}, "reference")):
        with pytest.raises(ConfigurationError, match=told):
            SapRfcConfig.read({"client": "100", "user": "U", "passwd": "env:P"} | wrong, "source.sap_rfc")


def told(file: Path) -> dict[str, str]:
    """The doctor's findings as "what" -> "severity: found; remedy"."""
    return {one.what: f"{one.severity}: {one.found}; {one.remedy}" for one in doctor.examine(str(file)).findings}


def test_the_doctor_of_a_new_release(tmp_path: Path) -> None:
    """Where all is well the doctor names the routes that SAP permits, the one it takes, and no error."""
    sales = Sales(tmp_path)
    shown = told(sales.pipeline("VBAK", "VBAP"))
    assert "3255746" in shown["routes"]
    assert shown["system"].startswith("note: FKE, client 100, release 757")
    assert shown["reading tables"].startswith(
        "note: RFC_READ_TABLE returns them as texts (ET_DATA), in the order of keys"
    )
    assert [one for one in shown.values() if one.startswith("error")] == []
    assert shown["best route"].startswith("note: change documents tell of each table")
    assert not any("RODPS" in name for name in sales.system.calls)


def test_the_doctor_tells_the_best_route(tmp_path: Path) -> None:
    """Where the system has a Gateway the best route is OData; else tables, by whichever signal they have."""
    sales = Sales(tmp_path)
    sales.system.add_table("ZLOG", [Field("ID", "CHAR", 4, key=True)])
    file = str(sales.pipeline("VBAK", "ZLOG"))

    def best() -> tuple[str, str]:
        return next((one.expected, one.found) for one in doctor.examine(file).findings if one.what == "best route")

    assert best()[0] == "tables by RFC with change pointers, time stamps, or IDocs, as no Gateway is seen here"
    assert best()[1] == "no change document tells of ZLOG"
    sales.system.add_table("/IWFND/I_MED_SRH", [Field("SRV_IDENTIFIER", "CHAR", 35, key=True)])
    assert best()[0].startswith("OData, as the Gateway is here")


def test_the_doctor_of_an_old_release(tmp_path: Path) -> None:
    """Rows of 512 characters, wide tables, fields that cannot be read: each is told with its remedy."""
    sales = Sales(tmp_path, **NARROW)
    wide = [Field("ID", "CHAR", 10, key=True), Field("A", "CHAR", 400), Field("B", "CHAR", 400), Field("F", "FLTP", 16)]
    sales.system.add_table("ZWIDE", wide, object_class="ZWIDE")
    findings = doctor.examine(str(sales.pipeline("ZWIDE"))).findings
    texts = [str(one) for one in findings]
    assert any("512 characters a row" in one and "/SAPDS/RFC_READ_TABLE2" in one for one in texts)
    assert any("810: 2 calls" in one for one in texts)
    assert any("ZWIDE" in one and "FLTP" in one for one in texts)


def test_the_best_function_that_the_user_may_call(tmp_path: Path) -> None:
    """Of several functions the one with whole rows is taken, of those that are there and allowed."""
    sales = Sales(tmp_path)
    session = Session(config(sales))
    assert found(session, "auto").function == "RFC_READ_TABLE"
    sales.system.set(et_data=False, get_sorted=False)
    assert found(session, "auto").function == "/SAPDS/RFC_READ_TABLE2"
    sales.system.set(denied_functions=["/SAPDS/RFC_READ_TABLE2"], denied_tables=["T000"])
    assert found(session, "auto").function == "/BODS/RFC_READ_TABLE2"
    sales.system.set(wide=False)
    assert (found(session, "auto").function, found(session, "auto").characters) == ("RFC_READ_TABLE", 512)
    sales.system.set(denied_functions=["RFC_READ_TABLE"])
    with pytest.raises(ConfigurationError, match="RFC_NO_AUTHORITY"):
        found(session, "auto")
    session.close()


def test_the_doctor_names_grants_and_switches(tmp_path: Path) -> None:
    """Tables that may not be read, pointers that are not active, functions not callable from outside: with remedies."""
    sales = Sales(tmp_path)
    sales.system.set(denied_tables=["CDPOS"])
    shown = told(sales.pipeline("VBAK"))
    assert re.match(r"error.*NOT_AUTHORIZED.*S_TABU_NAM with ACTVT 03, TABLE CDPOS", shown["table CDPOS"])
    sales.system.write({"TFDIR": [{"FUNCNAME": "CHANGE_POINTERS_READ", "FMODE": ""}]}, documents=False)
    shown = told(sales.pipeline("VBAK", signal='"change_pointers"', message_type='"ZSALES"'))
    assert "pointers_read" in shown["function CHANGE_POINTERS_READ"]
    assert re.match("error: not active; transactions BD61.*BD50", shown["change pointers"])
    sales.system.set(denied_functions=["RFC_READ_TABLE"], wide=False)
    shown = told(sales.pipeline("VBAK"))
    assert any(one.startswith("error") and "RFC_NO_AUTHORITY" in one for one in shown.values())

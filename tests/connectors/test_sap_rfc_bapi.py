"""BAPIs that a pipeline file allows: called by a person, judged by their RETURN, committed or rolled back."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from connectors.sap.rfc_bapi import Bapis
from connectors.sap.rfc_config import SapRfcConfig
from control.cli.main import app
from libcore.errors import ConfigurationError, DataError, FatalError
from tests.connectors.sap_rfc_parts import PASSWORD, Sales, drained, named
from tests.doubles.sap_rfc import SHIM

NAME = "BAPI_SALESORDER_CHANGE"


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake pyrfc, and the password."""
    monkeypatch.syspath_prepend(str(SHIM))
    monkeypatch.setenv(PASSWORD, "secret")


def config(sales: Sales, **more: Any) -> SapRfcConfig:
    """A configuration for that system."""
    plain = {"ashost": str(sales.path), "client": "100", "user": "HEADRACE", "passwd": f"env:{PASSWORD}"}
    return SapRfcConfig.read(plain | more, "source.sap_rfc")


def test_an_allowed_bapi_is_committed(tmp_path: Path) -> None:
    """What an allowed BAPI changed is committed and seen by a flow; one whose RETURN has an error changes nothing."""
    sales = Sales(tmp_path)
    sales.order(1)
    bapis = Bapis(config(sales, bapi_allowed=[NAME]))
    answer = bapis.call(NAME, SALESDOCUMENT="0000000001", PRIORITY=255, NETWR=Decimal("12.50"))
    assert answer["RETURN"][0]["TYPE"] == "S"
    with pytest.raises(DataError, match=r"V1 302.*not in the database"):
        bapis.call(NAME, SALESDOCUMENT="0000000077", NETWR="1.00")
    bapis.close()
    (row,) = named(drained(sales.pipeline("VBAK"), tmp_path / "state"), "VBAK")
    assert row["NETWR"] == Decimal("12.50")
    assert (sales.system.calls["BAPI_TRANSACTION_COMMIT"], sales.system.calls["BAPI_TRANSACTION_ROLLBACK"]) == (1, 1)


def test_another_bapi_is_not_called(tmp_path: Path) -> None:
    """What bapi_allowed does not name is refused before anything goes to the system."""
    sales = Sales(tmp_path)
    bapis = Bapis(config(sales, bapi_allowed=["BAPI_OTHER"]))
    with pytest.raises(ConfigurationError, match=f"BAPI_OTHER.*{NAME}"):
        bapis.call(NAME, SALESDOCUMENT="1")
    assert sales.system.calls == {}


@pytest.mark.parametrize(
    "values", [{"PRIORITY": 256}, {"PRIORITY": -1}, {"SALESDOCUMENT": "12345678901"}, {"NETWR": "1.234"},
               {"NETWR": "10000000000000"}, {"NETWR": "x"}, {"STRANGE": 1}],
)  # fmt: skip
def test_values_that_do_not_fit_are_not_sent(values: dict[str, Any], tmp_path: Path) -> None:
    """A number that would wrap, a text that would be cut, a name that is none: refused before the call."""
    sales = Sales(tmp_path)
    bapis = Bapis(config(sales, bapi_allowed=[NAME]))
    with pytest.raises(DataError, match=next(iter(values))):
        bapis.call(NAME, **values)
    bapis.close()
    assert NAME not in sales.system.calls


def test_a_bapi_without_an_answer(tmp_path: Path) -> None:
    """Where no answer came, nobody knows whether it was done: that stops, and is not tried again."""
    sales = Sales(tmp_path)
    sales.order(1)
    sales.system.set(faults=[["BAPI_TRANSACTION_COMMIT", "communication", "RFC_CLOSED"]])
    bapis = Bapis(config(sales, bapi_allowed=[NAME]))
    with pytest.raises(FatalError, match="whether it was done is not known"):
        bapis.call(NAME, SALESDOCUMENT="0000000001", NETWR="1.00")
    bapis.close()
    assert sales.system.calls["BAPI_TRANSACTION_COMMIT"] == 1


def called(file: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of `headrace call`."""
    done = CliRunner().invoke(app, ["call", str(file), *arguments])
    return done.exit_code, done.output


def test_the_command_calls_and_commits(tmp_path: Path) -> None:
    """`headrace call` takes parameters from JSON, prints the answer, and the change is there."""
    sales = Sales(tmp_path)
    sales.order(1)
    file = sales.pipeline("VBAK", bapi_allowed=json.dumps([NAME]))
    code, text = called(file, NAME, '{"SALESDOCUMENT": "0000000001", "PRIORITY": 2, "NETWR": 123456789012.10}')
    assert (code, json.loads(text)["RETURN"][0]["NUMBER"]) == (0, "311")
    (row,) = named(drained(file, tmp_path / "state"), "VBAK")
    assert row["NETWR"] == Decimal("123456789012.10")


@pytest.mark.parametrize(
    ("function", "values", "code", "text"),
    [
        (NAME, '{"SALESDOCUMENT": "0000000077", "NETWR": 1}', 1, "V1 302: SD document 0000000077 is not in"),
        (NAME, '{"PRIORITY": true}', 1, "expected a whole number from 0 to 255"),
        (NAME, '{"SALESDOCUMENT": 1}', 1, "expected a text, found 1"),
        (NAME, '{"RETURN": "x"}', 1, "expected rows of fields by name, found 'x'"),
        (NAME, "[1]", 1, "expected a JSON object, found '[1]'"),
        (NAME, "{", 1, "expected a JSON object, found '{'"),
        ("BAPI_OTHER", "{}", 78, f"bapi_allowed ({NAME}), found BAPI_OTHER"),
    ],
)
def test_what_the_command_refuses(function: str, values: str, code: int, text: str, tmp_path: Path) -> None:
    """What the BAPI, its types, the file or JSON refuses ends with one line and its exit code; nothing is committed."""
    sales = Sales(tmp_path)
    found, output = called(sales.pipeline("VBAK", bapi_allowed=json.dumps([NAME])), function, values)
    assert (found, text in " ".join(output.split())) == (code, True), output
    assert "BAPI_TRANSACTION_COMMIT" not in sales.system.calls


def test_a_file_without_an_sap_system(tmp_path: Path) -> None:
    """A pipeline of another source has nothing to call, and says what it lacks."""
    file = tmp_path / "files.toml"
    file.write_text('name = "x"\ntables = ["a"]\n[source.sqlite]\npath = "a.db"\n[sink.null]\n', "utf-8")
    code, text = called(file, NAME)
    assert (code, "expected one [source.sap_rfc], found none" in " ".join(text.split())) == (78, True)

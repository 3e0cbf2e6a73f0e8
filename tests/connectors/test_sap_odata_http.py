"""One login at a SAP system by HTTP: what is tried again and when, tokens, writes, bounds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from connectors.sap.http import RETRY_S_MAX, Gateway, GatewayError, Throttled
from connectors.sap.odata_config import SapHttp, SapODataConfig
from libcore.errors import ConfigurationError, TransientError
from tests.doubles.sap.gateway import CSRF, PASSWORD, USER, GatewayDouble

PATH = "/sap/opu/odata/sap/ZERP_SRV/items"


class Clock:
    """Seconds that a test moves."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(scope="module")
def server() -> Iterator[GatewayDouble]:
    """A gateway in a process of its own."""
    with GatewayDouble() as started:
        yield started


@pytest.fixture
def sap(server: GatewayDouble) -> GatewayDouble:
    """The gateway with nothing in it."""
    server.pull("reset", {})
    server.asked()
    return server


def gateway(sap: GatewayDouble, clock: Clock | None = None, **settings: Any) -> Gateway:
    """A session at the gateway."""
    return Gateway(SapHttp(url=sap.url, **settings), "source.sap_odata", clock=clock or Clock())


def test_retry_after_is_waited_for(sap: GatewayDouble) -> None:
    """Before the seconds are over that a 429 tells, nothing is asked at all; then it goes on."""
    clock = Clock()
    session = gateway(sap, clock)
    sap.fault(PATH, 429, headers={"Retry-After": "5"})
    with pytest.raises(Throttled) as told:
        session.get(PATH)
    assert told.value.wait_s == 5
    clock.seconds += 4.9
    with pytest.raises(Throttled):
        session.get(PATH)
    assert len(sap.asked()) == 1
    clock.seconds += 0.2
    assert session.get(PATH).status == 200


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, ""), (423, ""), (500, ""),
        (400, '{"error":{"code":"MC/601","message":{"lang":"en","value":"Object requested is currently locked"}}}'),
        (409, "<error><code>X</code><message>Auftrag 4711 ist durch MEIER gesperrt</message></error>"),
    ],
)  # fmt: skip
def test_what_passes_by_itself(sap: GatewayDouble, status: int, body: str) -> None:
    """Busy servers and locks, in either language and form, are tried again; the message names what was said."""
    sap.fault(PATH, status, body=body)
    session = gateway(sap)
    with pytest.raises(Throttled) as told:
        session.get(PATH)
    assert f"HTTP {status}" in str(told.value)
    assert session.get(PATH).status == 200


def test_a_date_as_retry_after(sap: GatewayDouble) -> None:
    """Retry-After may be a date, or nonsense, or next year: waits are bounded."""
    session = gateway(sap)
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    for said, least, most in ((soon, 20, 31), ("whenever", 1, 1), ("99999999", RETRY_S_MAX, RETRY_S_MAX)):
        sap.fault(PATH, 503, headers={"Retry-After": said})
        with pytest.raises(Throttled) as told:
            gateway(sap).get(PATH)
        assert least <= told.value.wait_s <= most
    assert session.get(PATH).status == 200


def test_what_does_not_pass(sap: GatewayDouble) -> None:
    """A refusal keeps the server's own code and words."""
    body = '{"error":{"code":"/IWBEP/CM_MGW_RT/020","message":"Resource not found for segment"}}'
    sap.fault(PATH, 404, body=body)
    with pytest.raises(GatewayError) as told:
        gateway(sap).get(PATH)
    assert (told.value.status, told.value.code, told.value.text) == (
        404, "/IWBEP/CM_MGW_RT/020", "Resource not found for segment"
    )  # fmt: skip


def test_basic_login(sap: GatewayDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """User and password by reference, with umlauts; a wrong one is refused without showing it."""
    sap.pull("login", {"kind": "basic"})
    monkeypatch.setenv("SAP_PASSWORD", PASSWORD)
    assert gateway(sap, user=USER, password="env:SAP_PASSWORD").get(PATH).status == 200
    monkeypatch.setenv("SAP_PASSWORD", "wr0ng")
    with pytest.raises(ConfigurationError, match="HTTP 401") as told:
        gateway(sap, user=USER, password="env:SAP_PASSWORD").get(PATH)
    assert "wr0ng" not in str(told.value)


def test_oauth(sap: GatewayDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is fetched once, and again when it runs out or the server takes it no more."""
    sap.pull("login", {"kind": "bearer"})
    monkeypatch.setenv("SAP_SECRET", PASSWORD)
    clock = Clock()
    oauth = {"token_url": "/oauth/token", "client_id": USER, "client_secret": "env:SAP_SECRET"}
    session = gateway(sap, clock, oauth=oauth)
    assert [session.get(PATH).status for _ in range(3)] == [200] * 3
    assert session._bearer_until > clock()
    clock.seconds += 4000
    assert session.get(PATH).status == 200
    sap.pull("login", {"kind": "bearer", "bearer": "token-2"})
    assert session.get(PATH).status == 200
    monkeypatch.setenv("SAP_SECRET", "wr0ng")
    with pytest.raises(ConfigurationError, match="expected a token") as told:
        gateway(sap, oauth=oauth).get(PATH)
    assert "wr0ng" not in str(told.value)


def test_writes_carry_the_token(sap: GatewayDouble) -> None:
    """A write fetches the token first and keeps it; a token of a session that ended is fetched anew."""
    session = gateway(sap)
    assert [session.post(PATH, b"{}", "application/json").status for _ in range(2)] == [201] * 2
    assert len([one for one in sap.asked() if not one.startswith("POST")]) == 1
    session._csrf = "of yesterday"
    assert session.post(PATH, b"{}", "application/json").status == 201
    assert session._csrf == CSRF


def test_writes_say_which_state_they_saw(sap: GatewayDouble) -> None:
    """An ETag goes along as If-Match; another state at the server refuses the write."""
    session = gateway(sap)
    assert session.post(PATH, b"{}", "application/json", etag='W/"1"').status == 201
    with pytest.raises(GatewayError) as told:
        session.post(PATH, b"{}", "application/json", etag='W/"2"')
    assert told.value.status == 412


def test_an_answer_has_a_bound(sap: GatewayDouble) -> None:
    """An answer beyond body_bytes_max is given up, naming the two settings that help."""
    sap.write("items", [{"id": 1, "name": "x" * 70_000, "price": None}])
    with pytest.raises(ConfigurationError, match="page_rows, or raise body_bytes_max"):
        gateway(sap, body_bytes_max=1 << 16).get(PATH)


def test_an_answer_that_breaks_off(sap: GatewayDouble) -> None:
    """A connection that ends without an answer is tried again."""
    session = gateway(sap)
    sap.fault(PATH, late=True)
    with pytest.raises(TransientError):
        session.get(PATH)
    assert session.get(PATH).status == 200


@pytest.mark.parametrize(
    "link",
    ["http://erp.internal:8000/a/b?x=1&y='2'", "/a/b?x=1&y='2'", "b?x=1&y='2'", "https://evil.example/a/b?x=1&y='2'"],
)
def test_links_are_followed_at_home(sap: GatewayDouble, link: str) -> None:
    """Whatever host a link names: its path and query count, and the login stays where it belongs."""
    assert gateway(sap).path_of(link, "/a/") == "/a/b?x=1&y='2'"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "ftp://x"}, "expected http"), ({"url": "https://x/sap/opu"}, "no path"),
        ({"user": "a"}, "`user` and `password` together"), ({"user": "a", "password": "hunter2"}, "a reference"),
        ({"client": "1"}, "client"), ({"services": ["A B"]}, "names of A-Z"),
        ({"services": {"A": "x"}}, "begins with /"),
        ({"services": []}, "services"), ({"extra": 1}, "extra"),
    ],
)  # fmt: skip
def test_wrong_settings(settings: dict[str, Any], said: str) -> None:
    """A wrong setting is named; a secret that stands there in plain text is not shown."""
    with pytest.raises(ConfigurationError) as told:
        SapODataConfig.read({"url": "https://erp.example.com", "services": ["Z"]} | settings, "source.sap_odata")
    assert said in str(told.value) and "hunter2" not in str(told.value)

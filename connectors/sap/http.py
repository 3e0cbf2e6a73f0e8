"""One login at a SAP system by HTTP: requests, tokens, and answers sorted into what passes and what does not.

Links that a server gives are followed at the configured address only, by their path and query: a server behind a proxy
writes its own name into them, and a login must go nowhere else.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from connectors.base.secrets import plain, resolve
from connectors.sap.odata_config import SapHttp
from libcore.errors import ConfigurationError, FatalError, TransientError

RETRY_S, RETRY_S_MAX = 1.0, 600.0
_CONNECT_S = 10.0
_TOKEN_EARLY_S = 30.0
_BUSY = (408, 423, 425, 429, 500, 502, 503, 504)
_LOCKED = re.compile(r"\block(ed)?\b|gesperrt|/IWBEP/CX_MGW_LOCK|MC\s?601", re.I)
_TEXT_MAX = 300


class Throttled(TransientError):
    """The server said "not now": nothing is asked before `wait_s` are over."""

    def __init__(self, message: str, wait_s: float) -> None:
        self.wait_s = wait_s
        super().__init__(message)


class GatewayError(FatalError):
    """The server refused a request for good. status: of HTTP; code, text: the error's, as the server gave them."""

    def __init__(self, where: str, status: int, code: str, text: str) -> None:
        self.status, self.code, self.text = status, code, text
        super().__init__(f"{where}: HTTP {status} {code}: {text}".replace("  ", " "))


@contextmanager
def told() -> Iterator[None]:
    """This module's errors as those of libcore.errors, by whose names the end of a flow is judged."""
    try:
        yield
    except Throttled as error:
        raise TransientError(str(error)) from error
    except GatewayError as error:
        raise FatalError(str(error)) from error


@dataclass(frozen=True)
class Answer:
    """What came back. body: b"" of a 304."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Gateway:
    """A session; used by one thread. It may be closed and used again.

    Args:
        config: address and login. where: begins each message, "source.sap_odata".
        clock: seconds that only grow.
    """

    def __init__(self, config: SapHttp, where: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._where, self._clock = config, where, clock
        self._http: httpx.Client | None = None
        self._bearer, self._bearer_until = "", 0.0
        self._csrf = ""
        self._not_before = 0.0

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Read a path or a link. Raises Throttled, TransientError, ConfigurationError (login), GatewayError."""
        return self._asked("GET", path, None, dict(headers or {}))

    def post(self, path: str, body: bytes, content_type: str, *, etag: str = "") -> Answer:
        """Write, with the token against forged requests that SAP asks for. etag: as `If-Match`. Raises as `get`."""
        headers = {"Content-Type": content_type, "Accept": "*/*"} | ({"If-Match": etag} if etag else {})
        if not self._csrf:
            self._fetch_csrf(path)
        try:
            return self._asked("POST", path, body, headers | self._csrf_header())
        except GatewayError as error:
            if error.status != 403 or "csrf" not in (error.code + error.text).lower():
                raise
        self._fetch_csrf(path)  # it was of a session that has ended
        return self._asked("POST", path, body, headers | self._csrf_header())

    def path_of(self, link: str, base: str) -> str:
        """A link's path and query, whatever host it names; `base`: what a relative one begins at."""
        parts = urlsplit(urljoin(f"http://host{base}", link))
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def close(self) -> None:
        """End the session."""
        http, self._http, self._csrf = self._http, None, ""
        if http is not None:
            http.close()

    def _csrf_header(self) -> dict[str, str]:
        return {"X-CSRF-Token": self._csrf} if self._csrf else {}

    def _fetch_csrf(self, path: str) -> None:
        """The token comes with any answer, also with one that says that the path takes no GET."""
        answer = self._sent("GET", path, None, {"X-CSRF-Token": "Fetch", "Accept": "*/*"})
        if answer.status == 401 or answer.status in _BUSY:
            raise self._error("GET", path, answer)
        self._csrf = answer.headers.get("x-csrf-token", "")

    def _asked(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        wait_s = self._not_before - self._clock()
        if wait_s > 0:
            raise Throttled(f"{self._where}: the server asked to wait {wait_s:.1f} s more", wait_s)
        answer = self._sent(method, path, body, headers)
        if answer.status == 401 and self._config.oauth is not None:
            self._bearer = ""  # it may have run out earlier than it was said to
            answer = self._sent(method, path, body, headers)
        if answer.status < 300 or answer.status == 304:
            return answer
        raise self._error(method, path, answer)

    def _sent(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        try:
            http = self._client()
            request = http.build_request(method, path, content=body, headers=headers | self._login(http))
            response = http.send(request, stream=True)
            try:
                return Answer(response.status_code, self._body(response, path), response.headers)
            finally:
                response.close()
        except httpx.HTTPError as error:
            self.close()
            raise TransientError(f"{self._where}: {_short(path)}: {type(error).__name__}: {error}") from error

    def _body(self, response: httpx.Response, path: str) -> bytes:
        body = bytearray()
        for part in response.iter_bytes():
            body += part
            if len(body) > self._config.body_bytes_max:
                raise ConfigurationError(
                    f"{self._where}: {_short(path)}: expected at most {self._config.body_bytes_max} bytes in an "
                    "answer, found more: lower page_rows, or raise body_bytes_max"
                )
        return bytes(body)

    def _client(self) -> httpx.Client:
        if self._http is None:
            config, auth = self._config, None
            if config.user is not None and config.password is not None:
                auth = httpx.BasicAuth(plain(config.user), resolve(config.password).reveal())
            self._http = httpx.Client(
                base_url=plain(config.url),
                auth=auth,
                verify=True if config.ca_file is None else _trusted(config.ca_file),
                timeout=httpx.Timeout(config.answer_s_max, connect=_CONNECT_S),
                headers={"Accept": "application/json"} | ({"sap-client": config.client} if config.client else {}),
                trust_env=False,
            )
        return self._http

    def _login(self, http: httpx.Client) -> dict[str, str]:
        oauth = self._config.oauth
        if oauth is None:
            return {}
        if not self._bearer or self._clock() >= self._bearer_until:
            form = {"grant_type": "client_credentials"} | ({"scope": oauth.scope} if oauth.scope else {})
            login = httpx.BasicAuth(plain(oauth.client_id), resolve(oauth.client_secret).reveal())
            response = http.post(oauth.token_url, data=form, auth=login)
            if response.status_code in _BUSY:
                raise Throttled(f"{self._where}.oauth: HTTP {response.status_code}", RETRY_S)
            try:
                found = response.raise_for_status().json()
                self._bearer = str(found["access_token"])
                self._bearer_until = self._clock() + float(found.get("expires_in", 600)) - _TOKEN_EARLY_S
            except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
                raise ConfigurationError(
                    f"{self._where}.oauth: expected a token from {oauth.token_url}, found HTTP {response.status_code}"
                ) from error
        return {"Authorization": f"Bearer {self._bearer}"}

    def _error(self, method: str, path: str, answer: Answer) -> Exception:
        code, text = _message(answer.body)
        where = f"{self._where}: {method} {_short(path)}"
        if answer.status in _BUSY or (answer.status in (400, 409) and _LOCKED.search(f"{code} {text}")):
            wait_s = _retry_after(answer.headers.get("retry-after", ""))
            self._not_before = self._clock() + wait_s if "retry-after" in answer.headers else 0.0
            return Throttled(f"{where}: HTTP {answer.status} {code}: {text}", wait_s)
        if answer.status == 401:
            return ConfigurationError(f"{where}: expected the login to be right, found HTTP 401 {text}")
        if answer.status == 403 and "csrf" not in (code + text).lower():
            return ConfigurationError(
                f"{where}: expected the user to be allowed, found HTTP 403 {code}: {text}; "
                "the role needs S_SERVICE for the service and the data's own authorizations (SU53 names what lacks)"
            )
        return GatewayError(where, answer.status, code, text)


def _trusted(ca_file: str) -> Any:
    import ssl

    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigurationError(f"ca_file: expected certificates in {ca_file}: {error}") from error


def _message(body: bytes) -> tuple[str, str]:
    """(code, text) of an error as OData writes it in JSON or XML; else the beginning of what came."""
    try:
        error = json.loads(body)["error"]
        text = error.get("message", "")
        return str(error.get("code", "")), str(text.get("value", "") if isinstance(text, dict) else text)[:_TEXT_MAX]
    except (ValueError, KeyError, TypeError, AttributeError):
        found = body[:4000].decode("utf-8", "replace")
        code, text = re.search(r"<code>(.*?)</code>", found), re.search(r"<message[^>]*>(.*?)</message>", found, re.S)
        return (code[1] if code else ""), (text[1] if text else re.sub(r"<[^>]*>|\s+", " ", found).strip())[:_TEXT_MAX]


def _retry_after(value: str) -> float:
    """Seconds that a Retry-After says, as a number or a date; bounded."""
    wait_s = RETRY_S
    if value.strip().isdigit():
        wait_s = float(value)
    elif value:
        try:
            wait_s = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            wait_s = RETRY_S
    return min(RETRY_S_MAX, max(0.0, wait_s))


def _short(path: str) -> str:
    return path if len(path) <= 120 else path[:117] + "..."

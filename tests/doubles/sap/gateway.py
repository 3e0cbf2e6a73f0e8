"""The gateway as an HTTP server in a process of its own, and the client of its levers that tests use.

`python -m tests.doubles.sap.gateway PORT [JOURNAL]` serves two sets, `items` and `idle`, by V2 and V4. Below /_double a
test writes rows, makes sets, expires queues and orders faults, and reads what was asked for. With a journal, rows and
queues outlive a kill -9: what changed them is written down first, and a server that is started again does it again.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import Request, urlopen

from flows.ports import free_ports
from tests.doubles.sap.queue import EntitySet, Property, Row, UnknownToken
from tests.doubles.sap.render import PATHS, error, metadata, page, results, v2

PAGE_ROWS_MAX = 5_000
CONTRACT = (
    Property("id", "Edm.Int32", 'Nullable="false"', key=True),
    Property("name", "Edm.String"),
    Property("price", "Edm.Decimal", 'Precision="18" Scale="4"'),
)
_KEPT = ("write", "set", "expire", "forget")
"""Wishes that change what a journal keeps."""
USER, PASSWORD, CSRF = "HEADRACE", "pässword", "csrf-token-1"


class World:
    """What the server knows; guarded by one lock.

    Args:
        journal: a file of what changed it before, a line each; None: it is forgotten with the process.
    """

    def __init__(self, journal: Path | None = None) -> None:
        self.lock = threading.Lock()
        self.sets = {name: EntitySet(name, CONTRACT) for name in ("items", "idle")}
        self.cursors: dict[str, tuple[list[Row], str]] = {}
        self.faults: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.login, self.bearer = "", "token-1"
        self._journal: Any = None
        if journal is not None:
            self._replay(journal)
            self._journal = journal.open("a", encoding="utf-8")

    def _replay(self, journal: Path) -> None:
        """Do again what was done; what was written down in part was not."""
        whole = journal.read_bytes().rpartition(b"\n")[0] if journal.exists() else b""
        journal.write_bytes(whole + b"\n" * bool(whole))
        for line in whole.splitlines():
            what, *told = json.loads(line)
            with suppress(UnknownToken):
                getattr(self, what)(*told)

    def _note(self, *told: Any) -> None:
        if self._journal is not None:
            self._journal.write(json.dumps(told) + "\n")
            self._journal.flush()

    def answer(self, path: str, query: dict[str, str], version: int, headers: Any) -> tuple[int, bytes]:
        """A read of a service, which may make a package. path: below it."""
        self._note("answer", path, query, version, {"Prefer": headers.get("Prefer", "")})
        if path in ("", "/"):
            return 200, b"{}"
        if path == "/$metadata":
            return 200, metadata(list(self.sets.values()), version)
        for function in ("SubscribedTo", "TerminateDeltasFor"):
            if (told := self.sets.get(path.strip("/").removeprefix(function))) and path.startswith(f"/{function}"):
                flag = told.subscription is not None
                if function == "TerminateDeltasFor":
                    told.expire()
                return 200, json.dumps({"d": {path.strip("/"): {"SubscribedFlag": flag}}}).encode()
        one = self.sets.get(path.strip("/"))
        if one is None:
            return 404, error("/IWBEP/CM_MGW_RT/020", f"Resource not found for segment '{path}'", version)
        prefer = headers.get("Prefer", "")
        rows, behind, start, cursor = self._package(one, query, prefer)
        size = re.search(r"odata\.maxpagesize=(\d+)", prefer)
        stop = start + min(PAGE_ROWS_MAX, int(query.get("$top", size[1] if size else PAGE_ROWS_MAX)))
        more = f"{one.name}?$skiptoken={cursor}-{stop}" if stop < len(rows) else ""
        token = f"!deltatoken='{behind}'" if version == 2 else f"$deltatoken={behind}"
        link = f"{one.name}?{token}" if behind and not more else ""
        delta = "!deltatoken" in query or "$deltatoken" in query or cursor.startswith("d")
        if cursor.startswith("i") and version == 2 and (made := one.frozen.get((start, stop))):
            return 200, v2(made, more, link)
        return 200, page(one, version, rows[start:stop], more, link, delta=delta)

    def _package(self, one: EntitySet, query: dict[str, str], prefer: str) -> tuple[list[Row], str, int, str]:
        """(rows, the token behind them, where the page begins, the cursor's name)."""
        if "$skiptoken" in query:
            cursor, _, start = query["$skiptoken"].rpartition("-")
            if cursor not in self.cursors:
                raise UnknownToken(query["$skiptoken"])
            rows, behind = self.cursors[cursor]
            return rows, behind, int(start), cursor
        token = query.get("!deltatoken", query.get("$deltatoken", "")).strip("'")
        if token:
            rows, behind = one.changes(token)
            cursor = f"d{one.name}{token}"
        elif "odata.track-changes" in prefer:
            rows, behind = one.begin()
            cursor = f"i{one.name}{behind}"
        else:
            rows, behind, cursor = (
                [{**row, "ODQ_CHANGEMODE": "", "ODQ_ENTITYCNTR": "0"} for row in one.rows.values()],
                "",
                "",
            )
            cursor = f"f{one.name}{len(self.cursors)}"
        self.cursors[cursor] = (rows, behind)
        return rows, behind, 0, cursor

    def lever(self, what: str, told: Any) -> Any:
        """A test's wish."""
        if what in _KEPT:
            self._note("lever", what, told)
        if what == "write":
            self.sets[told["set"]].write(told["rows"], told["deleted"])
        elif what == "set":
            self.sets[told["name"]] = EntitySet(
                told["name"], [Property(*one) for one in told["properties"]], told.get("queued", True)
            )
        elif what == "freeze":
            one, size = self.sets[told["set"]], told["page_rows"]
            rows, _ = one.begin()
            one.frozen = {(at, at + size): results(one, rows[at : at + size]) for at in range(0, len(rows), size)}
        elif what == "expire":
            for one in self.sets.values():
                one.expire()
        elif what == "forget":
            self.cursors.clear()
        elif what == "fault":
            self.faults = [*([] if told.get("alone") else self.faults), told]
        elif what == "login":
            self.login, self.bearer = told["kind"], told.get("bearer", self.bearer)
        elif what == "reset":
            Handler.world = World()
        elif what == "asked":
            asked, self.asked = self.asked, []
            return asked
        return {}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece: in two, the second would wait for the peer to acknowledge the first
    world: World

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        version = next((v for v, path in PATHS.items() if parts.path.startswith(path)), 0)
        with self.world.lock:
            self.world.asked.append(unquote(self.path))
            fault = next((one for one in self.world.faults if one["match"] in unquote(self.path)), None)
            if fault is not None:
                fault["count"] -= 1
                self.world.faults = [one for one in self.world.faults if one["count"] > 0]
            if fault is not None and not fault.get("late"):
                return self._send(fault["status"], fault.get("body", "").encode(), fault.get("headers", {}))
            if not self._allowed():
                return self._send(401, b"", {"WWW-Authenticate": 'Basic realm="SAP"'})
            try:
                status, body = self.world.answer(
                    parts.path.removeprefix(PATHS.get(version, "")), query, version, self.headers
                )
            except UnknownToken as unknown:
                status, body = 410, error("/IWBEP/CM_MGW_RT/021", f"Delta token '{unknown}' has expired", version)
            more = {"X-CSRF-Token": CSRF} if self.headers.get("X-CSRF-Token", "").lower() == "fetch" else {}
        if fault is not None:  # what was asked for was done, and the answer is lost on the way
            self.close_connection = True
            return None
        return self._send(status, body, more)

    def do_POST(self) -> None:
        told = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/oauth/token":
            right = self.headers.get("Authorization") == _basic(USER, PASSWORD)
            token = json.dumps({"access_token": self.world.bearer, "expires_in": 3600}).encode()
            return self._send(200 if right else 401, token if right else b"{}")
        if not self.path.startswith("/_double/"):
            if self.headers.get("X-CSRF-Token") != CSRF:
                return self._send(403, error("/IWBEP/CM_MGW_RT/022", "CSRF token validation failed", 2))
            if self.headers.get("If-Match", "*") not in ("*", 'W/"1"'):
                return self._send(412, error("/IWBEP/CM_MGW_RT/023", "Precondition failed", 2))
            with self.world.lock:
                self.world.asked.append(f"POST {self.path} {told.decode()}")
            return self._send(201, b"{}")
        with self.world.lock:
            return self._send(
                200, json.dumps(self.world.lever(self.path.rpartition("/")[2], json.loads(told))).encode()
            )

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""

    def _allowed(self) -> bool:
        wanted = {"": None, "basic": _basic(USER, PASSWORD), "bearer": f"Bearer {self.world.bearer}"}[self.world.login]
        return wanted is None or self.headers.get("Authorization") == wanted

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class GatewayDouble:
    """Starts the server and pulls its levers; a context manager.

    Args:
        journal: where rows and queues are kept, so that they outlive `kill`.
    """

    def __init__(self, journal: Path | None = None) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self._journal = [] if journal is None else [str(journal)]

    def __enter__(self) -> GatewayDouble:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the process, and wait until it answers."""
        command = [sys.executable, "-m", "tests.doubles.sap.gateway", str(self.port), *self._journal]
        self._process = subprocess.Popen(command)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.pull("asked", {})
                return
            except OSError:
                assert time.monotonic() < deadline and self._process.poll() is None, "the gateway does not start"
                time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def pull(self, lever: str, told: Any) -> Any:
        """See World.lever."""
        request = Request(f"{self.url}/_double/{lever}", json.dumps(told).encode(), method="POST")
        with urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def write(self, name: str, rows: list[Row], deleted: list[Row] | None = None) -> None:
        """Rows and deletions of a set, together."""
        self.pull("write", {"set": name, "rows": rows, "deleted": deleted or []})

    def fault(self, match: str, status: int = 0, *, count: int = 1, **more: Any) -> None:
        """Answers of that status to paths that hold `match`; late: it is lost on its way; alone: no other waits."""
        self.pull("fault", {"match": match, "status": status, "count": count, **more})

    def asked(self) -> list[str]:
        """Paths that were asked for since the last time."""
        return list(self.pull("asked", {}))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news."""


def serve(port: int, journal: Path | None) -> None:
    """Serve until the process ends."""
    Handler.world = World(journal)
    _Server(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)

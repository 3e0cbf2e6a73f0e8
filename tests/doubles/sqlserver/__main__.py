"""`python -m tests.doubles.sqlserver DIRECTORY PORT`: the double as a process, until its standard input ends."""

from __future__ import annotations

import logging
import socketserver
import sys
import threading
from pathlib import Path

from pysqlbridge.certificate import self_signed

from tests.doubles.sqlserver.capture import CaptureJob
from tests.doubles.sqlserver.engine import Database
from tests.doubles.sqlserver.rights import ADMINISTRATOR
from tests.doubles.sqlserver.session import DATABASE, PASSWORD, Session
from tests.doubles.sqlserver.statements import Client


class Server(socketserver.ThreadingTCPServer):
    """Listens on 127.0.0.1; a thread for each client."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        self._databases: dict[str, tuple[Database, CaptureJob]] = {}
        for name in {DATABASE, *(path.stem for path in directory.glob("*.db"))}:
            self._create(name)
        self._certificate = self_signed("localhost")
        self._logins = {ADMINISTRATOR: PASSWORD}
        super().__init__(("127.0.0.1", port), socketserver.BaseRequestHandler)

    def _create(self, name: str) -> None:
        database = Database(self._directory / f"{name}.db")
        job = CaptureJob(database)
        job.start()
        self._databases[name.lower()] = (database, job)

    def _open(self, session: Session, name: str) -> Client | None:
        found = self._databases.get(name.lower())
        if found is None or not (session.login == ADMINISTRATOR or found[0].has_user(session.login)):
            return None
        return Client(*found, session, self._create, self._logins)

    def finish_request(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        """Serve a client to its end."""
        Session(request, self._certificate, self._logins, self._open).run()


def main() -> None:
    """Serve; the parent's end of the pipe closes when the parent ends, however it does."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    with Server(Path(sys.argv[1]), int(sys.argv[2])) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

"""Receives IDocs by HTTP: a post is answered with 200 only when its IDocs are on the disk.

Whatever can be wrong with the content is no reason to refuse a post, as SAP would send it for ever: it is kept, and
becomes a dead letter. Refused are strangers, bodies that are too big, and any post while the spool is full.
"""

from __future__ import annotations

import base64
import hmac
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog

from connectors.base.secrets import plain, resolve
from connectors.sap.idoc_config import SapIdocConfig
from connectors.sap.idoc_envelope import documents
from connectors.sap.idoc_spool import Spool
from libcore.errors import CapacityError, ConfigurationError, TransientError

_SILENT_S_MAX = 30.0
_AGAIN_S = "10"
_log = structlog.get_logger()


class Listener:
    """A server that fills a spool, in threads of its own.

    Raises: ConfigurationError where the address, or a TLS file, cannot be used.
    """

    def __init__(self, config: SapIdocConfig, spool: Spool) -> None:
        host, _, port = config.listen.rpartition(":")
        room = threading.BoundedSemaphore(config.connections_max)
        handler = type("_Told", (_Handler,), {"config": config, "spool": spool, "login": _login(config), "room": room})
        try:
            self._server = _Server((host, int(port)), handler)
            if config.tls_certificate is not None:
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                context.load_cert_chain(config.tls_certificate, config.tls_key)
                self._server.tls = context
        except (OSError, OverflowError) as error:  # SSLError is an OSError
            raise ConfigurationError(f"source.sap_idoc.listen: {config.listen}: {error}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="idocs", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The handshake happens in the connection's thread: a silent peer keeps nobody waiting."""
        request.settimeout(_SILENT_S_MAX)
        if self.tls is not None:
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that leaves, or sends no TLS, is no news."""
        _log.debug("an IDoc connection broke", peer=client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SILENT_S_MAX
    wbufsize = -1  # an answer in one piece: in two, the second would wait for the peer to acknowledge the first
    config: SapIdocConfig
    spool: Spool
    login: bytes | None
    room: threading.BoundedSemaphore

    def handle_expect_100(self) -> bool:
        """The sender waits for this before it sends: it must not wait for the answer behind it."""
        sent = super().handle_expect_100()
        self.wfile.flush()
        return sent

    def do_POST(self) -> None:
        """Keep what is posted."""
        refusal = self._refusal()
        if refusal is not None:
            self.close_connection = True  # the body is not read
            return self._answer(*refusal)
        if not self.room.acquire(blocking=False):
            self.close_connection = True
            return self._answer(503, f"{self.config.connections_max} posts at a time")
        try:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if len(body) < int(self.headers["Content-Length"]):
                self.close_connection = True  # cut short: nothing is kept, and nobody waits for an answer
                return None
            return self._kept(body)
        finally:
            self.room.release()

    def do_GET(self) -> None:
        """SAP's connection test (SM59) asks this way."""
        self._answer(200 if self.path.partition("?")[0] == self.config.path else 404, "IDocs are posted here")

    def _kept(self, body: bytes) -> None:
        found = documents(body)
        try:
            kept = self.spool.put(found)
        except (CapacityError, TransientError) as error:
            _log.warning("an IDoc is told to come again", error=str(error))
            return self._answer(503, str(error))
        return self._answer(200, f"{kept} of {len(found)} IDocs are new")

    def _refusal(self) -> tuple[int, str] | None:
        length = self.headers.get("Content-Length", "")
        if self.path.partition("?")[0] != self.config.path:
            return 404, f"expected {self.config.path}"
        found = self.headers.get("Authorization", "").encode("latin-1", "replace")
        if self.login is not None and not hmac.compare_digest(self.login, found):
            return 401, "expected the user and password of [source.sap_idoc]"
        if self.headers.get("Content-Encoding", "identity").lower() != "identity":
            return 415, "expected a body without a Content-Encoding"
        if not length.isdigit():
            return 411, "expected a Content-Length"
        if int(length) > self.config.body_bytes_max:
            return 413, f"expected at most {self.config.body_bytes_max} bytes"
        return None

    def _answer(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="headrace"')
        if status == 503:
            self.send_header("Retry-After", _AGAIN_S)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """The access log is SAP's (SM58)."""


def _login(config: SapIdocConfig) -> bytes | None:
    if config.user is None or config.password is None:
        return None
    pair = f"{plain(config.user)}:{resolve(config.password).reveal()}"
    return b"Basic " + base64.b64encode(pair.encode())

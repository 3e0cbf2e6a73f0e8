"""TCP ports of 127.0.0.1 for processes that are about to start."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress

_FIRST, _COUNT = 20_000, 12_000  # below those that Linux gives to outgoing connections, from 32768 on


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that nobody listens on at this moment.

    They are drawn, and no outgoing connection gets one: of processes that ask at the same time none takes another's
    before it listens there.
    """
    found: list[int] = []
    while len(found) < count:
        port = _FIRST + secrets.randbelow(_COUNT)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found += [] if port in found else [port]
    return found


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]


def listens(port: int) -> bool:
    """Whether somebody answers there."""
    with socket.socket() as peer:
        return peer.connect_ex(("127.0.0.1", port)) == 0

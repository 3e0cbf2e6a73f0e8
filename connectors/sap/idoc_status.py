"""Tells a SAP system what became of its IDocs: an audit IDoc (ALEAUD01), once their rows are durable.

53 says that the IDoc was taken over (the sender shows it as 41), 51 that it was refused (40), with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import groupby
from xml.sax.saxutils import escape

import structlog

from connectors.sap.http import Gateway, Throttled
from connectors.sap.idoc_config import Status
from connectors.sap.idoc_spool import Waiting
from libcore.errors import HeadraceError

TAKEN, REFUSED = "53", "51"
_AGAIN_S = 10.0
_TEXT_MAX = 70
_log = structlog.get_logger()


class StatusSender:
    """Posts audit IDocs; a post that fails is tried again later. Used by one thread."""

    def __init__(self, config: Status, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._clock = config, clock
        self._gateway = Gateway(config, "source.sap_idoc.status")
        self._not_before = 0.0

    def tell(self, idocs: Sequence[Waiting]) -> int:
        """Tell of these; the number up to which the senders know, 0: of none, for now."""
        if not idocs or self._clock() < self._not_before:
            return 0
        try:
            for body in audits(idocs, self._config.partner):
                self._gateway.post(self._config.path, body, "text/xml; charset=utf-8")
        except HeadraceError as error:
            self._not_before = self._clock() + (error.wait_s if isinstance(error, Throttled) else _AGAIN_S)
            _log.warning("the status of IDocs is told later", error=str(error))
            return 0
        return idocs[-1].seq

    def close(self) -> None:
        """End the session."""
        self._gateway.close()


def audits(idocs: Sequence[Waiting], partner: str) -> list[bytes]:
    """An ALEAUD01 for each sender: a header a message type, a status each IDoc. Those without a number are left out."""
    known = sorted((one for one in idocs if one.docnum), key=lambda one: (one.sender, one.mestyp, one.seq))
    return [_audit(sender, list(group), partner) for sender, group in groupby(known, key=lambda one: one.sender)]


def _audit(sender: str, idocs: Sequence[Waiting], partner: str) -> bytes:
    headers = []
    for mestyp, group in groupby(idocs, key=lambda one: one.mestyp):
        states = "".join(_state(one) for one in group)
        name = escape(mestyp)
        headers.append(f'<E1ADHDR SEGMENT="1"><MESTYP>{name}</MESTYP><MESTYP_LNG>{name}</MESTYP_LNG>{states}</E1ADHDR>')
    control = {
        "TABNAM": "EDI_DC40", "DIRECT": "2", "IDOCTYP": "ALEAUD01", "MESTYP": "ALEAUD", "SNDPRT": "LS",
        "SNDPRN": partner, "RCVPRT": "LS", "RCVPRN": sender,
    }  # fmt: skip
    fields = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in control.items())
    return (
        '<?xml version="1.0" encoding="utf-8"?><ALEAUD01><IDOC BEGIN="1">'
        f'<EDI_DC40 SEGMENT="1">{fields}</EDI_DC40>{"".join(headers)}</IDOC></ALEAUD01>'
    ).encode()


def _state(one: Waiting) -> str:
    text = f"<STATXT>{escape(one.fault[:_TEXT_MAX])}</STATXT>" if one.fault else ""
    status = REFUSED if one.fault else TAKEN
    return f'<E1STATE SEGMENT="1"><DOCNUM>{escape(one.docnum)}</DOCNUM><STATUS>{status}</STATUS>{text}</E1STATE>'

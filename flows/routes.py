"""Through which sink parts each table's rows go: as the target and the file say, and as it was before."""

from __future__ import annotations

import math
import secrets
import time
from typing import Any

import structlog

from connectors.base.items import Fence
from connectors.base.target import PREFLIGHT_S
from flows.operators.shape import Route
from flows.state.store import Store
from libcore.errors import TransientError
from libcore.schema import Table

_KNOWN_WAIT_S = 3.0  # how long a table that the target once took waits for its answer
_SILENT_S = 60.0  # how long a target that gave no answer is not asked about such tables
_LOG = structlog.get_logger()


class Routes:
    """Asks the target to prepare a table, and whether one part writes it; while it is down the former way serves.

    A table with a former way waits for the target for a moment only, and those after it not at all: the source must be
    drained into the spool, and the applier does what is left of the preparation when the target is back.

    A table that goes another way than before (`single_part` or `[document]` came to the file, or left it) gets a fence:
    segments of the former way may wait in another part's spool, and their older rows would be applied last.

    Args:
        target: of the sink. store: the pipeline's.
        together: all tables go through one part, whatever each needs.
    """

    def __init__(self, target: Any, store: Store, *, together: bool = False) -> None:
        self._target, self._store, self._together = target, store, together
        self._silent_since = -math.inf

    def __call__(self, table: Table, wanted: bool) -> Route:
        """The way of the table's rows. Raises what the target refuses, TransientError where nothing is known of it.

        Args:
            wanted: whether the file wants one part.
        """
        former = self._store.route(table.name)
        alone = self._tied(table, former) or wanted or self._together
        if former is None:
            self._store.remember_route(table.name, alone)
        if former in (None, alone):
            return alone, None
        _LOG.info("the table's rows go another way", table=table.name, single_part=alone)
        return alone, Fence(table.name, f"route:{secrets.token_hex(8)}", alone)

    def passed(self, fence: Fence) -> None:
        """Its epoch is durable: the next start needs none. Kept sooner, a crash would leave it out."""
        try:
            self._store.remember_route(fence.table, fence.single_part)
        except OSError as error:
            _LOG.warning("a table's way could not be kept: the next start fences it again", error=str(error))

    def _tied(self, table: Table, former: bool | None) -> bool:
        if former is not None and time.monotonic() - self._silent_since < _SILENT_S:
            return former
        try:
            self._target.preflight([table], wait_s=PREFLIGHT_S if former is None else _KNOWN_WAIT_S)
        except TransientError as error:
            if former is None:
                raise
            _LOG.warning("the target is down; its rows are spooled", table=table.name, error=str(error))
            self._silent_since = time.monotonic()
            return former
        return table.name in self._target.single_part_tables([table])

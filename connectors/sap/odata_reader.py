"""Follows one entity set: the initial load page by page, then its changes by delta links, as pieces of a flow.

State: (1, shape, phase, token, link, rows, commit, loads). `shape` is the table's fingerprint; `phase` is load, delta
or done; `token` is the delta link whose package is read, "" in a load; `link` is the page to be read next, "" for the
first; `rows` counts them; `commit` counts requests of a load or a package, for positions; `loads` counts loads.

A delta link that is asked for tells the server that the package before it arrived, and is forgotten there. So a link is
asked for only when it is durable here: a crash before that brings the same package again, which upserts by key absorb.
A link that the server knows no more cannot be answered by changes: the table is emptied in the target and loaded anew,
as nothing else finds the rows that were deleted meanwhile.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from connectors.base.background import Piece
from connectors.base.database import TableBinding
from connectors.base.guardian import Pace
from connectors.base.items import Item, Truncate
from connectors.base.rows import change_batch, refused_rows
from connectors.sap.http import Gateway, GatewayError, told
from connectors.sap.odata_config import SapODataConfig
from connectors.sap.odata_metadata import EntitySet
from connectors.sap.odata_page import Page, PageDecoder
from libcore.change import Op
from libcore.errors import ConfigurationError, FatalError
from libcore.schema import Table

STATE_VERSION = 1
LOAD, DELTA, DONE = "load", "delta", "done"
_LOST = re.compile(r"token|subscription|delta (link|queue|request)|expired|skiptoken|request .*not (exist|found)", re.I)
_UNTRACKED = re.compile(r"\bdelta|track.?changes|change.?tracking", re.I)
_ACCEPT = {2: "application/json", 4: "application/json;IEEE754Compatible=true"}
_PACKAGES_AT_END = 2  # the first may have been made before the start, and be asked for again
_log = structlog.get_logger()


@dataclass(frozen=True)
class ReaderState:
    """Where a reader goes on; see above."""

    version: int = STATE_VERSION
    shape: str = ""
    phase: str = LOAD
    token: str = ""
    link: str = ""
    rows: int = 0
    commit: int = 0
    loads: int = 0

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> ReaderState:
        """The state of a recovery store; () for the first. Raises ConfigurationError for another version's."""
        if not values:
            return cls()
        if values[0] != STATE_VERSION or len(values) != len(astuple(cls())):
            raise ConfigurationError(
                f"source.sap_odata: expected recovery state of version {STATE_VERSION}, found {values[:1]}: it was "
                "written by another version of headrace"
            )
        return cls(*values)


class ODataReader:
    """Reads one entity set from a state on; see connectors.base.background.PieceReader.

    Args:
        gateway: the session; closed with the reader. entity: as described. table: as the pipeline wants it.
        state: () to begin. pace: bounds of the load. flow: for dead letters.
    """

    def __init__(
        self,
        gateway: Gateway,
        config: SapODataConfig,
        entity: EntitySet,
        table: Table,
        binding: TableBinding,
        state: tuple[Any, ...],
        *,
        pace: Pace,
        flow: str,
        until_end: bool,
    ) -> None:
        self._gateway, self._config, self._entity, self._table = gateway, config, entity, table
        self._binding, self._pace, self._flow, self._until_end = binding, pace, flow, until_end
        self._state = ReaderState.of(state)
        self._decoder, self._follows = PageDecoder(entity, table), config.follows(table.name)
        self._durable_token = ""
        self._due = 0.0

    def pieces(self) -> Iterator[Piece | None]:
        """See PieceReader.pieces."""
        with told():
            yield from self._pieces()

    def _pieces(self) -> Iterator[Piece | None]:
        changed = bool(self._state.shape) and self._state.shape != self._table.fingerprint
        # some rows of a load's first page are in the target, and no link goes on behind them
        broken = bool(self._state.shape) and self._state.phase == LOAD and not self._state.link
        if changed or broken:
            _log.info("the table is loaded anew", table=self._table.name, other_columns=changed)
            yield self._emptied()
        packages = 0
        while True:
            if self._state.phase == LOAD:
                yield from self._load()
            elif self._state.phase == DONE:
                if self._until_end:
                    return
                yield None
            else:
                yield from self._package()
                packages += 1
                if self._until_end and packages == _PACKAGES_AT_END:
                    return

    def durable(self, state: tuple[Any, ...]) -> None:
        """A delta link that may be asked for now."""
        self._durable_token = ReaderState.of(state).token

    def close(self) -> None:
        """See PieceReader.close."""
        self._gateway.close()

    # -- the initial load

    def _load(self) -> Iterator[Piece | None]:
        """Pages up to the last one, whose delta link is where the changes begin."""
        if not self._state.link:
            again = self._state.loads > 0
            commit = self._state.commit + 1 if again else 0
            self._state = replace(
                self._state, shape=self._table.fingerprint, commit=commit, loads=max(1, self._state.loads)
            )
        while True:
            while not self._pace.allowed or self._pace.wait_s > 0:
                yield None
            try:
                page = self._asked(self._state.link or self._entity.path)
            except GatewayError as error:
                if not self._state.link and self._follows and _UNTRACKED.search(error.text):
                    raise ConfigurationError(f"{error}; {self._no_deltas}") from error
                if not (self._state.link and lost(error)):
                    raise
                _log.warning("a page's link is known no more: the load begins anew", table=self._table.name)
                yield self._emptied()
                return
            self._pace.read(page.rows)
            yield from self._paged(page, self._behind(page), Op.UPSERT if self._state.commit else Op.INSERT)
            if self._state.phase != LOAD:
                return

    def _behind(self, page: Page) -> ReaderState:
        """The state behind a page. Raises ConfigurationError where the last one has no delta link."""
        state = self._state
        if page.next_link:
            link = self._gateway.path_of(page.next_link, self._entity.base)
            if link == state.link:
                raise FatalError(f"entity set {self._table.name}: expected a page behind {link}, found the same one")
            return replace(state, link=link)
        if page.delta_link:
            link = self._gateway.path_of(page.delta_link, self._entity.base)
            return replace(state, phase=DELTA if self._follows else DONE, token=link, link="")
        if not self._follows:
            return replace(state, phase=DONE, token="", link="")
        raise ConfigurationError(
            f"entity set {self._table.name}: expected a delta link on its last page, found none: {self._no_deltas}"
        )

    @property
    def _no_deltas(self) -> str:
        return (
            "enable its deltas in the provider and the service (SEGW), or name it in source.sap_odata.once: "
            f'once = ["{self._table.name}"]'
        )

    def _emptied(self) -> Piece:
        """The target's rows go, and a load begins."""
        loads, behind = self._state.loads + 1, self._state.link or self._state.token
        self._state = replace(self._state, shape="", phase=LOAD, token="", link="", loads=loads)
        return Piece([Truncate(self._table.name, f"{self._table.name}:{loads}:{behind}")], 1, self._values, alone=True)

    # -- changes

    def _package(self) -> Iterator[Piece | None]:
        """What a delta link brings, once it may be asked for and is due."""
        if not self._state.link:
            while self._durable_token != self._state.token or time.monotonic() < self._due:
                yield None
            self._state = replace(self._state, commit=self._state.commit + 1)
        while True:
            try:
                page = self._asked(self._state.link or self._state.token)
            except GatewayError as error:
                if not lost(error):
                    raise
                if self._state.link:  # the package is still there, from its beginning
                    self._state = replace(self._state, link="", commit=self._state.commit + 1)
                    continue
                _log.warning("the delta link is known no more", table=self._table.name, error=str(error))
                yield self._emptied()
                return
            yield from self._paged(page, self._behind(page), Op.UPSERT)
            if not self._state.link:
                self._due = time.monotonic() + (0.0 if self._until_end else self._config.poll_s)
                return

    # -- pages

    @property
    def _values(self) -> tuple[Any, ...]:
        return astuple(self._state)

    def _asked(self, link: str) -> Page:
        delta = self._state.phase == DELTA
        prefer = [f"odata.maxpagesize={self._pace.fewer(self._config.page_rows)}"]
        if not delta and self._follows:
            prefer.append("odata.track-changes")
        headers = {"Accept": _ACCEPT[self._entity.version], "Prefer": ",".join(prefer)}
        return self._decoder.read(self._gateway.get(link, headers).body, delta=delta)

    def _paged(self, page: Page, behind: ReaderState, op: Op) -> Iterator[Piece]:
        """A page's rows as pieces; the state goes behind it with the last one."""
        first, held = self._state.rows, self._values
        self._state = replace(behind, rows=first + page.rows + len(page.refused))
        commit, generation = self._state.commit, self._binding.generation
        kept, rows_op = (pa.scalar(int(one), pa.int8()) for one in (Op.UPSERT, op))
        ops = pc.if_else(pc.equal(page.ops, kept), rows_op, page.ops)
        for start in range(0, page.rows, self._config.batch_rows_max):
            stop = min(page.rows, start + self._config.batch_rows_max)
            columns = [array.slice(start, stop - start) for array in page.columns]
            lacking = {row - start: page.lacking[row] for row in range(start, stop) if row in page.lacking}
            batch = change_batch(
                self._table, columns, ops.slice(start, stop - start), generation=generation, commit=commit,
                first=first + start, lacking=lacking,
            )  # fmt: skip
            last = stop == page.rows and not page.refused
            yield Piece([batch], stop - start, self._values if last else held, batch.record.nbytes)
        items: list[Item] = []
        if page.refused:
            name, behind_rows = self._table.name, first + page.rows
            items.append(
                refused_rows(
                    page.refused, flow=self._flow, table=name, generation=generation, commit=commit, first=behind_rows
                )
            )
        if items or not page.rows:
            yield Piece(items, min(len(page.refused), self._config.batch_rows_max), self._values)


def lost(error: GatewayError) -> bool:
    """Whether a server says that it does not know a delta link or a page's link any more."""
    return error.status == 410 or (
        error.status in (400, 404) and _LOST.search(f"{error.code} {error.text}") is not None
    )

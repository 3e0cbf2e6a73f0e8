"""What both ways of following a database share: turns of changes, then a chunk of rows, until the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Generic, TypeVar

from connectors.base.background import Piece
from connectors.base.database import SourceContext
from connectors.base.guardian import Pace
from connectors.base.requests import Requests, keyed
from connectors.sqlserver.catalog import Wanted
from connectors.sqlserver.chunks import Chunks
from connectors.sqlserver.config import SqlServerConfig
from connectors.sqlserver.session import QueryTooLong, Session
from connectors.sqlserver.state import unpacked

End = TypeVar("End")


class TurnReader(ABC, Generic[End]):
    """Reads one database; see connectors.base.background.PieceReader.

    Args:
        wanted: the tables by name; one that gains a column is replaced there, for the readers that follow.
        state: where to go on. pace: when and how fast rows may be read.
        until_end: end behind what is there at the start.
    """

    def __init__(
        self,
        config: SqlServerConfig,
        context: SourceContext,
        wanted: dict[str, Wanted],
        state: tuple[Any, ...],
        pace: Pace,
        *,
        until_end: bool,
    ) -> None:
        self._config, self._flow, self._wanted, self._pace = config, context.flow, wanted, pace
        self._state = unpacked(state, config.mode)
        self._until_end = until_end
        self._session = Session(config)
        self._asked = Requests(context.directory, keyed(wanted))
        self._answered: tuple[str, ...] = ()
        self._chunks = Chunks(self._session, config, wanted, pace, context.flow, self._asked)

    def pieces(self) -> Iterator[Piece | None]:
        """See PieceReader."""
        try:
            end = self._newest()
            while True:
                requests = self._asked.joined(self._state.requests, self._state.answered, self._answered)
                self._state, moved = replace(self._state, requests=requests), False
                for piece in self._turn():
                    yield piece
                    moved = True
                if self._until_end and self._is_behind(end):
                    return
                if not moved:
                    yield None
        except QueryTooLong:
            self._pace.too_long()
            raise

    def durable(self, state: tuple[Any, ...]) -> None:
        """See PieceReader."""
        self._answered = unpacked(state, self._config.mode).answered

    def close(self) -> None:
        """See PieceReader."""
        self._session.close()

    @abstractmethod
    def _newest(self) -> End:
        """Where the source's changes end now."""

    @abstractmethod
    def _turn(self) -> Iterator[Piece]:
        """The changes that there are, and a chunk of rows where some are wanted."""

    @abstractmethod
    def _is_behind(self, end: End) -> bool:
        """Whether all rows and all changes up to there are read."""

"""LogMiner sessions: windows of SCNs that grow while the reader is behind, over logs chosen anew at each log switch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pyarrow as pa
import structlog

from connectors.oracle import sql
from connectors.oracle.config import OracleConfig
from connectors.oracle.logs import last_scn, logs_of
from connectors.oracle.session import NO_LOG_SESSION, Refused, Session, judged
from connectors.oracle.snapshot import starting_point
from libcore.errors import FatalError, TransientError

FETCH_ROWS = 20_000
GAP_SCNS, GAP_S = 1_000_000, 20.0
"""SCNs that rise by so much in so little time were not written by anybody: one window covers them."""
_log = structlog.get_logger()


class Mining:
    """One LogMiner session after the other. Used by one thread.

    Args:
        low: what is at or below it is not read.
        monotonic: the clock.
    """

    def __init__(
        self,
        session: Session,
        config: OracleConfig,
        low: int,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session, self._config, self._monotonic = session, config, monotonic
        self.low = low
        self.caught_up = False
        """Whether the last window ended at what there is."""
        self.first = low
        """Above which a session begins: of mode logminer_committed, where it must know all open transactions."""
        self._later: tuple[int, int] | None = None  # (first, once low is there)
        self._is_committed = config.mode == "logminer_committed"
        self._width = config.window_scns_min
        self._samples: deque[tuple[float, int]] = deque()
        self._switch: list[tuple[int, int]] | None = None
        self._threads: frozenset[int] = frozenset()  # those that write
        self._last_scn = 0  # up to where the added logs reach
        self._bound, self._bound_at = 0, 0.0

    def window(self) -> int:
        """The last SCN of the next window; `low` where there is nothing to mine yet. Raises LogLost."""
        bound = self._settled()
        if bound <= self.low:
            return self.low
        if self._is_committed and self._later is None:
            self._later = starting_point(self._session)
        self._choose_logs()
        bound = min(bound, self._last_scn)
        behind = bound - self.low
        now = self._monotonic()
        if self._bound and bound - self._bound > GAP_SCNS and now - self._bound_at < GAP_S:
            _log.info("a gap in the SCNs is mined at once", first=self._bound, last=bound)
            self._width = behind
        self._bound, self._bound_at = bound, now
        return max(self.low, min(bound, self.low + self._width))

    def rows(self, tables: Sequence[tuple[str, str]], high: int) -> Iterator[pa.RecordBatch]:
        """What was logged in (low, high]; the next window begins behind it."""
        committed = self._is_committed
        text = sql.contents(tables, committed=committed, pdb=self._config.pdb)
        with judged():
            start = sql.START_COMMITTED if committed else sql.START
            self._session.run(start, first=self.first + 1, last=high)
            binds = {"low": self.low, "high": high}
            yield from self._session.arrow(text, sql.CONTENTS_SCHEMA, binds, FETCH_ROWS)
            self._end()
        self.caught_up = high >= min(self._bound, self._last_scn)
        least, most = self._config.window_scns_min, max(self._config.window_scns_min, self._config.window_scns_max)
        self._width = max(least, min(most, self._width // 2 if self.caught_up else self._width * 2))
        self.low = high
        if not committed:
            self.first = high
        elif self._later is not None and self.low >= self._later[1]:
            self.first, self._later = max(self.first, self._later[0]), None

    def _settled(self) -> int:
        """The newest SCN of which all redo is in the log files."""
        current = int(self._session.one(sql.CURRENT_SCN)[0])
        threads = self._session.all(sql.THREADS)
        self._threads = frozenset(int(thread) for thread, _ in threads)
        now = self._monotonic()
        self._samples.append((now, min([current, *(int(scn) - 1 for _, scn in threads if scn is not None)])))
        while len(self._samples) > 1 and now - self._samples[1][0] >= self._config.settle_s:
            self._samples.popleft()
        at, scn = self._samples[0]
        return scn if now - at >= self._config.settle_s else 0

    def _choose_logs(self) -> None:
        """Give the session the logs that it needs, where the threads write into others than the last time."""
        switch = [(int(thread), int(sequence)) for thread, sequence in self._session.all(sql.CURRENT_LOGS)]
        if switch == self._switch:
            return
        with judged():
            logs = logs_of(self._session, self.first)
            self._end()
            for number, log in enumerate(logs):
                self._session.run(sql.ADD_LOG if number else sql.ADD_LOG_NEW, name=log.name)
        self._last_scn, self._switch = last_scn(logs, self._threads), switch

    def _end(self) -> None:
        try:
            self._session.run(sql.END)
        except Refused as error:
            if error.code != NO_LOG_SESSION:
                raise

    def close(self) -> None:
        """End the session's LogMiner."""
        with suppress(Refused, TransientError, FatalError):
            self._end()

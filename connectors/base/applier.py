"""The applier: one thread a sink part, which brings durable segments into the target, in order, one transaction each.

It waits out a target that is down, and stops the whole process where going on could lose or double a row: the next
write_batch or snapshot of the part raises what happened here, and if none comes (an idle flow) the process ends by
itself, because a flow that reads on without applying looks alive and is not.
"""

from __future__ import annotations

import os
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic, sleep
from typing import TypeVar

import structlog

from connectors.base import metrics, stop
from connectors.base.retry import FIRST_S, WAIT_MAX_S
from connectors.base.spool import Manifest, SegmentFile, Spool
from connectors.base.target import TargetPart, WaitForParts, check_progress
from libcore.errors import FatalError, TransientError

T = TypeVar("T")
_LOG = structlog.get_logger()
EXIT_CODE = 70
"""Exit status (EX_SOFTWARE) where the worker thread did not notice a fatal error in time."""
_PARTS_FACTOR = 20  # at the end, other parts may have that much more to apply before they reach a marker
_POLL_S = 0.02  # how often a part looks whether the other parts are done with a marker


class Applier:
    """Applies the segments of one part.

    Args:
        spool, manifest: the part's files; those the manifest names are durable and applied first.
        session: the part's session with the target.
        notice_s: seconds that the worker thread has to notice a fatal error. close_s: seconds that close() waits for
            a target that does not answer.
        exit_process: ends the process at once with a status.
    """

    def __init__(
        self,
        spool: Spool,
        manifest: Manifest,
        session: TargetPart,
        *,
        notice_s: float = 10.0,
        close_s: float = 30.0,
        exit_process: Callable[[int], object] = os._exit,
    ) -> None:
        self._spool, self._session = spool, session
        self._store_id, self._seq = manifest.store_id, manifest.seq
        self._notice_s, self._close_s, self._exit_process = notice_s, close_s, exit_process
        self._changed = threading.Condition()
        self._queue: deque[SegmentFile] = deque(manifest.files)
        self._backlog_bytes = manifest.bytes
        self._applied = -1  # unknown until the target was asked
        self._waits_for_parts = False
        self._closing: float | None = None  # since when (monotonic), None before close()
        self._error: BaseException | None = None
        self._ended = False
        self._noticed = threading.Event()
        self._label = str(spool.part)
        self._waiting = metrics.SPOOL_BYTES.labels(self._label)
        self._waiting.set(manifest.bytes)
        self._log = _LOG.bind(flow=spool.flow, part=spool.part)
        self._thread = threading.Thread(target=self._run, name=f"applier-{spool.part}", daemon=True)

    def start(self, wait_s: float) -> None:
        """Start, and wait a while for the target's word on the progress; a target that is down may answer later.

        Raises FatalError where target and state directory do not belong together.
        """
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._applied >= 0 or self._error is not None, wait_s)
        self.raise_if_failed()

    @property
    def applied(self) -> int:
        """Seq of the last segment known to be in the target; -1 while the target has not been asked."""
        with self._changed:
            return self._applied

    @property
    def backlog_bytes(self) -> int:
        """Bytes of the segments handed over and not yet applied."""
        with self._changed:
            return self._backlog_bytes

    @property
    def waits_for_parts(self) -> bool:
        """Whether it waits for another part to reach a marker (a truncate, a cleared column)."""
        with self._changed:
            return self._waits_for_parts

    def spooled(self, file: SegmentFile) -> None:
        """A segment was written, which will be handed over once its epoch is durable: from now on it waits."""
        self._waiting.inc(file.bytes)

    def hand_over(self, files: Sequence[SegmentFile]) -> None:
        """Give it segments whose epoch is proven durable, in order."""
        with self._changed:
            self._queue.extend(files)
            self._backlog_bytes += sum(file.bytes for file in files)
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until something changes that makes `condition` true, at most `seconds`; raises a fatal error at once."""
        with self._changed:
            met = self._changed.wait_for(lambda: self._error is not None or condition(), seconds)
        self.raise_if_failed()
        return met

    def raise_if_failed(self) -> None:
        """Raise in the worker thread what ended the applier."""
        if self._error is not None:
            self._noticed.set()
            raise self._error

    def close(self) -> None:
        """Wait until all that was handed over is applied; what a stop or a dead target leaves stays in the spool.

        Raises the applier's error where the worker thread has not seen it yet.
        """
        with self._changed:
            self._closing = monotonic()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ended or self._error is not None)
        if self._error is not None and not self._noticed.is_set():
            self.raise_if_failed()

    def _run(self) -> None:
        try:
            self._persist("ask the target for its progress", self._begin)
            while (file := self._next()) is not None:
                self._persist("apply a segment", lambda file=file: self._apply(file))  # type: ignore[misc]
            self._session.close()
        except _Left as left:
            self._session.close()
            self._leave(left)
        except BaseException as error:
            self._fail(error)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _begin(self) -> None:
        progress = self._session.progress()
        with self._changed:
            pending = [file.seq for file in self._queue]
        refusal = check_progress(progress, self._store_id, self._seq, pending)
        if refusal is not None:
            raise FatalError(
                f"flow {self._spool.flow}, part {self._spool.part}: {refusal}; nothing was changed. "
                f"Ways out: {self._session.ways_out(self._seq)}"
            )
        applied = progress.seq if progress is not None else (pending[0] - 1 if pending else self._seq)
        with self._changed:
            while self._queue and self._queue[0].seq <= applied:
                file = self._queue.popleft()
                self._backlog_bytes -= file.bytes
                self._waiting.dec(file.bytes)
            self._applied = applied
            self._changed.notify_all()

    def _next(self) -> SegmentFile | None:
        """The next segment; None at the end. Settles with the other parts while there is none."""
        settled = False
        while True:
            if not settled:
                settled = self._persist("settle a marker", self._session.settle)
            with self._changed:
                late = self._closing is not None and monotonic() - self._closing > self._close_s
                if late and stop.requested():
                    raise _Left(None)
                if self._queue:
                    return self._queue[0]
                if self._closing is not None and (settled or stop.requested()):
                    return None
                self._changed.wait(None if settled else _POLL_S)

    def _apply(self, file: SegmentFile) -> None:
        started = monotonic()
        applied = self._session.apply(file.seq, self._spool.read(file))
        metrics.APPLY_SECONDS.labels(self._label).observe(monotonic() - started)
        metrics.ROWS_APPLIED.labels(self._label).inc(applied.rows)
        metrics.SEGMENTS_APPLIED.labels(self._label).inc()
        metrics.DEAD_LETTERS.labels("apply").inc(applied.dead_letters)
        if applied.repeated:
            self._log.warning("the answer to a commit was lost, the segment is in the target", seq=file.seq)
        with self._changed:
            self._queue.popleft()
            self._backlog_bytes -= file.bytes
            self._waiting.dec(file.bytes)
            self._applied, self._waits_for_parts = file.seq, False
            self._changed.notify_all()

    def _persist(self, what: str, action: Callable[[], T]) -> T:
        """Do it, again and again while it fails for a passing reason. Raises _Left where the flow's end ends that."""
        attempt, since = 0, monotonic()
        while True:
            try:
                return action()
            except WaitForParts as error:
                self._pause(_POLL_S, since, _PARTS_FACTOR * self._close_s, error)
                self._session.settle()
            except TransientError as error:
                attempt += 1
                metrics.APPLY_RETRIES.labels(self._label).inc()
                wait_s = random.uniform(0, min(WAIT_MAX_S, FIRST_S * 2 ** min(attempt, 16)))
                self._log.warning("retry", what=what, attempt=attempt, wait_s=round(wait_s, 2), error=str(error))
                self._session.close()
                self._pause(wait_s, since, self._close_s, error)

    def _pause(self, wait_s: float, since: float, close_s: float, error: TransientError) -> None:
        """Wait before the next try; shorter, and not for ever, once the flow ends."""
        with self._changed:
            if self._waits_for_parts != isinstance(error, WaitForParts):
                self._waits_for_parts = not self._waits_for_parts
                self._changed.notify_all()
            if self._closing is None:
                self._changed.wait_for(lambda: self._closing is not None, wait_s)
                return
            ending_since = max(self._closing, since)
        if stop.requested() or monotonic() - ending_since > close_s:
            raise _Left(error)
        sleep(min(wait_s, 1.0))

    def _leave(self, left: _Left) -> None:
        with self._changed:
            count = len(self._queue)
        self._log.warning("ended before the target had all segments; the next start applies them", segments=count)
        if not stop.requested():
            self._error = TransientError(
                f"the target did not answer while the flow ended ({left.error}); {count} segments left"
            )

    def _fail(self, error: BaseException) -> None:
        with suppress(Exception):  # a log that cannot be written (a full disk) must not keep the flow from ending
            self._log.error("the applier stops the flow", error=str(error), exc_info=error)
        with self._changed:
            self._error = error
            self._changed.notify_all()
        with suppress(Exception):  # the first error counts
            self._session.close()
        if not self._noticed.wait(self._notice_s):
            with suppress(Exception):
                self._log.error("no batch came to report the applier's error: the process ends", exit_code=EXIT_CODE)
            self._exit_process(EXIT_CODE)


class _Left(Exception):
    """The tries end because the flow ends; what is not applied stays in the spool."""

    def __init__(self, error: TransientError | None) -> None:
        self.error = error
        super().__init__(str(error))

"""One source that fails does not stop the others: each partition of a pipeline with several sources behind a guard.

A TransientError is waited out inside the source. Any other error of ours ends its source: its partitions bring nothing
more and keep their positions, the failure is logged, counted, and written to run/source-NAME.json, where every process
of the flow sees it. At the next start it is tried again. Where all sources have ended so, the flow ends with the error.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog
from bytewax.inputs import StatefulSourcePartition

from connectors.base import json_file, stop
from connectors.base.items import Item
from connectors.base.metrics import SOURCE_FAILED, SOURCE_FAILURES
from connectors.base.source import Pacing
from libcore.errors import ConfigurationError, FatalError, HeadraceError, TransientError

_LOOK_S = 1.0
_RETRY_S_MIN, _RETRY_S_MAX = 0.5, 30.0
_log = structlog.get_logger()


class Failures:
    """Which sources of a pipeline have failed, in this process or in another of its processes.

    Args:
        names: all sources. directory: the state directory's run/; None: this process only.
        now: a clock that only rises, in seconds.
    """

    def __init__(
        self, names: Collection[str], directory: Path | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._names, self._directory, self._now = tuple(names), directory, now
        self._failed: dict[str, str] = {}
        self._begun: set[str] = set()
        self._looked_at = float("-inf")
        for name in self._names:
            SOURCE_FAILED.labels(name).set(0)

    def forget(self) -> None:
        """A new start: every source is tried again."""
        self._failed.clear()
        for name in self._names:
            SOURCE_FAILED.labels(name).set(0)
            if self._directory is not None:
                failure_path(self._directory, name).unlink(missing_ok=True)

    def add(self, name: str, error: HeadraceError) -> None:
        """The source has failed."""
        text = f"{type(error).__name__}: {error}"
        _log.error("source stopped, the others go on", source=name, error=text)
        SOURCE_FAILURES.labels(name).inc()
        self._see(name, text)
        if self._directory is not None:
            about = {"source": name, "error": text, "at": time.time()}
            with suppress(OSError):  # a full disk: this process knows it all the same
                json_file.write(failure_path(self._directory, name), about)

    def begun(self, name: str) -> bool:
        """Whether the source has ever brought anything: before, a configuration error refuses the start."""
        if name not in self._begun and self._directory is not None and self._begun_path(name).exists():
            self._begun.add(name)
        return name in self._begun

    def begin(self, name: str) -> None:
        """The source has brought something."""
        if name not in self._begun:
            self._begun.add(name)
            if self._directory is not None:
                with suppress(OSError):  # it is noted again at the next start
                    self._begun_path(name).touch()

    def _begun_path(self, name: str) -> Path:
        assert self._directory is not None
        return self._directory / f"source-{name}.begun"

    def failed(self, name: str) -> bool:
        """Whether the source has failed."""
        self._look()
        return name in self._failed

    def all_failed(self) -> str | None:
        """Every failure as one text where no source is left, else None."""
        self._look()
        if len(self._failed) < len(self._names):
            return None
        return "; ".join(f"source {name}: {self._failed[name]}" for name in self._names)

    def _look(self) -> None:
        if self._directory is None or self._now() - self._looked_at < _LOOK_S:
            return
        self._looked_at = self._now()
        for name in self._names:
            if name not in self._failed:
                with suppress(OSError, ValueError):
                    self._see(name, json.loads(failure_path(self._directory, name).read_text("utf-8"))["error"])

    def _see(self, name: str, text: str) -> None:
        self._failed.setdefault(name, text)
        SOURCE_FAILED.labels(name).set(1)


def failure_path(run: Path, name: str) -> Path:
    """Where a source's failure is written."""
    return run / f"source-{name}.json"


class Isolated(StatefulSourcePartition[Item, Any]):
    """One partition of one of several sources.

    Args:
        source: its source's name. part: its name in the flow.
        build: makes it from a state.
        state: its recovery state; None: it begins.
        probe: asks whether the source answers, in a thread; raises TransientError where it does not.
        failures: of the flow.
        until_end: a run to the data's end fails as a whole.
        shown: an item as the flow shall see it.
    """

    def __init__(
        self,
        source: str,
        part: str,
        build: Callable[[Any], Any],
        state: Any,
        probe: Callable[[], None],
        failures: Failures,
        *,
        until_end: bool,
        shown: Callable[[Item], Item],
    ) -> None:
        self._source, self._part, self._build, self._probe = source, part, build, probe
        self._state, self._failures, self._until_end, self._shown = state, failures, until_end, shown
        self._pacing = Pacing(1, partition=part)  # while there is no partition
        self._inner: Any = None
        self._ended = self._closed = False
        self._answers = threading.Event()
        self._leaving = threading.Event()
        self._wait_s = _RETRY_S_MIN
        self._open()

    def next_batch(self) -> list[Item]:
        """Items of one epoch, or none; StopIteration after the end."""
        if not self._ended and self._failures.failed(self._source):
            return self._end()
        if self._inner is None or self._ended:
            return self._without()
        try:
            items = [self._shown(item) for item in self._inner.next_batch()]
            if len(items) > 1:  # more than a Tick
                self._failures.begin(self._source)
            return items
        except TransientError as error:
            inner, self._state = self._inner, self._inner.snapshot()
            self._inner = None
            inner.close()
            self._later(error)
        except HeadraceError as error:
            self._fail(error)
            return self._end()
        return self._pacing.rows([], 0)

    def next_awake(self) -> datetime | None:
        """See Pacing.next_awake."""
        if self._inner is None or self._ended:
            return self._pacing.next_awake()
        awake: datetime | None = self._inner.next_awake()
        return awake

    def snapshot(self) -> Any:
        """The partition's state; that of the last epoch where it waits or has ended."""
        if self._inner is None or self._ended:
            self._pacing.closed()
        else:
            self._state = self._inner.snapshot()
        return self._state

    def close(self) -> None:
        """Ends the partition."""
        self._closed = True
        self._leaving.set()
        if self._inner is not None:
            self._inner.close()

    def _open(self) -> None:
        try:
            self._inner = self._build(self._state)
            self._wait_s = _RETRY_S_MIN
        except TransientError as error:
            self._later(error)
        except HeadraceError as error:
            self._fail(error)
            self._end()

    def _without(self) -> list[Item]:
        if stop.requested():
            return self._pacing.ending()
        if self._ended:
            if (errors := self._failures.all_failed()) is not None:
                raise FatalError(f"every source has failed: {errors}")
        elif self._answers.is_set():
            self._answers.clear()
            self._open()
        return self._pacing.idle()

    def _fail(self, error: HeadraceError) -> None:
        """Note it; raises it where the flow must not start, or end, as if nothing were amiss."""
        if self._until_end or (not self._failures.begun(self._source) and isinstance(error, ConfigurationError)):
            raise named(self._source, error) from None
        self._failures.add(self._source, error)
        if self._failures.all_failed() is not None:
            raise named(self._source, error) from None

    def _end(self) -> list[Item]:
        """Bring nothing more. The rows brought so far need a Tick, and one more in the epoch after."""
        self._ended = True
        if self._inner is not None:
            self._state = self._inner.snapshot()
        return self._pacing.rows([], 0)

    def _later(self, error: TransientError) -> None:
        _log.warning("source does not answer", partition=self._part, error=str(error), again_in_s=self._wait_s)

        def ask() -> None:
            while not self._leaving.wait(self._wait_s):
                self._wait_s = min(_RETRY_S_MAX, self._wait_s * 2)
                try:
                    self._probe()
                except TransientError:
                    continue
                except HeadraceError as error:
                    _log.warning("source answers, but not well", partition=self._part, error=str(error))
                self._answers.set()  # its partition is made again, and says it itself
                return

        threading.Thread(target=ask, name=f"waiting for {self._part}", daemon=True).start()


def named(source: str, error: HeadraceError) -> HeadraceError:
    """The same error, saying which source it is of."""
    text = f"source {source}: {getattr(error, 'message', error)}"
    if isinstance(error, ConfigurationError):
        return ConfigurationError(text, file=error.file, line=error.line)
    return (TransientError if isinstance(error, TransientError) else FatalError)(text)

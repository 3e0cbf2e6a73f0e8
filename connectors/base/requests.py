"""What a person asks a running flow to read again, and what becomes of it, as files in the state directory.

A request is DIRECTORY/requests/ID.json of {"table", "where", "columns"}, which `headrace snapshot` writes. Its answer
is DIRECTORY/run/request-ID.json: once what was read is durable, or at once where it is refused. Until then
request_progress.py tells how far it is. A source keeps those that are open, and the ids of the newest that are done, in
its own state, so a crash goes on in mid-table.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog

from connectors.base import json_file
from connectors.base.columns import AskedTable, refuse_of_whole
from connectors.base.request_progress import RequestProgress, path
from libcore.errors import ConfigurationError

Request = tuple[str, str, str, tuple[Any, ...] | None, tuple[str, ...], int]
"""Id, table, condition ("": every row), the key up to which it is read (None: nothing yet), columns ((): all), and how
many rows that were, where the source counts them."""
_LATER: tuple[Any, ...] = ((), 0)  # in the place of the last fields, which older versions did not keep
_LOOK_S = 1.0  # how often the directory is looked at
_ANSWERS = 100
_log = structlog.get_logger()


class Requests:
    """The requests of one source. Used by one thread.

    Args:
        directory: the source's state directory; None: nobody can ask.
        takes: whether a request is this source's; False leaves it to another one. Raises ConfigurationError with the
            words of a refusal.
    """

    def __init__(self, directory: Path | None, takes: Callable[[Request], bool]) -> None:
        self._directory, self._takes = directory, takes
        self._run = None if directory is None else directory / "run"
        self._look_at = 0.0
        self._found: tuple[Request, ...] = ()
        self._refused: set[str] = set()
        self._progress: dict[str, RequestProgress] = {}

    def joined(
        self, requests: tuple[Request, ...], answered: Collection[str], durable: Collection[str]
    ) -> tuple[Request, ...]:
        """The open requests, and behind them those that came since.

        Args:
            answered: ids that are done. durable: those of them that the recovery store knows; they are answered now.
        """
        if self._directory is not None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_S
            self._found = tuple(self._look(self._directory, durable))
        # one that goes on behind a restart may name a table that the pipeline has lost
        still = tuple(request for request in map(_whole, requests) if self._is_taken(request))
        known = {request[0] for request in requests} | set(answered) | self._refused
        return (*still, *(request for request in self._found if request[0] not in known))

    def begin(self, request: Request, expected: Callable[[], int | None]) -> None:
        """It is read from here on, unless this process has begun it before.

        Args:
            expected: tells how many rows are still to be read, about; None where nobody knows.
        """
        identity, table, *_ = request
        if identity not in self._progress:
            self._progress[identity] = RequestProgress(self._run, identity, table, expected())

    def begin_table(self, request: Request, rows: Callable[[], int | None]) -> None:
        """The same for a source that knows only about how many rows all of a table has, not how many of a condition."""
        _, _, where, _, _, before = request

        def expected() -> int | None:
            found = None if where else rows()
            return None if found is None else max(0, found - before)

        self.begin(request, expected)

    def read(self, request: Request, rows: int) -> None:
        """So many rows more were read of one that has begun, for its answer."""
        self._progress[request[0]].read(rows)

    def refuse(self, request: Request, error: str) -> None:
        """Answer that it cannot be: what nobody can read must not stop the flow, at this start and all later ones."""
        identity, table, *_ = request
        self._refused.add(identity)
        _log.error("request refused", table=table, request=identity, error=error)
        self._answer(identity, {"done": False, "error": error})

    def _is_taken(self, request: Request) -> bool:
        try:
            return request[0] not in self._refused and self._takes(request)
        except ConfigurationError as error:
            self.refuse(request, str(error))
            return False

    def _look(self, directory: Path, durable: Collection[str]) -> Iterator[Request]:
        for file in sorted((directory / "requests").glob("*.json")):
            identity = file.stem
            if identity in durable:
                rows = self._progress[identity].rows if identity in self._progress else 0
                _log.info("table read beside the stream", request=identity, rows=rows)
                self._answer(identity, {"done": True, "rows": rows})
                continue
            try:
                asked: dict[str, Any] = json.loads(file.read_text("utf-8"))
                columns = tuple(str(name) for name in asked.get("columns") or ())
                request: Request = (identity, str(asked["table"]), str(asked.get("where") or ""), None, columns, 0)
            except FileNotFoundError:
                continue  # answered between the two by another process, whose answer stands
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                self.refuse((identity, "", "", None, (), 0), f"expected {{table, where}} as JSON, found {error!r}")
                continue
            if self._is_taken(request):
                yield request

    def _answer(self, identity: str, words: Mapping[str, Any]) -> None:
        assert self._directory is not None and self._run is not None
        self._run.mkdir(parents=True, exist_ok=True)
        json_file.write(self._run / f"request-{identity}.json", words)
        self._progress.pop(identity, None)
        path(self._run, identity).unlink(missing_ok=True)
        (self._directory / "requests" / f"{identity}.json").unlink(missing_ok=True)


def _whole(request: tuple[Any, ...]) -> Request:
    """A request that a state kept, with the fields that it has now."""
    identity, table, where, after, *later = request
    columns, rows = [*later, *_LATER[len(later) :]]
    return identity, table, where, after, columns, rows


def keyed(tables: Mapping[str, AskedTable]) -> Callable[[Request], bool]:
    """What a source takes that reads tables with a key again; which columns there are is seen when it reads them."""

    def takes(request: Request) -> bool:
        _, name, _, _, columns, _ = request
        if name not in tables:
            raise ConfigurationError(f"expected one of {', '.join(sorted(tables))}, found {name!r}")
        if not tables[name].table.key:
            raise ConfigurationError(f"table {name} has no key: its rows would come twice; give it one by `key`")
        refuse_of_whole(name, columns, tables[name].whole)
        return True

    return takes


def without(requests: tuple[Request, ...], request: Request) -> tuple[Request, ...]:
    """The others."""
    return tuple(one for one in requests if one[0] != request[0])


def done(answered: tuple[str, ...], request: Request) -> tuple[str, ...]:
    """The ids of the newest that are done, and of this one."""
    return (*answered, request[0])[-_ANSWERS:]


def behind(
    requests: tuple[Request, ...],
    answered: tuple[str, ...],
    request: Request,
    after: tuple[Any, ...] | None,
    rows: int = 0,
) -> tuple[tuple[Request, ...], tuple[str, ...]]:
    """(open, done) with one read up to a key, so many rows further.

    Args:
        after: (): it begins anew behind a restart; None: it is read to its end.
    """
    others = without(requests, request)
    if after is None:
        return others, done(answered, request)
    identity, table, where, _, columns, before = request
    return ((identity, table, where, after, columns, before + rows if after else 0), *others), answered

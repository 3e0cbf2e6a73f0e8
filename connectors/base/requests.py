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
from connectors.base.request_progress import RequestProgress, path
from libcore.errors import ConfigurationError

Request = tuple[str, str, str, tuple[Any, ...] | None, tuple[str, ...]]
"""Id, table, condition ("": every row), the key up to which it is read (None: nothing yet), columns ((): all)."""
_FIELDS_OF_OLD = 4  # what an older version kept: without columns
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

    def has_begun(self, request: Request) -> bool:
        """Whether this process has begun to read it."""
        return request[0] in self._progress

    def begin(self, request: Request, expected: int | None = None) -> None:
        """It is read from here on; `expected`: rows that are still to be read, about, None where nobody knows."""
        run = None if self._directory is None else self._directory / "run"
        self._progress[request[0]] = RequestProgress(run, request[0], request[1], expected)

    def read(self, request: Request, rows: int) -> None:
        """So many rows more were read of it, for its answer."""
        if not self.has_begun(request):
            self.begin(request)
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
                request: Request = (identity, str(asked["table"]), str(asked.get("where") or ""), None, columns)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self.refuse((identity, "", "", None, ()), f"expected {{table, where}} as JSON, found {error!r}")
                continue
            if self._is_taken(request):
                yield request

    def _answer(self, identity: str, words: Mapping[str, Any]) -> None:
        assert self._directory is not None
        folder = self._directory / "run"
        folder.mkdir(parents=True, exist_ok=True)
        json_file.write(folder / f"request-{identity}.json", words)
        self._progress.pop(identity, None)
        path(folder, identity).unlink(missing_ok=True)
        (self._directory / "requests" / f"{identity}.json").unlink(missing_ok=True)


def _whole(request: tuple[Any, ...]) -> Request:
    """A request that a state kept, with the fields that it has now."""
    identity, table, where, after = request[:_FIELDS_OF_OLD]
    return identity, table, where, after, request[_FIELDS_OF_OLD] if len(request) > _FIELDS_OF_OLD else ()


def keyed(keys: Mapping[str, Collection[str]]) -> Callable[[Request], bool]:
    """What a source takes that reads tables with a key again; `keys`: of each of its tables, as the pipeline has it."""

    def takes(request: Request) -> bool:
        _, name, _, _, columns = request
        if name not in keys:
            raise ConfigurationError(f"expected one of {', '.join(sorted(keys))}, found {name!r}")
        if not keys[name]:
            raise ConfigurationError(f"table {name} has no key: its rows would come twice; give it one by `key`")
        if columns:
            raise ConfigurationError(
                f"table {name}: expected no --column, found {columns[0]!r}: this source reads whole rows again"
            )
        return True

    return takes


def without(requests: tuple[Request, ...], request: Request) -> tuple[Request, ...]:
    """The others."""
    return tuple(one for one in requests if one[0] != request[0])


def done(answered: tuple[str, ...], request: Request) -> tuple[str, ...]:
    """The ids of the newest that are done, and of this one."""
    return (*answered, request[0])[-_ANSWERS:]


def behind(
    requests: tuple[Request, ...], answered: tuple[str, ...], request: Request, after: tuple[Any, ...] | None
) -> tuple[tuple[Request, ...], tuple[str, ...]]:
    """(open, done) with one read up to a key; None: to its end."""
    others = without(requests, request)
    if after is None:
        return others, done(answered, request)
    return ((*request[:3], after, request[4]), *others), answered

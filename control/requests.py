"""What was asked of a running flow and is not done: requests to read a table again, as the flow tells of them.

The files are those of connectors/base/requests.py and request_progress.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from control.live_line import clock
from control.status import RUN
from flows import json_file

_ASKED = "requests"


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """One request.

    Args:
        rows: read by the present process. expected: how many that will be, about; None: nobody knows.
        begun_at: Unix seconds of the first of them; 0 where none is read yet.
    """

    request: str
    table: str
    rows: int = 0
    expected: int | None = None
    begun_at: float = 0.0

    def rate(self, now: float) -> float:
        """Rows a second since it began."""
        return self.rows / (now - self.begun_at) if self.begun_at and now > self.begun_at else 0.0

    def left_seconds(self, now: float) -> float | None:
        """How long it will still take, by the rate so far; None where nobody knows, or more came than was expected."""
        rate = self.rate(now)
        if self.expected is None or self.rows > self.expected or not rate:
            return None
        return (self.expected - self.rows) / rate

    def text(self, now: float) -> str:
        """One line for a person."""
        if not self.begun_at:
            return f"{self.table}: waits for its turn"
        left = self.left_seconds(now)
        ends = "unknown" if left is None else clock(left)
        return f"{self.table}: {self._read()}  {self.rate(now):,.0f} rows/s  ETA {ends}"

    def _read(self) -> str:
        if self.expected is None:
            return f"{self.rows:,} rows"
        if self.rows > self.expected:
            return f"{self.rows:,} rows, about {self.expected:,} were expected"
        return f"{self.rows:,} of about {self.expected:,} rows"


def asked_file(state: Path, identity: str) -> Path:
    """Where a request goes, in the state directory of its source."""
    return state / _ASKED / f"{identity}.json"


def answer_file(state: Path, identity: str) -> Path:
    """Where its answer comes."""
    return state / RUN / f"request-{identity}.json"


def open_request(state: Path, identity: str, table: str) -> OpenRequest:
    """How far one request is."""
    told = json_file.read(state / RUN / f"request-{identity}.progress.json", None)
    if told is None:
        return OpenRequest(identity, table)
    return OpenRequest(identity, table, told["rows"], told["expected"], told["begun_at"])


def open_requests(state: Path) -> list[OpenRequest]:
    """Those of a pipeline that are not answered, of all of its sources."""
    found = []
    for file in sorted([*state.glob(f"{_ASKED}/*.json"), *state.glob(f"sources/*/{_ASKED}/*.json")]):
        try:
            table = str(json.loads(file.read_text("utf-8"))["table"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # answered in between, or what the flow will refuse
        found.append(open_request(file.parent.parent, file.stem, table))
    return found

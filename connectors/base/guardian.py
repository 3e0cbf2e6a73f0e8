"""What a source is spared: how fast its rows are read, and when; the [source.NAME.guardian] section.

The bounds are for reading what is there (snapshots). Changes are read as they come: whoever holds them back keeps the
source from forgetting its log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from datetime import time as TimeOfDay
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from connectors.base.background import Piece
from connectors.base.config import Config

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DIVISOR_MAX = 1024
_WAIT_S = 0.1
_BURST_S = 2.0  # what one turn may read at most, in seconds of the rate
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class BusinessHours(Config):
    """`[source.NAME.guardian.business_hours]`: when the source's own people work with it."""

    begin: TimeOfDay
    """The first minute, such as "07:00"."""
    end: TimeOfDay
    """The first minute after them; before `begin`: of the next day."""
    zone: str
    """Whose clock: a name such as "Europe/Berlin"; there is no default."""
    days: tuple[Day, ...] = Field(default=("mon", "tue", "wed", "thu", "fri"), min_length=1)
    """On which days they begin."""
    snapshots: Literal["outside", "inside"] = "outside"
    """When rows may be read: outside of these hours, or only inside of them."""

    @field_validator("begin", "end", mode="before")
    @classmethod
    def _from_text(cls, written: object) -> object:
        """TOML's own 07:00:00, or "07:00"."""
        try:
            return TimeOfDay.fromisoformat(written) if isinstance(written, str) else written
        except ValueError:
            raise ValueError(f"expected a time of day such as 07:00, found {written!r}") from None

    @field_validator("zone")
    @classmethod
    def _is_known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"expected a time zone such as Europe/Berlin, found {zone!r}") from None
        return zone

    @model_validator(mode="after")
    def _has_a_length(self) -> BusinessHours:
        if self.begin == self.end or self.begin.tzinfo or self.end.tzinfo:
            raise ValueError(f"expected two different times of day without a zone, found {self.begin} and {self.end}")
        return self

    def within(self, unix_seconds: float) -> bool:
        """Whether that moment lies in these hours."""
        moment = datetime.fromtimestamp(unix_seconds, ZoneInfo(self.zone))
        today, clock = moment.weekday(), moment.time()
        if self.begin < self.end:
            return _DAYS[today] in self.days and self.begin <= clock < self.end
        if clock >= self.begin:
            return _DAYS[today] in self.days
        return clock < self.end and _DAYS[today - 1] in self.days

    def allow(self, unix_seconds: float) -> bool:
        """Whether rows may be read at that moment."""
        return self.within(unix_seconds) == (self.snapshots == "inside")


class Guardian(Config):
    """`[source.NAME.guardian]`: bounds that every source that is read directly keeps."""

    rows_per_second_max: int = Field(default=0, ge=0)
    """Rows that snapshots read a second, on average over a few seconds; 0: as fast as they come."""
    business_hours: BusinessHours | None = None
    """When snapshots may be read; default: always."""


class Pace:
    """Holds snapshots to a guardian's bounds. Used by one thread.

    Args:
        unix_seconds, monotonic: the clocks.
    """

    def __init__(
        self,
        guardian: Guardian,
        *,
        unix_seconds: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guardian, self._unix_seconds, self._monotonic = guardian, unix_seconds, monotonic
        self._due = monotonic()
        self.divisor = 1
        """What the size of one query is divided by; doubled where one took too long."""

    @property
    def allowed(self) -> bool:
        """Whether rows may be read now, by the clock."""
        hours = self._guardian.business_hours
        return hours is None or hours.allow(self._unix_seconds())

    def read(self, rows: int) -> None:
        """So many rows were read."""
        rate = self._guardian.rows_per_second_max
        if rate:
            self._due = max(self._due, self._monotonic()) + rows / rate

    def fewer(self, rows: int) -> int:
        """How many rows to ask for where `rows` are best: fewer behind queries that took too long; 1 or more."""
        return max(1, rows // self.divisor)

    def most(self, rows: int) -> int:
        """How many rows one turn may read: `fewer`, and no more than some seconds of the rate; 1 or more."""
        rate, rows = self._guardian.rows_per_second_max, self.fewer(rows)
        return max(1, min(rows, int(rate * _BURST_S))) if rate else rows

    def too_long(self) -> None:
        """A query was given up: the next ones shall be smaller."""
        self.divisor = min(_DIVISOR_MAX, self.divisor * 2)

    @property
    def wait_s(self) -> float:
        """How long to wait before more rows are read."""
        return max(0.0, self._due - self._monotonic())


def hours(pace: Pace) -> Iterator[None]:
    """Nones until rows may be read."""
    while not pace.allowed:
        time.sleep(_WAIT_S)
        yield None


def spent(pace: Pace, rows: int) -> Iterator[None]:
    """So many rows were read: Nones until more may be."""
    pace.read(rows)
    while (wait_s := pace.wait_s) > 0:
        time.sleep(min(_WAIT_S, wait_s))
        yield None


def paced(pieces: Iterator[Piece | None], pace: Pace) -> Iterator[Piece | None]:
    """The pieces, with Nones between them outside of the hours and above the rate."""
    yield from hours(pace)
    for piece in pieces:
        yield piece
        if piece is not None:
            yield from spent(pace, piece.rows)
            yield from hours(pace)

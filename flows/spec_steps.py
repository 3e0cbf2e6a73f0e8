"""`[[step]]` of a pipeline file: joins, windows, groups, computed columns, due dates, in the order they stand in.

A step names tables by their NAME in [tables.NAME], or by the name of an earlier step's result.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainSerializer, model_validator

from connectors.base.secrets import Reference
from flows.spec_base import Duration, Names, Section, duration_text
from flows.spec_rollout import LIBRARY_FUNCTION, CallCandidate, SelectCandidate, TransformCandidate
from flows.spec_transform import Transforms

DurationText = Annotated[Duration, PlainSerializer(duration_text)]
ResultName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$")]


class JoinStep(Section):
    """`join = FACT`: each row of FACT gets columns of the row of another table that its foreign key points at."""

    join: str = Field(min_length=1, description="the table whose rows stay: one result row for each")
    with_: str = Field(alias="with", min_length=1, description="the table that is pointed at, by its key")
    on: dict[str, str] = Field(min_length=1, description="column of `join` -> key column of `with`; all of its key")
    take: Names | dict[str, str] = Field(
        default=(), description="columns of `with` for the result; as a table: column -> name in the result"
    )
    how: Literal["inner", "left"] = Field(
        default="inner", description="a row without partner: left out, or kept with NULLs"
    )
    as_: ResultName | None = Field(default=None, alias="as", description="name of the result; default: that of `join`")

    @property
    def taken(self) -> dict[str, str]:
        """Column of `with` -> column of the result."""
        return dict(self.take) if isinstance(self.take, dict) else {name: name for name in self.take}

    @property
    def result(self) -> str:
        """The result's name."""
        return self.as_ or self.join


class _Aggregates(Section):
    by: Names = Field(default=(), description="columns whose values make a group; none: one group")
    aggregate: dict[str, str] = Field(
        min_length=1,
        description='result column -> "sum(c)", "count(*)", "count(c)", "avg(c)", "min(c)", "max(c)", '
        '"count(distinct c)"',
    )


class GroupStep(_Aggregates):
    """`group = TABLE`: one result row for each group, right after every change."""

    group: str = Field(min_length=1, description="the table that is summed up")
    as_: ResultName = Field(alias="as", description="name of the result")

    @property
    def result(self) -> str:
        """The result's name."""
        return self.as_


class WindowStep(_Aggregates):
    """`window = TABLE`: one result row for each group and stretch of event time."""

    window: str = Field(min_length=1, description="the table that is summed up")
    time: str = Field(min_length=1, description="timestamp column that is the event time")
    size: DurationText | None = Field(default=None, description='length of a window, such as "1h"')
    slide: DurationText | None = Field(default=None, description="windows begin this far apart; default: size")
    gap: DurationText | None = Field(default=None, description="session windows: as long a pause ends one")
    emit: Literal["changes", "final"] = Field(
        default="changes", description="results as rows change, or once, when the watermark passes the window's end"
    )
    allowed_lateness: DurationText | None = Field(
        default=None, description="how long after its end a window still takes rows; default: for ever"
    )
    out_of_order: DurationText = Field(
        default=0, description="event times within a source partition may be this much out of order"
    )
    idle_after: DurationText = Field(
        default=30_000_000, description="a source partition without rows for so long holds no watermark back"
    )
    as_: ResultName = Field(alias="as", description="name of the result")

    @property
    def result(self) -> str:
        """The result's name."""
        return self.as_

    @model_validator(mode="after")
    def _one_kind(self) -> WindowStep:
        if (self.size is None) == (self.gap is None):
            found = "both" if self.size is not None else "none"
            raise ValueError(f"|`size` (and perhaps `slide`) or `gap`, not both|{found}")
        if self.slide is not None and self.size is None:
            raise ValueError("slide|`slide` beside `size` only|`slide` beside `gap`")
        if self.size == 0 or self.slide == 0 or self.gap == 0:
            raise ValueError("|a `size`, `slide` or `gap` above 0|0")
        return self


class SelectStep(Section):
    """`select = { NAME = "expression" }`: computed columns, exact or refused."""

    select: dict[str, str] = Field(min_length=1, description="result column -> SQL expression over the row")
    of: str | None = Field(default=None, description="the table; default: the result of the step before")
    types: dict[str, str] = Field(
        default_factory=dict, description="result column -> exact type; default: what the expression gives"
    )
    drop: Names = Field(default=(), description="columns that are not needed any more")
    as_: ResultName | None = Field(default=None, alias="as", description="name of the result; default: that of `of`")
    candidate: SelectCandidate | None = Field(default=None, description="new expressions, to be rolled out")


class DueStep(Section):
    """`due = TABLE`: a boolean column that turns true when a moment of the row has passed, without a change of it."""

    due: str = Field(min_length=1, description="the table that gets the column")
    at: str = Field(
        min_length=1,
        description="date, timestamp or timestamptz column: a date has passed when its next day begins; NULL: never",
    )
    flag: ResultName = Field(default="is_due", description="name of the boolean column")
    zone: str = Field(default="UTC", min_length=1, description="time zone of dates and of timestamps without one")
    every: DurationText = Field(
        default=60_000_000, description="how often the time is looked at; the shortest of all `due` steps counts"
    )
    as_: ResultName | None = Field(default=None, alias="as", description="name of the result; default: that of `due`")

    @property
    def result(self) -> str:
        """The result's name."""
        return self.as_ or self.due

    @model_validator(mode="after")
    def _moves_on(self) -> DueStep:
        if self.every == 0:
            raise ValueError("every|a duration above 0|0")
        return self


class TransformStep(Section):
    """`transform = { COLUMN = { how = "..." } }`: columns computed by libcore, exact or refused."""

    transform: Transforms
    of: str | None = Field(default=None, description="the table; default: the result of the step before")
    drop: Names = Field(default=(), description="columns that are not needed any more")
    as_: ResultName | None = Field(default=None, alias="as", description="name of the result; default: that of `of`")
    candidate: TransformCandidate | None = Field(default=None, description="new rules, to be rolled out")


MaskHow = Literal["hash", "token", "redact", "null", "month", "year", "bucket", "prefix"]


class MaskSpec(Section):
    """How one column is masked, where more than the kind is to be said."""

    how: MaskHow = Field(description="the kind of mask")
    keep_last: int = Field(default=0, ge=0, description="characters at the end that stay (token, redact)")
    width: int | str | None = Field(default=None, description='bucket: its width, a number such as 1000 or "0.5"')
    characters: int = Field(default=0, ge=0, description="prefix: how many characters stay")
    domain: str | None = Field(
        default=None, min_length=1, description="columns of one domain get equal masks for equal values; default: name"
    )


class MaskCandidate(Section):
    """A `mask` step's new masks, for the same columns, with the step's `key`."""

    mask: dict[str, MaskHow | MaskSpec] = Field(min_length=1, description="column -> kind of mask")


class MaskStep(Section):
    """`mask = { COLUMN = "token" }`: columns that nobody behind this step shall read in clear."""

    mask: dict[str, MaskHow | MaskSpec] = Field(min_length=1, description="column -> kind of mask")
    of: str | None = Field(default=None, description="the table; default: the result of the step before")
    key: Reference | None = Field(default=None, description="reference to the secret of `hash` and `token`: env:NAME")
    as_: ResultName | None = Field(default=None, alias="as", description="name of the result; default: that of `of`")
    candidate: MaskCandidate | None = Field(default=None, description="new masks, to be rolled out")


class CallStep(Section):
    """`call = "LIBRARY:FUNCTION"`: columns computed by a C function of one's own (libcore/user_function.h)."""

    call: str = Field(
        pattern=LIBRARY_FUNCTION,
        description='"libmine.so:my_function"; the library\'s path begins where the pipeline file is',
    )
    of: str | None = Field(default=None, description="the table; default: the result of the step before")
    take: Names = Field(default=(), description="columns that the function gets; default: all of the table")
    gives: dict[str, str] = Field(min_length=1, description="result column -> exact type, as the function gives them")
    drop: Names = Field(default=(), description="columns that are not needed any more")
    as_: ResultName | None = Field(default=None, alias="as", description="name of the result; default: that of `of`")
    on_crash: Literal["stop", "park"] = Field(
        default="stop", description="once the function has crashed: refuse to start, or make dead letters of its rows"
    )
    candidate: CallCandidate | None = Field(default=None, description="a new version of the function, to be rolled out")


RowStep = SelectStep | TransformStep | MaskStep | CallStep
"""Steps that answer each row by itself."""
Step = JoinStep | WindowStep | GroupStep | DueStep | RowStep

"""New versions in a pipeline file: `candidate = {...}` in a `[[step]]`, and `[rollout]`, which says when they serve."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from flows.spec_base import Duration, Names, Section, duration_text
from flows.spec_transform import Transforms

LIBRARY_FUNCTION = r"^[^:]+:[A-Za-z_][A-Za-z0-9_]*$"


class SelectCandidate(Section):
    """A `select` step's new expressions: compared with the present ones, whose results stay the right ones."""

    select: dict[str, str] = Field(min_length=1, description="result column -> new expression, for the same columns")


class CallCandidate(Section):
    """A `call` step's new function: another library, or another function of it."""

    call: str = Field(pattern=LIBRARY_FUNCTION, description='the new version: "libmine-2.so:my_function"')
    take: Names | None = Field(default=None, description="columns that it gets; default: those of the step")


class TransformCandidate(Section):
    """A `transform` step's new rules, for the same columns in the same order."""

    transform: Transforms


class RolloutSpec(Section):
    """`[rollout]`: how candidates are promoted and rolled back."""

    kernels: tuple[Literal["mask", "transform"], ...] = Field(
        default=(), description="steps whose kernels are rolled out themselves, beside their plain reference"
    )
    clean_batches: int = Field(
        default=100,
        ge=1,
        description="batches found equal, in each process, from a stage to the next: 5, 25, 75, 100 %",
    )
    slower_than: float = Field(
        default=2.0, ge=1, description="within a stage it may take so many times the present version's time"
    )
    slower_by: Annotated[Duration, PlainSerializer(duration_text)] = Field(
        default=1_000_000, description="and so much more; beyond that it is rolled back"
    )
    rows_max: int = Field(default=1000, ge=0, le=1_000_000, description="differing rows that are kept, of one batch")
    alone: bool = Field(
        default=False, description="promoted, it serves without being compared: faster, and a difference shows no more"
    )

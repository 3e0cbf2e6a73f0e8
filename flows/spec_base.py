"""What the sections of a pipeline file share: strictness, and the words for names, lists and durations."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Names = tuple[str, ...]
_UNITS_US = {"us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6}
_DURATION = re.compile(r"\s*(\d+)\s*(us|ms|s|m|h|d)\s*")


class Section(BaseModel):
    """A table of the file: no unknown settings, no silent conversions, never changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def parse_duration(value: object) -> object:
    """Microseconds of a text such as "15m" or "1h"; a day is 24 hours. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, str):
        raise ValueError('expected a duration such as "30s", "15m", "1h" or "1d"')
    match = _DURATION.fullmatch(value)
    if not match:
        raise ValueError('expected a duration such as "30s", "15m", "1h" or "1d"')
    return int(match[1]) * _UNITS_US[match[2]]


def duration_text(microseconds: int) -> str:
    """The shortest text that `parse_duration` reads back."""
    unit = next(name for name in reversed(_UNITS_US) if microseconds % _UNITS_US[name] == 0)
    return f"{microseconds // _UNITS_US[unit]}{unit}"


Duration = Annotated[int, BeforeValidator(parse_duration), Field(ge=0)]
"""Microseconds."""

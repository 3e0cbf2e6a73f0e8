"""The rules of a `transform` step in a pipeline file: `RESULT = { how = "...", ... }`."""

from __future__ import annotations

import decimal
import re
from typing import Annotated, Literal

from pydantic import Field

from flows.spec_base import Names, Section

_NUMBER = re.compile(r"-?[0-9]{1,38}(\.[0-9]{1,38})?")


class _TextRule(Section):
    of: str | None = Field(default=None, min_length=1, description="text column; default: the result's own name")
    blanks: Literal["unicode", "ascii"] = Field(default="unicode", description="what counts as a blank")

    def reads(self, name: str) -> Names:
        """The columns that the result `name` is computed from."""
        return (self.of or name,)


class TrimRule(_TextRule):
    """`how = "trim"`: a text without blanks at its ends."""

    how: Literal["trim"]
    side: Literal["left", "right", "both"] = Field(default="both", description="at which end")


class CleanRule(_TextRule):
    """`how = "clean"`: replacements, control characters, blanks, then checks; what does not pass is refused."""

    how: Literal["clean"]
    replace: dict[str, str] = Field(default_factory=dict, description="text -> text, one after the other")
    control: Literal["keep", "remove", "space", "refuse"] = Field(
        default="remove", description="control characters but tab and line ends"
    )
    trim: Literal["none", "left", "right", "both"] = Field(default="both", description="blanks at which end go")
    deny: str = Field(default="", description="characters that no text may have")
    code_page: str | None = Field(default=None, description='code page that texts must fit, such as "cp1252"')
    mojibake: Literal["keep", "refuse"] = Field(
        default="keep", description="texts that look as if they had been read in the wrong code page"
    )


class _NumberRule(Section):
    type: str = Field(description='the result\'s exact type, such as "decimal(18,2)"; what does not fit it is refused')
    rounding: Literal["half_even", "half_up", "down"] = Field(
        default="half_even", description="of the exact result, once; half_up: ties away from zero"
    )


class ArithmeticRule(_NumberRule):
    """`how = "add"`, "subtract", "multiply" or "divide": of two numbers, exactly."""

    how: Literal["add", "subtract", "multiply", "divide"]
    of: tuple[str | int, str | int] = Field(description='columns, or numbers: 100, "1.19"')

    def reads(self, name: str) -> Names:
        """The columns that the result `name` is computed from."""
        return tuple(str(one) for one in self.of if number_of(one) is None)


class OfColumn(Section):
    """`to = { column = "NAME" }`: what to convert to is said by each row."""

    column: str = Field(min_length=1, description="column of the wanted currency or unit")


class _Converted(_NumberRule):
    of: str = Field(min_length=1, description="column of the amount or quantity")
    from_: str = Field(alias="from", min_length=1, description="column of its currency or unit")
    to: str | OfColumn = Field(description='the wanted currency or unit, such as "EUR", or { column = "NAME" }')

    def _read(self, *more: str | None) -> Names:
        to = self.to.column if isinstance(self.to, OfColumn) else None
        return tuple(one for one in (self.of, self.from_, to, *more) if one is not None)


class CurrencyRule(_Converted):
    """`how = "currency"`: an amount in another currency, with the rate as of the row's day."""

    how: Literal["currency"]
    on: str = Field(min_length=1, description="date column: the greatest valid_from that is not after it counts")
    rates: str = Field(
        min_length=1, description="table of from_currency, to_currency, valid_from, rate; .csv or .parquet, read once"
    )
    inverse: bool = Field(default=False, description="where there is no rate, 1 / rate of the other direction")
    via: str | None = Field(default=None, description="where there is none either, two rates over this currency")

    def reads(self, name: str) -> Names:
        """The columns that the result `name` is computed from."""
        return self._read(self.on)


class UnitRule(_Converted):
    """`how = "unit"`: a quantity in another unit of the same dimension."""

    how: Literal["unit"]
    units: str = Field(
        min_length=1, description="table of unit, dimension, numerator, denominator; .csv or .parquet, read once"
    )
    item: str | None = Field(default=None, min_length=1, description="column of the material, for units of its own")

    def reads(self, name: str) -> Names:
        """The columns that the result `name` is computed from."""
        return self._read(self.item)


class DigestRule(Section):
    """`how = "digest"`: 16 bytes that are equal where names and values of the columns are."""

    how: Literal["digest"]
    of: Names = Field(min_length=1, description="the columns that count")

    def reads(self, name: str) -> Names:
        """The columns that the result `name` is computed from."""
        return self.of


TransformRule = Annotated[
    TrimRule | CleanRule | ArithmeticRule | CurrencyRule | UnitRule | DigestRule, Field(discriminator="how")
]
Transforms = Annotated[
    dict[str, Literal["trim"] | TransformRule],
    Field(min_length=1, description='result column -> "trim" or its rule; a later one reads what an earlier one gave'),
]


def rule_of(given: Literal["trim"] | TransformRule) -> TransformRule:
    """The rule in its long form."""
    return TrimRule(how="trim") if isinstance(given, str) else given


def number_of(operand: str | int) -> decimal.Decimal | None:
    """The number that an operand is; None where it is a column's name."""
    return decimal.Decimal(operand) if _NUMBER.fullmatch(str(operand)) else None


def origins(rules: Transforms, column: str) -> frozenset[str]:
    """The columns of the step's table that a column of its result is computed from, over other rules as well."""
    found: dict[str, frozenset[str]] = {}
    for name, given in rules.items():
        parts = (found.get(one, frozenset({one})) for one in rule_of(given).reads(name))
        found[name] = frozenset().union(*parts)
    return found.get(column, frozenset({column}))

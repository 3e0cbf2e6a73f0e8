"""A `mask` step of a pipeline file made ready: its rules with their keys, fitted to the table."""

from __future__ import annotations

import decimal
from collections.abc import Callable

from connectors.base.mask_key import mask_key
from flows.spec_steps import MaskSpec, MaskStep
from libcore.errors import ConfigurationError
from libcore.mask import KEYED, MaskPlan, MaskRule, plan_mask
from libcore.schema import Table


def compile_mask(step: MaskStep, table: Table, name: str) -> MaskPlan:
    """The step's plan for a table. Raises ConfigurationError, also where the secret is not there."""
    rules = {column: _rule(step, column) for column in step.mask}
    return plan_mask(table, rules, name)


def replanned(first: MaskPlan) -> Callable[[Table], MaskPlan]:
    """The plan for a table that gained columns: they stay in clear, as all that the rules do not name."""
    plans: dict[Table, MaskPlan] = {first.source: first}

    def plan(table: Table) -> MaskPlan:
        if table not in plans:
            plans[table] = plan_mask(table, first.rules, first.result.name)
        return plans[table]

    return plan


def _rule(step: MaskStep, column: str) -> MaskRule:
    given = step.mask[column]
    settings = given if isinstance(given, MaskSpec) else MaskSpec(how=given)
    key = b""
    if settings.how in KEYED and step.key is not None:
        key = mask_key(step.key, settings.domain or column)
    return MaskRule(settings.how, settings.keep_last, _width(settings, column), settings.characters, key)


def _width(settings: MaskSpec, column: str) -> decimal.Decimal | None:
    if settings.width is None:
        return None
    try:
        return decimal.Decimal(settings.width)
    except decimal.InvalidOperation as error:
        raise ConfigurationError(f"mask.{column}.width: expected a number, found {settings.width!r}") from error

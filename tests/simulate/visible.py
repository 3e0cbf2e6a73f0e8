"""Whole transactions: each state of the target that could be seen must be one that the source had, in its order."""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulate.ends import Results
from tests.simulate.model import Commit, Row, Scenario, final_rows
from tests.simulate.truth import compared, truth

_Table = tuple[tuple[str, ...], list[Row]]


def wrong(scenario: Scenario, states: Sequence[Results]) -> list[str]:
    """What is wrong with the states, told of the first that is none of the source's."""
    count = 1 + max((event.transaction for event in scenario.events if isinstance(event, Commit)), default=-1)
    had = [_source(scenario, transactions) for transactions in range(count + 1)]
    at, before = 0, None
    for number, state in enumerate(states):
        if state == before:
            continue
        before = state
        fitting = next((n for n in range(at, count + 1) if not _unlike(state, had[n])), None)
        if fitting is None:
            return [f"state {number}, after transaction {at}: {line}" for line in _unlike(state, had[at])]
        expected = truth(scenario, fitting)
        for name in expected:
            if lines := compared(name, state.get(name), expected[name]):
                return [f"state {number}, transaction {fitting}: {line}" for line in lines]
        at = fitting
    lines = _unlike(states[-1] if states else {}, had[count])
    return [f"the last state, after transaction {at} of {count}: {line}" for line in lines]


def _source(scenario: Scenario, transactions: int) -> dict[str, _Table]:
    rows = final_rows(scenario, transactions)
    return {
        topic.table.name: (tuple(column.name for column in topic.table.columns), rows[topic.table.name])
        for topic in scenario.topics
    }


def _unlike(state: Results, source: dict[str, _Table]) -> list[str]:
    """The differences between the copies of the source's tables and what they had."""
    return [line for name, table in source.items() for line in compared(name, state.get(name), table)]

"""A pipeline file that changes over a state directory: what would leave rows out is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flows import changed_steps, topics
from flows.spec import parse
from flows.state.store import Store, open_store
from libcore.errors import ConfigurationError

HEAD = 'name = "p"\n[source.kafka]\nservers = "s:1"\n[sink.null]\n'
TABLES = "[tables.orders]\n[tables.customers]\n"
JOIN = '[[step]]\njoin = "orders"\nwith = "customers"\non = { customer = "id" }\ntake = ["city"]\nas = "sold"\n'
GROUP = '[[step]]\ngroup = "sold"\nby = ["city"]\naggregate = { n = "count(*)" }\nas = "cities"\n'
WINDOW = (
    '[[step]]\nwindow = "orders"\ntime = "at"\nsize = "1h"\naggregate = { n = "count(*)" }\nas = "hours"\n'
    'emit = "final"\nidle_after = "5s"\n'
)
DUE = '[[step]]\ndue = "orders"\nat = "until"\n'
SELECT = '[[step]]\nselect = { twice = "amount * 2" }\nof = "orders"\n'
STEPS = TABLES + JOIN + GROUP


def start(store: Store, text: str, *, durable: bool = True, accepted: bool = False, head: str = HEAD) -> None:
    """A start with this file, and an epoch."""
    pipeline = parse(('changed_steps = "accept"\n' if accepted else "") + head + text, "p.toml")
    bindings = topics.resolve(pipeline, {pipeline.topic(name): 1 for name in pipeline.tables}, "p.toml")
    remembered = changed_steps.checked(pipeline, bindings, store, "p.toml")
    if durable:
        store.remember_steps(json.loads(json.dumps(remembered)))
        store.remember_topics([binding.topic for binding in bindings])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A new state directory."""
    return open_store(tmp_path, "p", "null", 64, 4)


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        (TABLES, STEPS, "step join-sold-customers: expected the steps with which .* found a new one"),
        (STEPS, STEPS.replace('["city"]\nas', '["city", "zip"]\nas'), r"take to be \['city'\].* \['city', 'zip'\]"),
        (STEPS, STEPS.replace('as = "sold"', 'how = "left"\nas = "sold"'), "how to be its default, .* found 'left'"),
        (STEPS, STEPS.replace("customer =", "buyer ="), "step join-sold-customers: expected on to be"),
        (STEPS, STEPS.replace('by = ["city"]\n', ""), "step group-cities: expected by to be"),
        (STEPS, STEPS.replace("orders]", 'orders]\ndrop = ["x"]'), "tables.orders.drop to be its default"),
        (TABLES + WINDOW, TABLES + WINDOW.replace('"1h"', '"2h"'), "step window-hours: expected size to be"),
        (TABLES + WINDOW, TABLES + WINDOW.replace('emit = "final"', 'emit = "changes"'), "step window-hours"),
        (TABLES + DUE, TABLES + DUE.replace("until", "after"), "step due-orders: expected at to be 'until'"),
        (STEPS, TABLES + JOIN, "table sold: .* found it written only now"),
        (STEPS, TABLES, "table customers: .* found it written only now"),
        (STEPS, STEPS.replace("orders]", "orders]\nwrite = true"), "table orders: .* written only now"),
        (TABLES, TABLES + SELECT + 'as = "more"\n', "table more: .* found it written only now"),
    ],
)
def test_what_leaves_rows_out_is_refused(store: Store, before: str, now: str, found: str) -> None:
    """A step that is new or other, or a table that is written only now, is named with what it was, or accepted."""
    start(store, before)
    with pytest.raises(ConfigurationError, match=found):
        start(store, now)
    start(store, before)
    start(store, now, accepted=True)
    start(store, now)
    assert store.steps() is not None


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (STEPS, STEPS),
        ("[tables.other]\n", "[tables.other]\n" + STEPS),
        (TABLES + SELECT, TABLES + SELECT.replace("* 2", "+ amount")),
        (TABLES, TABLES + SELECT),
        (TABLES + WINDOW, TABLES + WINDOW.replace('"5s"', '"9s"') + 'allowed_lateness = "1h"\n'),
        (TABLES + DUE, TABLES + DUE + 'every = "5s"\n'),
        (TABLES, "[tables.orders]\n"),
    ],
)
def test_what_leaves_none_out_is_not(store: Store, before: str, now: str) -> None:
    """The same steps, steps over tables that are new with them, other expressions and other waiting times start."""
    start(store, before)
    start(store, now)
    assert store.topics() >= {"orders"}


def test_a_table_that_comes_back_goes_on(store: Store) -> None:
    """A table that the file left out for a while is written as before."""
    start(store, TABLES)
    start(store, "[tables.orders]\n")
    start(store, TABLES)
    assert set(store.steps()["written"]) == {"orders", "customers"}  # type: ignore[index]


def test_nothing_is_refused_where_nothing_was_read(store: Store) -> None:
    """Until an epoch is durable, the file may change as it likes."""
    start(store, TABLES, durable=False)
    start(store, STEPS, durable=False)
    assert (store.steps(), store.topics()) == (None, frozenset())


def test_a_table_that_joins_a_shared_topic_is_refused(store: Store) -> None:
    """One topic holds all tables: what it told of a table that was not in the file, for a while or yet, is passed."""
    head = HEAD.replace('"s:1"\n', '"s:1"\nformat = "openlogreplicator"\ntopic = "erp"\n')
    tables = [f'[tables.{name}]\nkey = ["id"]\n[tables.{name}.columns]\nid = "int64"\n' for name in ("a", "b")]
    start(store, "".join(tables), head=head)
    start(store, tables[0], head=head)
    with pytest.raises(ConfigurationError, match="table b: expected it in the file since the topic that it shares was"):
        start(store, "".join(tables), head=head)
    start(store, "".join(tables), head=head, accepted=True)
    start(store, "".join(tables), head=head)
    assert store.steps()["sharing"] == ["a", "b"]  # type: ignore[index]


def test_a_table_that_another_slot_brings_is_refused(store: Store) -> None:
    """The target holds rows that were deleted between what the former slot brought and what the new one reads."""
    pipeline = parse('name = "p"\n[source.postgres]\ndsn = "env:ERP"\n[sink.null]\n' + TABLES, "p.toml")
    found = {one.topic: one for one in topics.resolve(pipeline, {"orders": 1, "customers": 1}, "p.toml")}

    def begin(**slots: str) -> None:
        bindings = [replace(found[name], partition=slot) for name, slot in slots.items()]
        store.remember_steps(changed_steps.checked(pipeline, bindings, store, "p.toml"))
        store.remember_topics([one.topic for one in bindings])

    begin(orders="erp", customers="erp_big")
    begin(orders="erp")
    with pytest.raises(ConfigurationError, match=r"table customers: expected erp_big to bring it, .* found erp;"):
        begin(orders="erp", customers="erp")
    begin(orders="erp", customers="erp_big")
    assert store.steps()["partitions"] == {"orders": "erp", "customers": "erp_big"}  # type: ignore[index]

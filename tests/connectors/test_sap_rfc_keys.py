"""The keys that were brought of a table: what a restart finds, whatever was durable."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors.sap.rfc_keys import KeyLog
from connectors.sap.rfc_where import Key

KEYS = st.sets(st.tuples(st.sampled_from("abcde")), max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), KEYS, st.booleans()),
        st.tuples(st.just("compare"), KEYS),
        st.tuples(st.just("durable"), st.integers(0, 3)),  # so many of the comparisons that wait
        st.tuples(st.just("restart"), st.integers(0, 3)),
    ),
    max_size=12,
)


class Model:
    """What was done since each comparison."""

    def __init__(self) -> None:
        self.number, self.durable = 0, 0
        self.events: list[tuple] = []

    def restart(self, known: int) -> None:
        """Comparisons that are not durable did not happen; what they brought stays."""
        self.events = [one for one in self.events if one[0] != "compare" or one[2] <= known]
        self.number = self.durable = known

    def all(self) -> tuple[set[Key], set[Key]]:
        """As KeyLog has it."""
        sure, perhaps = set[Key](), set[Key]()
        for event in self.events:
            if event[0] == "add":
                (sure if event[2] else perhaps).update(event[1])
            elif event[2] <= self.durable:
                sure, perhaps = set(event[1]), set()
        return sure, perhaps - sure


@settings(deadline=None, max_examples=60)  # each syncs its files
@given(STEPS)
@example([("compare", {("a",)}), ("compare", {("b",)}), ("durable", 2), ("add", {("c",)}, True), ("restart", 0)])
@example([("compare", set())] * 10 + [("restart", 3), ("restart", 0)])
def test_keeps_what_it_was_told(steps: list[tuple]) -> None:
    """Whatever comparisons became durable before a restart, the keys are those of the newest, and all added since."""
    with tempfile.TemporaryDirectory() as folder:
        log, model = KeyLog(Path(folder), "T", 0), Model()
        for name, *about in steps:
            if name == "add":
                log.add(about[0], sure=about[1])
                model.events.append((name, *about))
            elif name == "compare":
                model.number += 1
                log.compared(about[0], model.number)
                model.events.append((name, about[0], model.number))
            elif name == "durable":
                model.durable = min(model.number, model.durable + about[0])
                log.durable(model.durable)
            else:
                model.restart(min(model.number, model.durable + about[0]))
                log = KeyLog(Path(folder), "T", model.durable)
            assert log.all() == model.all()


def test_a_line_cut_short(tmp_path: Path) -> None:
    """A crash amid a line costs that line alone, whose rows never went on: what comes next begins a line of its own."""
    KeyLog(tmp_path, "T", 0).add([("a",)])
    with (tmp_path / "keys-T.jsonl").open("a") as file:
        file.write('[["b"], ["')
    log = KeyLog(tmp_path, "T", 0)
    log.add([("c",)])
    assert log.all() == ({("a",), ("c",)}, set())

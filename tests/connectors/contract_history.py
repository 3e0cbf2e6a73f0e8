"""Random histories that every source which is followed must survive: writes, crashes, other settings, tables left out.

`HEADRACE_EXAMPLES=100 pytest tests/connectors -k random_history` tries a hundred times as many.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest

from libcore.errors import ConfigurationError
from tests.connectors.contract_source import Followed, Rows, SourceSystem, some_rows
from tests.examples import TIMES

_STEPS = 24
_KEYS = 160
_SECTION = re.compile(r"^\[tables\.items\]\n(?:(?!\[).*\n)*", re.M)


def without_items(file: Path) -> Path:
    """The pipeline file, with the table `items` left out."""
    text = re.sub(r'"(?:dbo\.)?items", ', "", _SECTION.sub("", file.read_text("utf-8")))
    file.write_text(text, "utf-8")
    return file


class HistoryContract:
    """Whatever happens in whatever order, in the end both sides are equal."""

    deletes: ClassVar = True  # whether the source tells of them

    @pytest.mark.parametrize("seed", range(2 * TIMES))
    def test_a_random_history(self, system: SourceSystem, tmp_path: Path, seed: int) -> None:
        """Rows changed, deleted, under new keys; crashes, other settings, the table left out for a while."""
        random = Random(seed)
        history = _History(system, tmp_path, random, deletes=self.deletes)
        steps = [history.write, history.epochs] * 2 + [history.crash, history.starts, history.leave]
        history.play(random.choices(steps, k=_STEPS))
        assert history.followed.rows() == system.rows()
        assert history.followed.letters == []


class _History:
    def __init__(self, system: SourceSystem, directory: Path, random: Random, *, deletes: bool) -> None:
        self._system, self._random, self._deletes = system, random, deletes
        system.write(some_rows(random, 0, random.choice((1, 30, 150))))
        self.followed = Followed(self._pipeline(), directory / "state")

    def play(self, steps: list[Callable[[], None]]) -> None:
        """The steps, and then epochs until both sides are equal."""
        for step in steps:
            step()
        self.followed.until(lambda: self.followed.rows() == self._system.rows())
        for _ in range(4):  # and stay so
            self.followed.epoch()
        self.followed.close()

    def _pipeline(self) -> Path:
        return self._system.pipeline(batch_rows_max=self._random.choice((10, 40, 1000)))

    def write(self) -> None:
        """A transaction."""
        random, there = self._random, sorted(self._system.rows())
        rows: Rows = some_rows(random, random.randrange(_KEYS), random.choice((1, 4, 40)))
        gone = tuple(random.sample(there, min(len(there), random.choice((0, 0, 2, 20))))) if self._deletes else ()
        if self._deletes and there and random.random() < 0.2:
            key = next(key for key in range(10 * _KEYS) if key not in there)
            rows, gone = some_rows(random, key, 1), (random.choice(there),)
        self._system.write({key: row for key, row in rows.items() if len(rows) == 1 or key not in gone}, gone)

    def epochs(self) -> None:
        """Some epochs."""
        for _ in range(self._random.choice((1, 3, 9))):
            if self.followed.epoch() < 1:
                time.sleep(0.005)

    def crash(self) -> None:
        """A process is lost."""
        self.followed.crash()

    def starts(self) -> None:
        """Ended, and started with other settings."""
        self.followed.close()
        self.followed.follow(self._pipeline())

    def leave(self) -> None:
        """The file does without the table for a while."""
        self.followed.close()
        self.followed.follow(without_items(self._pipeline()))
        try:
            for step in self._random.choices((self.write, self.epochs, self.epochs, self.crash), k=5):
                step()
        except ConfigurationError as error:  # some sources first need to end a large transaction
            if "run with the former ones until it is over" not in str(error):
                raise
        self.starts()

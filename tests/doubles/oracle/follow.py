"""Drives the connector's reader by hand, without threads or waiting, and folds what it brings as a target would."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

from connectors.base.background import Piece, PieceReader
from flows import build, reading
from libcore.errors import TransientError
from tests.fold import Fold

_NOTHING_TIMES = 6  # so often in a row must the reader have nothing: by then its position has followed, too
_STEPS_MAX = 20_000


class _Stepped:
    """Stands where BackgroundPartition does, and only keeps what it was given."""

    def __init__(
        self, name: str, open_reader: Callable[[tuple[Any, ...]], PieceReader], state: tuple[Any, ...], **_: Any
    ) -> None:
        self.open_reader, self.state = open_reader, state


class Follower:
    """A pipeline's source, stepped by hand.

    Args:
        file: the pipeline file. directory: its state directory.
    """

    def __init__(self, file: Path, directory: Path) -> None:
        self._file, self._directory = str(file), directory
        self._base = Fold()  # what is durable
        self._base_state: tuple[Any, ...] | None = None
        self._pieces: list[Piece] = []  # behind it
        self.fold = Fold()
        self.errors: list[str] = []  # that were survived
        self._part: _Stepped | None = None
        self._reader: PieceReader | None = None
        self._steps: Any = None

    def step(self) -> bool:
        """One step of the reader; False where it has nothing for now. A transient error costs the reader."""
        try:
            if self._steps is None:
                self._open()
            piece = next(self._steps)
        except TransientError as error:
            self.errors.append(str(error))
            self._shut()
            return True
        if piece is None:
            return False
        self._pieces.append(piece)
        for item in piece.items:
            self.fold.apply(item)
        return True

    def drain(self) -> None:
        """Steps until nothing more comes; all of it becomes durable."""
        quiet = 0
        for _ in range(_STEPS_MAX):
            count = len(self._pieces)
            nothing = not self.step()
            news = any(piece.items for piece in self._pieces[count:])
            quiet = 0 if news else quiet + nothing
            if quiet == _NOTHING_TIMES:
                self._durable(len(self._pieces))
                return
        raise AssertionError(f"the reader has no end: {self.errors[-3:]}")

    def kill(self, lost: int) -> None:
        """The process dies; of what it brought all but `lost` pieces were durable."""
        self._durable(max(0, len(self._pieces) - lost))
        self._pieces.clear()
        self.fold = deepcopy(self._base)
        self._shut()
        self._part = None

    def close(self) -> None:
        """End the reader."""
        self._shut()

    def _durable(self, count: int) -> None:
        for piece in self._pieces[:count]:
            for item in piece.items:
                self._base.apply(item)
            self._base_state = piece.state
        del self._pieces[:count]
        if self._reader is not None and self._base_state is not None:
            self._reader.durable(self._base_state)

    def _open(self) -> None:
        if self._part is None:
            self._part = self._made()
        state = self._pieces[-1].state if self._pieces else self._base_state
        self._reader = self._part.open_reader(self._part.state if state is None else state)
        self._steps = self._reader.pieces()

    def _made(self) -> _Stepped:
        pipeline = build.load(self._file)
        bindings = reading.bind(pipeline, self._file)
        with patch("connectors.oracle.source.BackgroundPartition", _Stepped):
            source = reading.make_source(
                pipeline, bindings, until_end=False, path=self._file, directory=self._directory
            )
            (name,) = source.list_parts()
            part: Any = source.build_part("source", name, self._base_state)
        return part

    def _shut(self) -> None:
        if self._steps is not None:
            self._steps.close()
        if self._reader is not None:
            self._reader.close()
        self._steps = self._reader = None

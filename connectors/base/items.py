"""What travels on the edges between source, shape and sink: batches of changes, and two control items."""

from __future__ import annotations

from dataclasses import dataclass

from libcore.change import ChangeBatch


@dataclass(frozen=True, slots=True)
class Tick:
    """Wakes every sink part in this epoch, so that each sees that the former epoch is durable."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """All rows of a table go. Stands alone in its source partition's epoch.

    Args:
        table: the source table's name.
        identity: names this truncate for ever ("topic:partition:offset"), so that a replay is recognised.
    """

    table: str
    identity: str


Item = ChangeBatch | Tick | Truncate

"""What travels on the edges between source, shape and sink: batches of changes, and control items."""

from __future__ import annotations

from dataclasses import dataclass, field

from libcore.change import ChangeBatch


@dataclass(frozen=True, slots=True)
class Tick:
    """Wakes every sink part in this epoch, so that each sees that the former epoch is durable.

    Args:
        partition: the source partition whose items of this epoch it ends.
    """

    partition: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Truncate:
    """All rows of a table go. Stands alone in its source partition's epoch.

    Args:
        table: the source table's name.
        identity: names this truncate for ever ("topic:partition:offset"), so that a replay is recognised.
    """

    table: str
    identity: str


@dataclass(frozen=True, slots=True)
class ClearColumn:
    """The column was dropped at the source: what the rows before this item hold in it goes, the rows stay.

    Stands at the head of its source partition's epoch, in front of the first row that came without the column.

    Args:
        table: the source table's name.
        column: the source's name for the column; behind the shape step the target's.
        identity: names this drop for ever ("topic:partition:offset:column"), so that a replay is recognised.
    """

    table: str
    column: str
    identity: str


@dataclass(frozen=True, slots=True)
class Fence:
    """A table's rows go through other sink parts from here on; those in front of it go into the target first.

    Made by the shape step, for all parts, in front of the first rows that go the new way.

    Args:
        table: the table's name in the target's form.
        identity: names this change of way for ever.
        single_part: whether the rows behind it all go through part 0.
    """

    table: str
    identity: str
    single_part: bool


Marker = Truncate | ClearColumn | Fence
"""What all sink parts agree on before they go on: it applies to all rows in front of it and to none behind it."""

Item = ChangeBatch | Tick | Truncate | ClearColumn | Fence

"""Where a change stands in its source's order: 32 bytes that memcmp orders within one source.

    byte  0   4               14                      29       32
          |gen| commit part   | order in transaction  | counter|
          u32   10 bytes BE     15 bytes BE             u24

PostgreSQL: commit lsn, lsn. Oracle: commit scn; thread, rs_id, ssn. SQL Server: commit_lsn; command_id, seqval,
operation. All big endian and right-justified in their part. The generation is raised by an operator's command when
a source was restored or a topic made anew. The counter orders rows that the source gives no position of their own.
"""

from __future__ import annotations

POSITION_BYTES = 32
GENERATION_BYTES, COMMIT_BYTES, ORDER_BYTES, COUNTER_BYTES = 4, 10, 15, 3
FIRST = bytes(POSITION_BYTES)


def make(generation: int, commit: int, order: int, counter: int = 0) -> bytes:
    """A position of 32 bytes. Raises OverflowError where a part does not fit."""
    return (
        generation.to_bytes(GENERATION_BYTES, "big")
        + commit.to_bytes(COMMIT_BYTES, "big")
        + order.to_bytes(ORDER_BYTES, "big")
        + counter.to_bytes(COUNTER_BYTES, "big")
    )


def split(position: bytes) -> tuple[int, int, int, int]:
    """(generation, commit, order, counter) of a position."""
    assert len(position) == POSITION_BYTES, len(position)
    parts = (position[0:4], position[4:14], position[14:29], position[29:32])
    generation, commit, order, counter = (int.from_bytes(part, "big") for part in parts)
    return generation, commit, order, counter


def raised(position: bytes) -> bytes:
    """The next position after one that must be repeated: the same with its counter raised.

    A counter that is full (16,777,215 rows in a row without a position of their own) carries into the order part,
    so that the result is always greater.
    """
    return (int.from_bytes(position, "big") + 1).to_bytes(POSITION_BYTES, "big")

"""The tree of errors: the class decides what happens next.

HeadraceError
+-- ConfigurationError   refuse to start; names file, line, expected, found
+-- TransientError       retry with backoff; the flow waits
+-- DataError            this row becomes a dead letter, its neighbours go on
    +-- RowsError        these rows of a batch do
+-- FatalError           stop and keep the position; a person must act
    +-- CapacityError    a bound was reached (memory, spool); names the setting to raise
    +-- CorruptionError  bytes of ours do not match their checksum or their format
"""

from __future__ import annotations

from collections.abc import Mapping


class HeadraceError(Exception):
    """Base of every error that this product raises on purpose."""


class ConfigurationError(HeadraceError):
    """The pipeline file, the environment or the target does not allow a start.

    Args:
        message: which thing, expected, found, and what helps.
        file: the pipeline file, where one is to blame.
        line: 1-based line in that file.
    """

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None) -> None:
        self.message, self.file, self.line = message, file, line
        where = "" if file is None else f"{file}:{line}: " if line is not None else f"{file}: "
        super().__init__(where + message)


class TransientError(HeadraceError):
    """The other side did not answer, or answered "not now": try again later."""


class DataError(HeadraceError):
    """One row cannot be read or written as it is.

    Args:
        message: one sentence with what was expected and found.
        row: 0-based row in the batch, or -1 where unknown.
        byte_position: 0-based byte in that row's raw value, or -1 where unknown.
    """

    def __init__(self, message: str, *, row: int = -1, byte_position: int = -1) -> None:
        self.message, self.row, self.byte_position = message, row, byte_position
        super().__init__(message)


class RowsError(DataError):
    """Some rows of a batch cannot be read or written as they are; it is known which.

    Args:
        rows: 0-based row in the batch -> one sentence with what was expected and found; at least one.
    """

    def __init__(self, rows: Mapping[int, str]) -> None:
        self.rows = dict(rows)
        first = min(self.rows)
        super().__init__(self.rows[first], row=first)


class FatalError(HeadraceError):
    """Going on could lose or double a row: stop, keep the position."""


class CapacityError(FatalError):
    """A bound on memory or disk is reached; the message names the setting."""


class CorruptionError(FatalError):
    """Bytes written by us do not match their checksum or format."""

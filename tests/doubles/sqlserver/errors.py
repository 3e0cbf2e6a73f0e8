"""Errors that a client sees, under SQL Server's own numbers."""

from __future__ import annotations


class SqlError(Exception):
    """A statement failed: the number a client knows it by, and the text."""

    def __init__(self, number: int, message: str, severity: int = 16) -> None:
        super().__init__(message)
        self.number, self.severity = number, severity


class Cancelled(Exception):
    """The client sent an attention while its statement ran."""

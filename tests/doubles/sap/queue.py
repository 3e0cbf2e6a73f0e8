"""The entity sets of the gateway and their delta queues, by ODP's rules.

A subscription begins with an initial request: the rows of that moment are its first package, its last page names the
token behind it. A token's package is made once, of what changed up to the first time it is asked for: asked for again
it is the same, to the byte. The token that a package names confirms it: what was before is forgotten, and its tokens
are known no more.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Property:
    """One property: its name, Edm type, the other attributes of its EDMX element, and whether it is of the key."""

    name: str
    type: str
    attributes: str = ""
    key: bool = False


class UnknownToken(Exception):
    """A token that was confirmed by a later one, has expired, or was never given."""


@dataclass
class _Subscription:
    """A package that may be asked for again, and the token behind it."""

    token: str  # what the package is asked for with; "" for the initial one
    package: list[Row]
    behind: str
    at: int  # how much of the log the package and all before it hold


@dataclass
class EntitySet:
    """One set: rows by key, a log of what changed, at most one subscription."""

    name: str
    properties: Sequence[Property]
    queued: bool = True
    rows: dict[tuple[Any, ...], Row] = field(default_factory=dict)
    log: list[tuple[str, tuple[Any, ...], Row]] = field(default_factory=list)
    subscription: _Subscription | None = None
    frozen: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """Pages of a load by their first row and the one behind their last, made beforehand for a measure."""
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def key(self) -> tuple[str, ...]:
        """Names of the key's properties."""
        return tuple(one.name for one in self.properties if one.key)

    def write(self, upserts: Sequence[Row], deletes: Sequence[Row] = ()) -> None:
        """Rows that come, and keys that go."""
        self.frozen.clear()
        for row in deletes:
            key = tuple(row[name] for name in self.key)
            if self.rows.pop(key, None) is not None:
                self.log.append(("D", key, {name: row[name] for name in self.key}))
        for row in upserts:
            key = tuple(row[name] for name in self.key)
            self.log.append(("U" if key in self.rows else "C", key, dict(row)))
            self.rows[key] = dict(row)

    def begin(self) -> tuple[list[Row], str]:
        """An initial request with change tracking: (all rows, the token behind them)."""
        package = [_marked(row, "", 0) for row in self.rows.values()]
        self.subscription = _Subscription("", package, self._token(), len(self.log))
        return package, self.subscription.behind

    def changes(self, token: str) -> tuple[list[Row], str]:
        """A token's package, and the token behind it. Raises UnknownToken."""
        former = self.subscription
        if former is None or token not in (former.token, former.behind) or not token:
            raise UnknownToken(token)
        if token == former.behind:
            package = [_marked(row, mode, {"C": 1, "U": 0, "D": -1}[mode]) for mode, _, row in self.log[former.at :]]
            self.subscription = _Subscription(token, package, self._token(), len(self.log))
        assert self.subscription is not None
        return self.subscription.package, self.subscription.behind

    def expire(self) -> None:
        """The queue's retention is over: no token is known any more."""
        self.subscription = None

    def _token(self) -> str:
        return f"D20261121{next(self._numbers):09d}"


def _marked(row: Mapping[str, Any], mode: str, counter: int) -> Row:
    return {**row, "ODQ_CHANGEMODE": mode, "ODQ_ENTITYCNTR": str(counter)}

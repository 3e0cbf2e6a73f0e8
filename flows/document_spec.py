"""`[document]` of a pipeline file: all rows of a source transaction become visible in the target together."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from flows.spec_base import Names, Section
from flows.spec_errors import near
from libcore.errors import ConfigurationError

if TYPE_CHECKING:  # reading a file must not load the engine
    from flows.operators.document import Rules

STEP = "document"
"""Step id, part of the recovery store."""

_NOT_IN_TOPICS = re.compile(r"[^A-Za-z0-9._-]")


class DocumentSpec(Section):
    """Whole transactions, gathered by Debezium's transaction topic (provide.transaction.metadata = true)."""

    transaction_topic: str | None = Field(
        default=None,
        min_length=1,
        description="Debezium's, PREFIX.transaction, of one partition; none where the source is read directly",
    )
    timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=60.0, description="how long the next transaction may stay incomplete"
    )
    on_timeout: Literal["stop", "skip"] = Field(
        default="stop", description="skip: leave the transaction out, its rows become dead letters"
    )
    skip: Names = Field(default=(), description="ids of incomplete transactions that are left out")
    on_bad_row: Literal["stop", "apply"] = Field(
        default="stop", description="a change that cannot be read or written; apply: the others go on without it"
    )
    collections: dict[str, str] = Field(
        default_factory=dict, description="table as the END marks call it -> its topic, where the names do not tell"
    )
    pending_bytes: int = Field(default=512_000_000, ge=1_000_000, description="rows that wait, at most, in bytes")
    generation: int = Field(default=0, ge=0, description="raised by a person when the source was restored")

    @property
    def prefix(self) -> str:
        """What the topics' names begin with, without the dot."""
        return (self.transaction_topic or "").rpartition(".")[0]

    def rules(self, flow: str, topics: Collection[str]) -> Rules:
        """What the step needs. `topics`: those of the pipeline's tables."""
        from flows.operators.document import Rules

        return Rules(
            flow=flow,
            table_of=self.namer(topics),
            timeout_s=self.timeout_s,
            on_timeout=self.on_timeout,
            skip=frozenset(self.skip),
            on_bad_row=self.on_bad_row,
            pending_bytes=self.pending_bytes,
            generation=self.generation,
        )

    def namer(self, topics: Collection[str]) -> Callable[[str], str | None]:
        """The topic of a table as the marks call it, None where the pipeline does not read it.

        PostgreSQL and MySQL: the prefix, a dot and the name; Oracle and SQL Server may put the database in front of it.
        Debezium writes `_` for what a topic's name cannot hold.
        """
        tails = {topic.removeprefix(f"{self.prefix}."): topic for topic in topics}
        known: dict[str, str | None] = {name: topic for name, topic in self.collections.items() if topic in topics}

        def find(collection: str) -> str | None:
            if collection not in known:
                name = _NOT_IN_TOPICS.sub("_", collection)
                fitting = [tail for tail in tails if name == tail or name.endswith(f".{tail}")]
                known[collection] = tails[max(fitting, key=len)] if fitting else None
            return known[collection]

        return find

    def check(self, existing: Mapping[str, int], tables: Mapping[str, str], file: str | None = None) -> None:
        """Refuse what cannot keep transactions whole.

        Args:
            existing: partition count by topic, as the broker says.
            tables: on_truncate by topic of the pipeline's tables.
            file: the pipeline file, for messages.
        Raises: ConfigurationError.
        """
        topic = self.transaction_topic or ""
        count = existing.get(topic)
        if count is None:
            raise ConfigurationError(
                f"document.transaction_topic: expected topic {topic!r} at the broker, found none of that name"
                f"{near(topic, existing)}; the connector writes it with provide.transaction.metadata = true",
                file=file,
            )
        if count != 1:
            raise ConfigurationError(
                f"document.transaction_topic: expected one partition, found {count} of {topic}: the order of "
                "transactions is known in one only; make the topic anew with one partition",
                file=file,
            )
        if topic in tables:
            raise ConfigurationError(f"document.transaction_topic: {topic} is a table of the pipeline, too", file=file)
        if unread := sorted(set(self.collections.values()) - set(tables)):
            raise ConfigurationError(
                f"document.collections: expected topics of the pipeline's tables, found {unread[0]!r}"
                f"{near(unread[0], tables)}",
                file=file,
            )
        self.check_truncates(tables, file)

    def check_truncates(self, tables: Mapping[str, str], file: str | None = None) -> None:
        """Refuse a truncate that is applied. `tables`: see check. Raises ConfigurationError."""
        if emptied := sorted(name for name, on_truncate in tables.items() if on_truncate == "apply"):
            raise ConfigurationError(
                f"tables: on_truncate: expected stop or ignore beside [document], found apply for {emptied[0]}: a "
                "target is emptied in a transaction of its own",
                file=file,
            )

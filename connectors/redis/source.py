"""Redis Streams as tables: one source partition a stream, its order the stream's."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from bytewax.inputs import FixedPartitionedSource

from connectors.base.background import BackgroundPartition
from connectors.base.database import Finding, SourceContext, SourceTable
from connectors.base.items import Item
from connectors.redis.config import RedisConfig
from connectors.redis.doctor import examine
from connectors.redis.entries import debezium, flat, raw
from connectors.redis.reader import StreamReader
from connectors.redis.server import connect, errors, parsed
from libcore.errors import ConfigurationError
from libcore.schema import Table

_ROWS_AT_ONCE = 2000


class RedisChanges:
    """The streams of a server; see connectors.base.database.ChangeSource."""

    def __init__(self, config: RedisConfig, context: SourceContext) -> None:
        default = "headrace_" + re.sub(r"[^A-Za-z0-9_]", "_", context.owner)
        self._config, self._context, self._group = config, context, config.group or default

    def names(self) -> Collection[str]:
        """The server's streams."""
        with errors("list streams"), closing(connect(self._config, "headrace")) as client:
            return sorted({key.decode() for key in client.scan_iter(count=1000, _type="stream")})

    def describe(self, names: Sequence[str]) -> list[SourceTable]:
        """These streams; columns come with the events, or stand in the pipeline file."""
        return [SourceTable(name, Table(name, (), ()), partition=name) for name in names]

    def source(
        self, tables: Sequence[SourceTable], bindings: Mapping[str, Any], *, until_end: bool
    ) -> FixedPartitionedSource[Item, Any]:
        """See ChangeSource.source. Raises ConfigurationError where plain fields have no declared columns."""
        return RedisSource(self._config, self._context, self._group, self._bound(tables, bindings), until_end=until_end)

    def rows(self, tables: Sequence[SourceTable], bindings: Mapping[str, Any]) -> Iterator[Item]:
        """Every entry that the streams still have, beside the group."""
        for name, binding in self._bound(tables, bindings).items():
            decoder = make_decoder(self._context, name, binding)(None)
            message = debezium if self._config.format == "debezium-json" else flat(binding.columns, binding.key)
            with errors(f"stream {name}"), closing(connect(self._config, "headrace")) as client:
                after = "-"
                while found := client.xrange(name, after, "+", _ROWS_AT_ONCE):
                    messages = raw([(parsed(one), list(fields.items())) for one, fields in found], message, name)
                    start = 0
                    while start < len(found):
                        items, consumed = decoder.decode(messages.slice(start))
                        start += consumed
                        yield from items
                    after = f"({found[-1][0].decode()}"

    def doctor(self, tables: Sequence[SourceTable]) -> list[Finding]:
        """See ChangeSource.doctor."""
        with errors("look over the source"), closing(connect(self._config, "headrace")) as client:
            return examine(client, self._group, [table.name for table in tables])

    def drop(self) -> list[str]:
        """Remove the pipeline's group from every stream that has it."""
        dropped = []
        with errors("drop the group"), closing(connect(self._config, "headrace")) as client:
            for name in self.names():
                if any(group["name"].decode() == self._group for group in client.xinfo_groups(name)):
                    client.xgroup_destroy(name, self._group)
                    dropped.append(f"group {self._group} of stream {name}")
        return dropped

    def close(self) -> None:
        """Nothing is held between calls."""

    def _bound(self, tables: Sequence[SourceTable], bindings: Mapping[str, Any]) -> dict[str, Any]:
        bound = {table.name: bindings[table.name] for table in tables}
        if self._config.format == "fields":
            for name, binding in bound.items():
                if binding.columns is None or binding.key is None:
                    raise ConfigurationError(
                        f'stream {name}: expected `columns` and `key` of its table beside format = "fields", found none'
                    )
        return bound


def make_decoder(context: SourceContext, stream: str, binding: Any) -> Any:
    """(the state of a former decoder or None) -> a Debezium decoder."""
    assert context.decoder is not None, "a source needs a decoder"
    return lambda state: context.decoder("debezium-json")(stream, 0, binding, state, flow=context.flow)


class RedisSource(FixedPartitionedSource[Item, tuple[Any, ...]]):
    """Streams as a Bytewax source."""

    def __init__(
        self, config: RedisConfig, context: SourceContext, group: str, bindings: Mapping[str, Any], *, until_end: bool
    ) -> None:
        self._config, self._context, self._group = config, context, group
        self._bindings, self._until_end = bindings, until_end

    def list_parts(self) -> list[str]:
        """The streams' names."""
        return sorted(self._bindings)

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[Any, ...] | None) -> BackgroundPartition:
        """A partition that goes on where `resume_state` says, or begins where the configuration says."""
        binding = self._bindings[for_part]
        open_reader = partial(
            StreamReader,
            self._config,
            for_part,
            self._group,
            make_decoder(self._context, for_part, binding),
            binding,
            until_end=self._until_end,
        )
        return BackgroundPartition(
            self._context.partition(for_part),
            open_reader,
            resume_state or (),
            rows_max=self._config.batch_rows_max,
            queued_bytes_max=self._config.queued_bytes_max,
            poll_s=self._config.poll_s,
            beat_s=1.0 if for_part in self._context.beating else 0.0,
        )

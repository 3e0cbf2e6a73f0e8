"""A table whose columns changed while it is followed: what the pipeline's table is from there on."""

from __future__ import annotations

from typing import Any

from connectors.oracle.catalog import OracleTable, WantedTable, wanted_table
from libcore.errors import FatalError
from libcore.schema import Column, Table


def present(table: Table, found: OracleTable, binding: Any) -> Table:
    """The table of a pipeline that was described earlier, with the columns that there are now.

    Declared columns stay as they are. Raises FatalError where the key lost one.
    """
    there = {column.name: column for column in found.described().table.columns}
    names = [column.name for column in table.columns]
    if missing := [name for name in table.key if name not in there]:
        raise FatalError(f"source.oracle: table {table.name}: expected key column {missing[0]}, found it dropped")
    if binding.columns is not None:
        return table
    kept = [
        column if column.name in table.key else there[column.name] for column in table.columns if column.name in there
    ]
    new = [column for name, column in there.items() if name not in names] if binding.new_column == "add" else []
    return Table(table.name, (*kept, *new), table.key)


def _is_other(column: Column, now: Column | None, before: WantedTable) -> bool:
    """Whether a column that was read by its own type is gone, or has another."""
    own = before.found.by_name[column.name].type
    return now is None or (column.type == own and now.type != own)


def reshaped(before: WantedTable, found: OracleTable, binding: Any) -> WantedTable:
    """The table behind a DDL. Raises FatalError where the pipeline file does not let it go on.

    Args:
        found: as the dictionary has it now.
        binding: what the pipeline file says of the table: declared columns stay as they are.
    """
    name = before.table.name
    there = {column.name: column for column in found.described().table.columns}
    lost = [column.name for column in before.table.columns if column.name not in there]
    if needed := [column for column in lost if column in before.table.key or binding.columns is not None]:
        raise FatalError(
            f"source.oracle: table {name}: expected column {needed[0]}, found it dropped; take it out of the pipeline "
            "file"
        )
    other = [column.name for column in before.table.columns if _is_other(column, there.get(column.name), before)]
    if binding.columns is None and other and not binding.follows:
        raise FatalError(
            f"source.oracle: table {name}: expected column {other[0]} as it was, found it "
            f"{'dropped' if other[0] in lost else 'changed'}; set on_schema_change to follow, or start again"
        )
    known = {column.name for column in before.found.columns}
    new = [column for column in there.values() if column.name not in known]
    if new and before.on_new_column == "refuse":
        raise FatalError(
            f"source.oracle: table {name}: on_new_column refuses column {new[0].name}; set it to add or ignore"
        )
    taken = binding.columns is None and before.on_new_column != "ignore"
    kept = [column for column in before.table.columns if column.name not in lost]
    columns = tuple(
        there[column.name] if binding.columns is None and column.name not in before.table.key else column
        for column in kept
    )
    table = Table(name, (*columns, *(new if taken else [])), before.table.key)
    return wanted_table(table, found, binding)

"""The steps of a pipeline as SQL over whole tables: what their results must be. Used to verify, never to run a flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flows.spec_steps import DueStep, GroupStep, JoinStep, RowStep, SelectStep, WindowStep
from flows.spec_wiring import Node, Wired
from libcore.schema import Table


def relation(node: Node) -> str:
    """The name of a stream's table in the database."""
    return quoted(f"{node.name}#{node.step}")


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def statement(wired: Wired, tables: Mapping[Node, Table], as_of_us: int) -> str:
    """CREATE TABLE for the step's result over the tables of its inputs.

    Args:
        tables: the table of every stream, the result's too.
        as_of_us: the time for `due` steps, in microseconds since 1970.
    """
    step = wired.spec
    if isinstance(step, JoinStep):
        query = _join(step, wired.inputs)
    elif isinstance(step, DueStep):
        query = _due(step, wired.inputs[0], tables, as_of_us)
    else:
        assert not isinstance(step, RowStep), "its rows are computed a batch at a time"
        query = _aggregate(step, relation(wired.inputs[0]))
    return f"CREATE TABLE {relation(wired.output)} AS {query}"


def _join(step: JoinStep, inputs: Sequence[Node]) -> str:
    taken = "".join(f", d.{quoted(there)} AS {quoted(here)}" for there, here in step.taken.items())
    on = " AND ".join(f"f.{quoted(fact)} = d.{quoted(dimension)}" for fact, dimension in step.on.items())
    kind = "LEFT JOIN" if step.how == "left" else "JOIN"
    return f"SELECT f.*{taken} FROM {relation(inputs[0])} f {kind} {relation(inputs[1])} d ON {on}"


def select(wired: Wired, tables: Mapping[Node, Table], source: str) -> str:
    """The rows of a select step's result over those of `source`; fails where one of them has no answer."""
    from flows.operators.select import sql_type

    step = wired.spec
    assert isinstance(step, SelectStep)
    types = {column.name: column.type for column in tables[wired.output].columns}
    computed = [f"CAST({text} AS {sql_type(types[name])}) AS {quoted(name)}" for name, text in step.select.items()]
    gone = [*step.drop, *step.select]
    kept = [quoted(c.name) for c in tables[wired.inputs[0]].columns if c.name not in gone]
    return f"SELECT {', '.join([*kept, *computed])} FROM {source}"


def _due(step: DueStep, source: Node, tables: Mapping[Node, Table], as_of_us: int) -> str:
    """DuckDB's time zones agree with the step's: the later instant where clocks go back."""
    at, zone = quoted(step.at), "'" + step.zone.replace("'", "''") + "'"
    kind = tables[source].column(step.at).type.name
    if kind == "timestamptz":
        moment = at
    elif kind == "date":
        moment = f"timezone({zone}, CAST({at} AS TIMESTAMP) + INTERVAL 1 DAY)"
    else:
        moment = f"timezone({zone}, CAST({at} AS TIMESTAMP))"
    passed = f"coalesce({moment} <= make_timestamptz({as_of_us}), false)"
    return f"SELECT *, {passed} AS {quoted(step.flag)} FROM {relation(source)}"


def _aggregate(step: GroupStep | WindowStep, source: str) -> str:
    """Averages come as a sum and a count, since SQL's own would be a float: `average` puts them together."""
    groups = [quoted(name) for name in step.by]
    shown = list(groups)
    if isinstance(step, WindowStep):
        source = f"({_assigned(step, source)})"
        groups += ["start_us", "end_us"]
        shown += ["make_timestamp(start_us) AS window_start", "make_timestamp(end_us) AS window_end"]
    for name, text in step.aggregate.items():
        if text.replace(" ", "").lower().startswith("avg("):
            inner = text[text.index("(") + 1 : text.rindex(")")].split(",")[0]
            shown += [f"sum({inner}) AS {quoted(name + '#sum')}", f"count({inner}) AS {quoted(name + '#count')}"]
        else:
            shown.append(f"{text} AS {quoted(name)}")
    grouped = f" GROUP BY {', '.join(groups)}" if groups else " HAVING count(*) > 0"
    return f"SELECT {', '.join(shown)} FROM {source}{grouped}"


def _assigned(step: WindowStep, source: str) -> str:
    """The rows with the start and end of each window that they are in; rows without a time are in none."""
    at = f"epoch_us({quoted(step.time)})"
    timed = f"SELECT *, {at} AS at_us FROM {source} WHERE {quoted(step.time)} IS NOT NULL"
    if step.gap is not None:
        partition = f"PARTITION BY {', '.join(quoted(name) for name in step.by)}" if step.by else ""
        before = f"lag(at_us) OVER ({partition} ORDER BY at_us)"
        starts = f"SELECT *, {before} IS NULL OR at_us - {before} >= {step.gap} AS opens FROM ({timed})"
        running = f"OVER ({partition} ORDER BY at_us, opens DESC ROWS UNBOUNDED PRECEDING)"
        numbered = f"SELECT *, sum(opens::INT) {running} AS session_number FROM ({starts})"
        session = ", ".join([*(quoted(name) for name in step.by), "session_number"])
        bounds = f"min(at_us) OVER (PARTITION BY {session}) AS start_us, max(at_us) OVER (PARTITION BY {session})"
        return f"SELECT *, {bounds} + {step.gap} AS end_us FROM ({numbered})"
    assert step.size is not None
    slide = step.slide or step.size
    floor = f"(at_us - ((at_us % {slide}) + {slide}) % {slide})"
    spread = f"SELECT *, {floor} - unnest(range(0, {step.size}, {slide})) AS start_us FROM ({timed})"
    return f"SELECT *, start_us + {step.size} AS end_us FROM ({spread}) WHERE start_us + {step.size} > at_us"


def is_average(wired: Wired, column: str) -> bool:
    """Whether a column of the result is an average, which the statement gives as two columns."""
    text = getattr(wired.spec, "aggregate", {}).get(column, "")
    return text.replace(" ", "").lower().startswith("avg(")

"""T-SQL queries as SQLite runs them: names resolved, functions replaced, and the SQL Server type of each column told.

Nothing is matched by its text: a query is a tree, in which every column, parameter and function is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from sqlglot import exp

from tests.doubles.sqlserver.answers import Field
from tests.doubles.sqlserver.catalog import Relation
from tests.doubles.sqlserver.dialect import plain_name, table_name
from tests.doubles.sqlserver.errors import SqlError
from tests.doubles.sqlserver.signatures import CHANGES_ROWS, FUNCTIONS, NODES, changes_function, tracking_function
from tests.doubles.sqlserver.types import SqlType, from_tree, parse_type

_INT, _TEXT = SqlType("int"), parse_type("nvarchar(4000)")
_WRAPPERS = (exp.TimeStrToTime, exp.TsOrDsToTimestamp, exp.TsOrDsToDate)
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)


@dataclass
class Scope:
    """The sources of a SELECT by their aliases, and those around it."""

    parent: Scope | None = None
    sources: dict[str, list[Field]] = field(default_factory=dict)
    aliases: dict[str, SqlType] = field(default_factory=dict)

    def find(self, name: str, source: str) -> tuple[str, Field] | None:
        """A column and the alias it belongs to."""
        for alias, fields in self.sources.items():
            if source.lower() in ("", alias):
                for one in fields:
                    if one.name.lower() == name.lower():
                        return alias, one
        return self.parent.find(name, source) if self.parent else None


class Compiler:
    """Rewrites one statement.

    Args:
        relations: all tables by name. variables: the types of @parameters, without the @.
        need: told of each table that is used and the permission that this takes; raises where there is none.
    Attributes:
        checks: queries whose row must be 1 before the statement runs, each with the error that is raised otherwise.
    """

    def __init__(
        self,
        relations: Mapping[str, Relation],
        variables: Mapping[str, SqlType],
        need: Callable[[str, Relation], None],
    ) -> None:
        self._relations, self._variables, self._need = relations, variables, need
        self._common: dict[str, list[Field]] = {}
        self.checks: list[tuple[str, SqlError]] = []

    # ---- queries

    def query(self, tree: exp.Expression, parent: Scope | None = None, *, encoded: bool = True) -> list[Field]:
        """Rewrite a query in place. Returns its columns; those that stay as change tables keep them are `encoded`."""
        for common in tree.args["with_"].expressions if tree.args.get("with_") else []:
            self._common[common.alias.lower()] = self._renamed(common, self.query(common.this, parent))
        if isinstance(tree, exp.Subquery):
            return self.query(tree.this, parent, encoded=encoded)
        if isinstance(tree, exp.SetOperation):
            fields = self.query(tree.this, parent, encoded=False)
            self.query(tree.expression, parent, encoded=False)
            self._rest(tree, Scope(parent, {"": fields}), ("order", "limit", "offset"))
            return fields
        if isinstance(tree, exp.Select):
            return self._select(tree, parent, encoded)
        raise SqlError(102, f"Incorrect syntax, or unknown to the double: {type(tree).__name__}")

    def _renamed(self, tree: exp.Expression, fields: list[Field]) -> list[Field]:
        names = [column.name for column in tree.args["alias"].columns] if tree.args.get("alias") else []
        return [replace(one, name=name) for one, name in zip(fields, names, strict=True)] if names else fields

    def _select(self, tree: exp.Select, parent: Scope | None, encoded: bool) -> list[Field]:
        scope = Scope(parent)
        sources = [tree.args["from_"].this] if tree.args.get("from_") else []
        sources += [join.this for join in tree.args.get("joins") or []]
        for source in sources:
            self._source(source, scope)
        for join in tree.args.get("joins") or []:
            if join.args.get("on"):
                self.kind(join.args["on"], scope)
        tree.set("expressions", list(self._without_stars(tree, scope)))
        fields = [self._projected(projection, scope, encoded) for projection in tree.expressions]
        scope.aliases = {one.name.lower(): one.kind for one in fields}
        self._rest(tree, scope, ("where", "group", "having", "order", "limit", "offset"))
        return fields

    def _rest(self, tree: exp.Expression, scope: Scope, parts: tuple[str, ...]) -> None:
        for part in parts:
            if tree.args.get(part):
                self.kind(tree.args[part], scope)

    def _projected(self, projection: exp.Expression, scope: Scope, encoded: bool) -> Field:
        inner = projection.this if isinstance(projection, exp.Alias) else projection
        name = projection.alias_or_name if isinstance(inner, exp.Column) or inner is not projection else ""
        if isinstance(inner, exp.Column):
            found = self._resolve(inner, scope)
            if found is not None:
                if found.encoded and not encoded:
                    inner.replace(_decoded(inner, found.kind))
                return Field(name, found.kind, found.encoded and encoded, found.nullable)
        return Field(name, self.kind(inner, scope))

    def _without_stars(self, tree: exp.Select, scope: Scope) -> Iterator[exp.Expression]:
        for projection in tree.expressions:
            star = isinstance(projection, exp.Star)
            if not star and not (isinstance(projection, exp.Column) and isinstance(projection.this, exp.Star)):
                yield projection
                continue
            for alias, fields in scope.sources.items():
                if star or projection.table.lower() == alias:
                    for one in fields:
                        yield exp.column(one.name, table=alias, quoted=True)

    # ---- sources

    def _source(self, node: exp.Expression, scope: Scope) -> None:
        if isinstance(node, exp.Subquery):
            scope.sources[node.alias.lower()] = self._renamed(node, self.query(node.this, scope.parent))
        elif isinstance(node, exp.Table) and isinstance(node.this, exp.Func):
            self._function_source(node, scope)
        elif isinstance(node, exp.Table):
            self._table_source(node, scope)
        else:
            raise SqlError(102, f"Unknown to the double in FROM: {type(node).__name__}")

    def _table_source(self, node: exp.Table, scope: Scope) -> None:
        alias = (node.alias or node.name).lower()
        if not node.db and node.name.lower() in self._common:
            scope.sources[alias] = self._common[node.name.lower()]
            return
        relation = self.relation(node)
        scope.sources[alias] = [
            Field(column.name, column.kind, column.encoded, column.nullable) for column in relation.columns
        ]
        node.replace(exp.to_table(f'"{relation.name}"', dialect="sqlite", alias=exp.to_identifier(alias, quoted=True)))

    def relation(self, node: exp.Table, permission: str = "SELECT") -> Relation:
        """The table a name stands for. Raises SqlError 208, 229."""
        name = table_name(node)
        found = self._relations.get(name.lower()) or self._relations.get(f"{node.catalog}.{name}".lower())
        if found is None:
            raise SqlError(208, f"Invalid object name '{name}'.")
        self._need(permission, found)
        return found

    def _function_source(self, node: exp.Table, scope: Scope) -> None:
        arguments = list(node.this.expressions)
        for argument in arguments:
            self.kind(argument, scope)
        texts = [argument.sql("sqlite") for argument in node.this.expressions]
        name = node.this.name.lower()
        if name == "generate_series":
            query, columns = CHANGES_ROWS.format(*texts), [Field("value", SqlType("bigint"))]
        elif name == "changetable":
            relation = self._named(arguments[0].name)
            self._need("VIEW CHANGE TRACKING", relation)
            query, columns = tracking_function(relation, texts[1])
        else:
            query, columns, check = changes_function(name, self._relations, texts)
            self.checks.append(check)
        alias = node.alias or name
        scope.sources[alias.lower()] = columns
        node.replace(exp.Var(this=f'({query}) AS "{alias}"'))

    def _named(self, name: str) -> Relation:
        found = self._relations.get(plain_name(name).lower())
        if found is None:
            raise SqlError(208, f"Invalid object name '{name}'.")
        return found

    # ---- expressions

    def _resolve(self, node: exp.Column, scope: Scope) -> Field | None:
        if isinstance(node.this, exp.Star):
            return None
        found = scope.find(node.name, node.table)
        if found is None:
            if not node.table and node.name.lower() in scope.aliases:
                return Field(node.name, scope.aliases[node.name.lower()])
            raise SqlError(207, f"Invalid column name '{node.name}'.")
        alias, one = found
        table = exp.to_identifier(alias, quoted=True) if alias else None
        node.replace(renamed := exp.Column(this=exp.to_identifier(one.name, quoted=True), table=table))
        self._last = renamed
        return one

    def kind(self, node: exp.Expression, scope: Scope) -> SqlType:
        """Rewrite an expression in place. Returns its type."""
        if isinstance(node, exp.Column):
            found = self._resolve(node, scope)
            if found is not None and found.encoded:
                self._last.replace(_decoded(self._last, found.kind))
            return found.kind if found else _INT
        if isinstance(node, exp.Query):
            return self.query(node, scope, encoded=False)[0].kind
        for kinds, visit in _VISITS:
            if isinstance(node, kinds):
                return visit(self, node, scope)
        return self._any(node, scope)

    def _children(self, node: exp.Expression, scope: Scope) -> list[SqlType]:
        return [self.kind(child, scope) for child in list(node.iter_expressions())]

    def _any(self, node: exp.Expression, scope: Scope) -> SqlType:
        name = NODES.get(type(node))
        if name or isinstance(node, exp.Anonymous):
            return self._function(node, name or node.name.lower(), scope)
        kinds = self._children(node, scope)
        return kinds[0] if kinds else _TEXT

    def _literal(self, node: exp.Expression, scope: Scope) -> SqlType:
        if isinstance(node, exp.HexString):
            return SqlType("varbinary", max(1, len(node.name) // 2))
        if node.args.get("is_string") or isinstance(node, exp.National):
            node.replace(exp.Literal.string(node.name))
            return SqlType("nvarchar", max(1, len(node.name.encode("utf-16-le", "surrogatepass")) // 2))
        if node.name.isdigit():
            return SqlType("int" if int(node.name) < 1 << 31 else "bigint")
        if "e" in node.name.lower():
            return SqlType("float")
        whole, _, fraction = node.name.partition(".")
        node.replace(exp.Literal.string(node.name))
        return SqlType("decimal", 0, len(whole) + len(fraction), len(fraction))

    def _parameter(self, node: exp.Expression, scope: Scope) -> SqlType:
        inner = node.this
        name = f"@{inner.name}" if isinstance(inner, exp.Parameter) else inner.name
        name = name.lower()
        if name not in self._variables:
            raise SqlError(137, f'Must declare the scalar variable "@{name}".')
        node.replace(exp.Placeholder(this=name.replace("@", "system_")))
        return self._variables[name]

    def _converted(self, node: exp.Expression, scope: Scope) -> SqlType:
        convert = isinstance(node, exp.Convert)
        target = from_tree(node.this if convert else node.args["to"])
        declared = (node.this if convert else node.args["to"]).expressions
        if not declared and target.name in ("char", "varchar", "nchar", "nvarchar", "binary", "varbinary"):
            target = SqlType(target.name, 30)
        inner = node.expression if convert else node.this
        while isinstance(inner, _WRAPPERS):
            inner = inner.this
        style = node.args.get("style")
        holder = exp.Paren(this=inner)
        source = self.kind(holder.this, scope)
        texts = [holder.this.sql("sqlite"), f"'{source}'", f"'{target}'", style.name if style else "0"]
        node.replace(exp.Var(this=f"tds_convert({', '.join(texts)})"))
        return target

    def _negated(self, node: exp.Expression, scope: Scope) -> SqlType:
        kind = self._children(node, scope)[0]
        if kind.family == "decimal":  # a text, of which SQLite would make a float
            node.replace(exp.Var(this=f"tds_arithmetic('-', '0', {node.this.sql('sqlite')})"))
        return kind

    def _arithmetic(self, node: exp.Binary, scope: Scope) -> SqlType:
        left, right = self.kind(node.left, scope), self.kind(node.right, scope)
        if isinstance(node, exp.Add) and "text" in (left.family, right.family):
            node.replace(exp.DPipe(this=node.left, expression=node.right))
            return SqlType("nvarchar", 4000)
        if "decimal" in (left.family, right.family):
            sign = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}.get(type(node), "/")
            texts = [node.left.sql("sqlite"), node.right.sql("sqlite")]
            scale = left.scale + right.scale if sign == "*" else max(left.scale, right.scale, 6 if sign == "/" else 0)
            target = SqlType("decimal", 0, 38, scale)
            text = f"tds_convert(tds_arithmetic('{sign}', {', '.join(texts)}), 'varchar(99)', '{target}', 0)"
            node.replace(exp.Var(this=text))
            return target
        return left if left.bytes >= right.bytes else right

    def _compared(self, node: exp.Binary, scope: Scope) -> SqlType:
        sides = [(side, self.kind(node.args[side], scope)) for side in ("this", "expression")]
        families = {kind.family for _, kind in sides}
        for side, kind in sides:
            if "decimal" in families and kind.family in ("int", "float"):
                text = f"tds_convert({node.args[side].sql('sqlite')}, '{kind}', 'decimal(38,10)', 0)"
                node.set(side, exp.Var(this=text))
        return SqlType("bit")

    def _counted(self, node: exp.Expression, scope: Scope) -> SqlType:
        self._children(node, scope)
        return SqlType("bigint" if node.args.get("big_int") else "int")

    def _chosen(self, node: exp.Expression, scope: Scope) -> SqlType:
        """CASE, IIF, COALESCE: the type of the first choice that is not NULL itself."""
        if isinstance(node, exp.Coalesce):
            choices = [node.this, *node.expressions]
        elif isinstance(node, exp.Case):
            choices = [one.args["true"] for one in node.args["ifs"]] + [node.args.get("default") or exp.Null()]
        else:
            choices = [node.args["true"], node.args.get("false") or exp.Null()]
        missing = [isinstance(choice, exp.Null) for choice in choices]
        marks = [id(choice) for choice in choices]
        kinds: dict[int, SqlType] = {}
        for part in list(node.iter_expressions()):
            if isinstance(part, exp.If):
                self.kind(part.this, scope)
                mark = id(part.args["true"])
                kinds[mark] = self.kind(part.args["true"], scope)
            else:
                mark = id(part)
                kinds[mark] = self.kind(part, scope)
        found = [kinds[mark] for mark, null in zip(marks, missing, strict=True) if not null and mark in kinds]
        return found[0] if found else _INT

    def _dotted(self, node: exp.Expression, scope: Scope) -> SqlType:
        called = node.expression
        if called.name.lower() == "tostring":
            column = exp.Paren(this=exp.column(node.this.name) if isinstance(node.this, exp.Identifier) else node.this)
            source = self.kind(column.this, scope)
            node.replace(exp.Var(this=f"tds_convert({column.this.sql('sqlite')}, '{source}', 'nvarchar(4000)', 0)"))
            return _TEXT
        node.replace(called)
        return self.kind(called, scope)

    def _function(self, node: exp.Expression, name: str, scope: Scope) -> SqlType:
        if name not in FUNCTIONS:
            raise SqlError(195, f"'{name}' is not a recognized built-in function name.")
        template, result = FUNCTIONS[name]
        if name.startswith("date"):
            arguments = [node.args["unit"], node.args["expression"], node.this]
        else:
            arguments = list(node.iter_expressions())
        kinds, texts = [], []
        for argument in arguments:
            while isinstance(argument, (*_WRAPPERS, exp.Cast)) and not isinstance(node, exp.Anonymous):
                argument = argument.this
            holder = exp.Paren(this=argument)
            kinds.append(_TEXT if isinstance(argument, exp.Var) else self.kind(holder.this, scope))
            texts.append(f"'{argument.name}'" if isinstance(argument, exp.Var) else holder.this.sql("sqlite"))
        texts += ["NULL"] * 4
        node.replace(exp.Var(this=template.format(*texts, kind=kinds[0] if kinds else "")))
        return kinds[0] if result == "same" else parse_type(result)


def _decoded(node: exp.Expression, kind: SqlType) -> exp.Expression:
    return exp.Var(this=f"tds_decode({node.sql('sqlite')}, '{kind}')")


_VISITS = (
    ((exp.Literal, exp.National, exp.HexString), Compiler._literal),
    ((exp.Null,), lambda compiler, node, scope: _INT),
    ((exp.Parameter,), Compiler._parameter),
    ((exp.Neg,), Compiler._negated),
    ((exp.Cast, exp.Convert), Compiler._converted),
    ((exp.Add, exp.Sub, exp.Mul, exp.Div), Compiler._arithmetic),
    (_COMPARISONS, Compiler._compared),
    ((exp.Count,), Compiler._counted),
    ((exp.Coalesce, exp.Case, exp.If), Compiler._chosen),
    ((exp.Dot,), Compiler._dotted),
)

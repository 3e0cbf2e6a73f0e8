"""One client's statements: batches taken apart, each statement run, its answer sent."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from sqlglot import exp

from tests.doubles.sqlserver import definitions, dialect, rights
from tests.doubles.sqlserver.answers import Answer, Field
from tests.doubles.sqlserver.capture import CaptureJob
from tests.doubles.sqlserver.catalog import Relation
from tests.doubles.sqlserver.changes import Changes
from tests.doubles.sqlserver.compiler import Compiler
from tests.doubles.sqlserver.engine import Database, Transaction
from tests.doubles.sqlserver.errors import SqlError
from tests.doubles.sqlserver.functions import convert
from tests.doubles.sqlserver.procedures import Procedures
from tests.doubles.sqlserver.requests import Argument, Call
from tests.doubles.sqlserver.rights import Rights
from tests.doubles.sqlserver.session import Session
from tests.doubles.sqlserver.types import SqlType, from_tree

_ROWS, _PLANS_MAX = 2048, 500
_INT = SqlType("int")
_SYSTEM = {"@trancount": _INT, "@rowcount": _INT, "@spid": _INT, "@error": _INT, "@version": SqlType("nvarchar", 300),
           "@servername": SqlType("nvarchar", 128), "@language": SqlType("nvarchar", 128)}  # fmt: skip
_CONSTRAINTS = (
    ("UNIQUE", 2627, "Violation of PRIMARY KEY constraint. Cannot insert duplicate key: {}."),
    ("NOT NULL", 515, "Cannot insert the value NULL: {}; column does not allow nulls."),
    ("no such table: ", 208, "Invalid object name: {}."),
)


class Client:
    """What runs the statements of a connection; see session.Face."""

    def __init__(
        self,
        database: Database,
        job: CaptureJob,
        session: Session,
        create: Callable[[str], None],
        logins: dict[str, str],
    ) -> None:
        self._session, self._create, self._logins = session, create, logins
        self._transaction = Transaction(database)
        self._rights = Rights(self._transaction.connection, session.login)
        self._procedures = Procedures(database, job, self._transaction)
        self._changes = Changes(self._transaction, self._compiler)
        self._values: dict[str, tuple[SqlType, Any]] = {}
        self._rowcount = 0
        self._plans: dict[tuple[Any, ...], tuple[str, list[Field], list[tuple[str, SqlError]]]] = {}

    # ---- what a session asks for

    def batch(self, text: str, arguments: list[Argument], answer: Answer) -> None:
        """Run a batch of statements with its parameters. Raises SqlError; what comes behind a failure does not run."""
        self._values = {one.name.lstrip("@").lower(): (one.kind, one.value) for one in arguments}
        for statement in dialect.statements(text):
            self._run(statement, answer)

    def procedure(self, call: Call, answer: Answer) -> None:
        """Run a procedure called by name."""
        given = {one.name.lstrip("@").lower() or str(at): one.value for at, one in enumerate(call.arguments)}
        self._execute(call.procedure, given, answer)
        answer.returned([])

    def begin(self, snapshot: bool) -> None:
        """Begin a transaction that the driver asks for."""
        self._transaction.snapshot = self._transaction.snapshot or snapshot
        self._transaction.depth += 1

    def end(self, commit: bool) -> None:
        """Commit it, or roll it back."""
        self._transaction.commit() if commit else self._transaction.rollback()

    def reset(self) -> None:
        """Forget all that the last user of this connection left."""
        self._transaction.rollback()
        self._transaction.snapshot = False

    def close(self) -> None:
        """The client has gone."""
        self._transaction.close()

    # ---- statements

    def _run(self, statement: str, answer: Answer) -> None:
        while statement:
            for pattern, command in _COMMANDS:
                found = pattern.match(statement)
                if found:
                    if command(self, found, answer) is False:
                        return
                    statement = statement[found.end() :].strip()
                    break
            else:
                self._tree(statement, answer)
                return

    def _tree(self, statement: str, answer: Answer) -> None:
        version = self._transaction.connection.execute("PRAGMA schema_version").fetchone()
        key = (statement, version, tuple((name, kind) for name, (kind, _) in self._values.items()))
        if key in self._plans:
            self._query(key, None, answer)
            return
        tree = dialect.parse(statement)
        if isinstance(tree, exp.Query):
            if any(isinstance(part, exp.EQ) and isinstance(part.this, exp.Parameter) for part in tree.selects):
                self._assign(tree)
            else:
                self._query(key, tree, answer)
        elif isinstance(tree, exp.Declare):
            for item in tree.expressions:
                self._declare(item)
        elif isinstance(tree, exp.Set):
            self._assign(exp.select(*[item.this for item in tree.expressions]))
        elif isinstance(tree, exp.Insert | exp.Update | exp.Delete):
            self._change(tree, answer)
        else:
            self._define(tree, statement)

    def _query(self, key: tuple[Any, ...], tree: exp.Expression | None, answer: Answer) -> None:
        if tree is not None:
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            compiler = self._compiler()
            fields = compiler.query(tree)
            self._plans[key] = (tree.sql("sqlite"), fields, compiler.checks)
        text, fields, checks = self._plans[key]
        self._transaction.read()
        for check, error in checks:
            if not self._fetch(check)[0][0]:
                raise error
        cursor = self._guarded(lambda: self._transaction.connection.execute(text, self._bound()))
        self._rowcount = answer.rows(fields, self._batches(cursor))

    def _batches(self, cursor: sqlite3.Cursor) -> Iterator[list[Any]]:
        while rows := self._guarded(lambda: cursor.fetchmany(_ROWS)):
            yield rows

    def _fetch(self, text: str) -> list[Any]:
        return self._guarded(lambda: self._transaction.connection.execute(text, self._bound()).fetchall())

    def _compiler(self) -> Compiler:
        return Compiler(
            self._transaction.relations(),
            {name: kind for name, (kind, _) in self._values.items()} | _SYSTEM,
            self._rights.need,
        )

    def _bound(self) -> dict[str, Any]:
        system = {
            "trancount": self._transaction.depth,
            "rowcount": self._rowcount,
            "spid": 51,
            "error": 0,
            "version": "Microsoft SQL Server 2022 (a double)",
            "servername": "double",
            "language": "us_english",
        }
        bound = {f"system_{name}": value for name, value in system.items()}
        return bound | {name: value for name, (_, value) in self._values.items()}

    def _guarded(self, run: Callable[[], Any]) -> Any:
        """Run something in SQLite; its errors under SQL Server's numbers."""
        try:
            return run()
        except sqlite3.Error as error:
            raised = self._transaction.failures.take()
            if raised is not None:
                raise raised from None
            for start, number, text in _CONSTRAINTS:
                if str(error).startswith(start):
                    detail = str(error).removeprefix(start)
                    raise SqlError(number, text.format(detail)) from None
            raise

    def _value(self, tree: exp.Expression) -> tuple[SqlType, Any]:
        """The value of an expression without a table."""
        query = exp.select(tree)
        fields = self._compiler().query(query)
        return fields[0].kind, self._fetch(query.sql("sqlite"))[0][0]

    def _declare(self, item: exp.Expression) -> None:
        kind = from_tree(item.args["kind"])
        source, value = self._value(item.args["default"]) if item.args.get("default") else (kind, None)
        for variable in item.this:
            self._values[variable.name.lower()] = (kind, convert(value, str(source), str(kind)))

    def _assign(self, tree: exp.Expression) -> None:
        """SET @x = ... and SELECT @x = ..., whose last row stays."""
        names = [part.this.name.lower() for part in tree.selects]
        for part in tree.selects:
            part.replace(part.expression)
        fields = self._compiler().query(tree, encoded=False)
        self._transaction.read()
        for row in self._fetch(tree.sql("sqlite"))[-1:]:
            for name, one, value in zip(names, fields, row, strict=True):
                kind = self._values[name][0]
                self._values[name] = (kind, convert(value, str(one.kind), str(kind)))

    # ---- changes

    def _change(self, tree: exp.Expression, answer: Answer) -> None:
        text, relation, command = self._changes.compile(tree)
        self._writing(lambda: self._transaction.connection.execute(text, self._bound()).rowcount, relation)
        answer.count(command, self._rowcount)

    def _writing(self, run: Callable[[], Any], relation: Relation | None = None) -> None:
        transaction = self._transaction
        transaction.write()
        if relation is not None and relation.tracked:
            transaction.touched[relation.name] = relation
        try:
            self._rowcount = self._guarded(run) or 0
        except BaseException:
            if transaction.depth == 0:
                transaction.rollback()
            raise
        transaction.finished()

    def _define(self, tree: exp.Expression, statement: str) -> None:
        connection = self._transaction.connection
        self._rights.own(262, "CREATE TABLE permission denied in database.")
        if isinstance(tree, exp.Create) and tree.kind == "TABLE":
            self._writing(lambda: definitions.create_table(connection, tree))
        elif isinstance(tree, exp.Alter):
            relation = self._compiler().relation(tree.this)
            self._writing(lambda: self._alter(tree, relation, statement), relation)
        elif isinstance(tree, exp.Drop) and tree.kind == "TABLE":
            relation = self._compiler().relation(tree.this)
            self._writing(lambda: definitions.drop_table(connection, relation))
        elif isinstance(tree, exp.TruncateTable):
            relation = self._compiler().relation(tree.expressions[0])
            if relation.tracked & definitions.CAPTURED:
                raise SqlError(
                    4711, f"Cannot truncate table '{relation.name}' because it is published for replication."
                )
            self._writing(lambda: self._procedures.truncate(relation), relation)
        else:
            raise SqlError(102, f"Unknown to the double: {statement[:100]}")

    def _alter(self, tree: exp.Alter, relation: Relation, statement: str) -> None:
        connection = self._transaction.connection
        fill = re.search(r"\bWITH\s+VALUES\s*$", statement, re.IGNORECASE) is not None
        for action in tree.args["actions"]:
            if isinstance(action, exp.ColumnDef):
                initial = action.find(exp.DefaultColumnConstraint)
                kind = from_tree(action.kind)
                value = convert(*_pair(self._value(initial.this.copy())), str(kind)) if initial else None
                definitions.add_column(connection, relation, action, value, fill=fill)
            elif isinstance(action, exp.Drop):
                definitions.drop_column(connection, relation, action.args["tables"][0].name)
            else:
                raise SqlError(102, f"Unknown to the double: {statement[:100]}")
            relation = self._compiler().relation(tree.this)
        if relation.tracked & definitions.CAPTURED:
            self._procedures.changed(relation, statement)

    # ---- commands that are told by their first words

    def _create_database(self, found: re.Match[str], answer: Answer) -> None:
        self._create(found[1].strip("[]"))

    def _isolation(self, found: re.Match[str], answer: Answer) -> None:
        self._transaction.snapshot = found[1].upper() == "SNAPSHOT"

    def _ignored(self, found: re.Match[str], answer: Answer) -> None:
        """A setting that the double has no use for."""

    def _if_open(self, found: re.Match[str], answer: Answer) -> bool:
        return self._transaction.depth > 0

    def _begin(self, found: re.Match[str], answer: Answer) -> None:
        self._transaction.depth += 1

    def _commit(self, found: re.Match[str], answer: Answer) -> None:
        if self._transaction.depth == 0:
            raise SqlError(3902, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.")
        if self._transaction.depth == 1:
            self._transaction.commit()
        else:
            self._transaction.depth -= 1

    def _rollback(self, found: re.Match[str], answer: Answer) -> None:
        if self._transaction.depth == 0:
            raise SqlError(3903, "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.")
        self._transaction.rollback()

    def _wait(self, found: re.Match[str], answer: Answer) -> None:
        self._session.sleep(int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]))

    def _unique_index(self, found: re.Match[str], answer: Answer) -> None:
        relation = self._owned(found[2])
        names = [dialect.plain_name(part).removeprefix("dbo.") for part in found[3].split(",")]
        connection, name = self._transaction.connection, found[1].strip("[]")
        self._writing(lambda: definitions.add_unique_index(connection, relation, name, names))

    # ---- rights

    def _create_login(self, found: re.Match[str], answer: Answer) -> None:
        self._rights.own(15247, "User does not have permission to perform this action.")
        self._logins[found[1].strip("[]")] = found[2]

    def _if_no_user(self, found: re.Match[str], answer: Answer) -> bool:
        return not rights.has_user(self._transaction.connection, found[1])

    def _administer(self, run: Callable[..., None], *values: Any, **named: Any) -> None:
        self._rights.own(15247, "User does not have permission to perform this action.")
        self._writing(lambda: run(self._transaction.connection, *values, **named))

    def _create_user(self, found: re.Match[str], answer: Answer) -> None:
        self._administer(rights.create_user, found[1].strip("[]"))

    def _add_member(self, found: re.Match[str], answer: Answer) -> None:
        self._administer(rights.add_member, found[1].strip("[]"), found[2].strip("[]"))

    def _grant(self, found: re.Match[str], answer: Answer) -> None:
        verb, permissions, kind, name, user = found.groups()
        kind = "" if (kind or "").upper() == "OBJECT" else kind or ""
        self._administer(rights.grant, permissions, kind, name or "", user.strip("[]"), given=verb.upper() == "GRANT")

    # ---- the database

    def _owned(self, name: str) -> Relation:
        relation = self._transaction.relations().get(dialect.plain_name(name).lower())
        if relation is None or not self._rights.owns:
            raise SqlError(4902, f"Cannot find the object '{name}', or you do not have permissions.")
        return relation

    def _alter_database(self, found: re.Match[str], answer: Answer) -> None:
        self._rights.own(5011, "User does not have permission to alter the database.")
        self._writing(lambda: self._procedures.set_option(found[1]))

    def _tracking(self, found: re.Match[str], answer: Answer) -> None:
        relation, enable = self._owned(found[1]), found[2].upper() == "ENABLE"
        self._writing(lambda: self._procedures.track(relation, enable))

    def _exec(self, found: re.Match[str], answer: Answer) -> None:
        given: dict[str, Any] = {}
        if found[2].strip():
            for at, part in enumerate(dialect.parse(f"SELECT {found[2]}").selects):
                named = isinstance(part, exp.EQ) and isinstance(part.this, exp.Parameter)
                value = self._value((part.expression if named else part).copy())[1]
                given[part.this.name.lower() if named else str(at)] = value
        self._execute(dialect.plain_name(found[1]).split(".")[-1], given, answer)

    def _execute(self, name: str, given: dict[str, Any], answer: Answer) -> None:
        run = self._procedures.find(name)
        if self._procedures.answers(name):
            fields, rows = run(given)
            answer.rows(fields, [rows])
            return
        self._rights.own(
            22904, "Caller is not authorized to initiate the requested action. DBO privileges are required."
        )
        if self._procedures.is_job(name):
            run(given)
        else:
            self._writing(lambda: run(given))


def _pair(typed: tuple[SqlType, Any]) -> tuple[Any, str]:
    return typed[1], str(typed[0])


def _commands(*pairs: tuple[str, Callable[..., Any]]) -> list[tuple[re.Pattern[str], Callable[..., Any]]]:
    return [(re.compile(pattern, re.IGNORECASE | re.DOTALL), command) for pattern, command in pairs]


_LEVELS = r"(READ\s+COMMITTED|READ\s+UNCOMMITTED|REPEATABLE\s+READ|SERIALIZABLE|SNAPSHOT)"
_COMMANDS = _commands(
    (rf"SET\s+TRANSACTION\s+ISOLATION\s+LEVEL\s+{_LEVELS}\b", Client._isolation),
    (r"SET\s+(?!@)\w+(?:\s+\w+)*?\s+(?:ON|OFF|-?\d+|'[^']*')(?=\s|$)", Client._ignored),
    (r"SET\s+(?:LANGUAGE|DATEFORMAT)\s+\w+", Client._ignored),
    (r"USE\s+\S+", Client._ignored),
    (r"IF\s+@@TRANCOUNT\s*>\s*0\s+", Client._if_open),
    (r"BEGIN\s+TRAN(?:SACTION)?\b", Client._begin),
    (r"COMMIT(?:\s+(?:TRANSACTION|TRAN|WORK))?\b", Client._commit),
    (r"ROLLBACK(?:\s+(?:TRANSACTION|TRAN|WORK))?\b", Client._rollback),
    (r"CREATE\s+LOGIN\s+(\S+)\s+WITH\s+PASSWORD\s*=\s*N?'([^']*)'", Client._create_login),
    (r"IF\s+USER_ID\s*\(\s*N?'([^']*)'\s*\)\s+IS\s+NULL\s+", Client._if_no_user),
    (r"CREATE\s+USER\s+(\S+)\s+FOR\s+LOGIN\s+\S+", Client._create_user),
    (r"ALTER\s+ROLE\s+(\S+)\s+ADD\s+MEMBER\s+(\S+)", Client._add_member),
    (r"(GRANT|REVOKE)\s+(.+?)(?:\s+ON\s+(?:(SCHEMA|OBJECT)::)?(\S+))?\s+(?:TO|FROM)\s+(\S+)", Client._grant),
    (r"CREATE\s+UNIQUE\s+(?:NONCLUSTERED\s+)?INDEX\s+(\S+)\s+ON\s+([^\s(]+)\s*\(([^)]*)\)", Client._unique_index),
    (r"WAITFOR\s+DELAY\s+'(\d+):(\d+):([\d.]+)'", Client._wait),
    (r"CREATE\s+DATABASE\s+(\S+)", Client._create_database),
    (r"ALTER\s+DATABASE\s+\S+\s+SET\s+(.*)", Client._alter_database),
    (r"ALTER\s+TABLE\s+(\S+)\s+(ENABLE|DISABLE)\s+CHANGE_TRACKING\b.*", Client._tracking),
    (r"EXEC(?:UTE)?\s+([\w.\[\]]+)(.*)", Client._exec),
)

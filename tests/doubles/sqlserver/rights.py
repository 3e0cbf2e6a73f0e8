"""Who may do what: users and grants of a database, and the errors that SQL Server gives to those who may not.

What stands in `master` and `msdb` on a server (VIEW SERVER STATE, the jobs) is granted in the database itself here.
"""

from __future__ import annotations

import re
import sqlite3

from tests.doubles.sqlserver.catalog import Relation
from tests.doubles.sqlserver.dialect import plain_name
from tests.doubles.sqlserver.errors import SqlError

ADMINISTRATOR = "sa"
_OWNERS = "db_owner"
_STATES = {
    "sys.dm_server_services": (
        "VIEW SERVER STATE", 300, "VIEW SERVER STATE permission was denied on object 'server', database 'master'."
    ),
    "sys.dm_cdc_log_scan_sessions": (
        "VIEW DATABASE STATE", 262, "VIEW DATABASE STATE permission denied in database."
    ),
}  # fmt: skip


def create_user(connection: sqlite3.Connection, name: str) -> None:
    """CREATE USER. Raises SqlError 15023 where there is one."""
    if has_user(connection, name):
        raise SqlError(15023, f"User, group, or role '{name}' already exists in the current database.")
    connection.execute('INSERT INTO "double.members" VALUES (?, ?)', ("public", name))


def has_user(connection: sqlite3.Connection, name: str) -> bool:
    """Whether the database has such a user."""
    query = 'SELECT 1 FROM "double.members" WHERE "user" = ? AND role = \'public\''
    return connection.execute(query, (name,)).fetchone() is not None


def add_member(connection: sqlite3.Connection, role: str, user: str) -> None:
    """ALTER ROLE ... ADD MEMBER."""
    connection.execute('INSERT OR IGNORE INTO "double.members" VALUES (?, ?)', (role, user))
    _changed(connection)


def grant(connection: sqlite3.Connection, permissions: str, kind: str, name: str, user: str, *, given: bool) -> None:
    """GRANT, or REVOKE: permissions on a SCHEMA, on an object, or on the database where there is no name."""
    scope = "" if not name else f"schema {name.strip('[]').lower()}" if kind else plain_name(name).lower()
    for permission in permissions.split(","):
        row = (user, re.sub(r"\s+", " ", permission).strip().upper(), scope)
        connection.execute('DELETE FROM "double.grants" WHERE "user" = ? AND permission = ? AND scope = ?', row)
        if given:
            connection.execute('INSERT INTO "double.grants" VALUES (?, ?, ?)', row)
    _changed(connection)


def _changed(connection: sqlite3.Connection) -> None:
    connection.execute('CREATE TABLE "double.bump" (x)')  # plans were made under the rights of before
    connection.execute('DROP TABLE "double.bump"')


class Rights:
    """What one login may do in a database; its user there has the login's name.

    Args:
        connection: of the client, which gets the functions that tell of it.
    """

    def __init__(self, connection: sqlite3.Connection, login: str) -> None:
        self._connection, self._login = connection, login
        for name, count, function in (
            ("login_name", 0, lambda: login),
            ("user_name", 0, lambda: "dbo" if login == ADMINISTRATOR else login),
            ("is_owner", 0, lambda: int(self.owns)),
            ("may_see", 1, lambda number: int(self.sees(number))),
            ("may_capture", 2, lambda number, role: int(self._captures(number, role))),
            ("has_permission", 2, self._has_permission),
        ):
            connection.create_function(name, count, function)

    @property
    def owns(self) -> bool:
        """Whether it may do everything."""
        return self._login == ADMINISTRATOR or self._is_member(_OWNERS)

    def own(self, number: int, text: str) -> None:
        """Raises that error where it may not do everything."""
        if not self.owns:
            raise SqlError(number, text)

    def need(self, permission: str, relation: Relation) -> None:
        """Raises SqlError 229, 262, 300 where it lacks a permission on a table or view."""
        if self.owns:
            return
        name = relation.name
        schema, plain = name.split(".")[-2:]
        if name in _STATES:
            wanted, number, text = _STATES[name]
            if not self._has(wanted, ""):
                raise SqlError(number, text)
        elif schema != "sys" and not self._has(permission, name):
            text = f"The {permission} permission was denied on the object '{plain}', schema '{schema}'."
            raise SqlError(229, text)

    def sees(self, number: int) -> bool:
        """Whether the table of that number is shown to it at all."""
        name = self._name(number)
        return self.owns or (name is not None and self._has("", name))

    def _captures(self, number: int, role: str | None) -> bool:
        name = self._name(number)
        is_gated = role is not None and not self._is_member(role)
        return self.owns or (name is not None and not is_gated and self._has("SELECT", name))

    def _has_permission(self, name: str | None, permission: str) -> int | None:
        query = 'SELECT object_id FROM "double.objects" WHERE key = ?'
        found = self._connection.execute(query, (plain_name(name or "").lower(),)).fetchone()
        if found is None or not self.sees(found[0]):
            return None
        return int(self.owns or self._has(permission.upper(), plain_name(name or "")))

    def _name(self, number: int) -> str | None:
        found = self._connection.execute('SELECT key FROM "double.objects" WHERE object_id = ?', (number,)).fetchone()
        return found[0] if found else None

    def _has(self, permission: str, name: str) -> bool:
        scopes = ["", name.lower().removeprefix("msdb.")]
        if not name.startswith("msdb."):  # whose schema dbo is another one
            scopes.append(f"schema {name.lower().partition('.')[0]}")
        marks = ", ".join("?" * len(scopes))
        query = f'SELECT permission FROM "double.grants" WHERE "user" = ? AND scope IN ({marks})'
        found = {row[0] for row in self._connection.execute(query, (self._login, *scopes))}
        return bool(found & {permission, "CONTROL"}) if permission else bool(found - {"VIEW DATABASE STATE"})

    def _is_member(self, role: str) -> bool:
        query = 'SELECT 1 FROM "double.members" WHERE role = ? AND "user" = ?'
        return self._connection.execute(query, (role, self._login)).fetchone() is not None

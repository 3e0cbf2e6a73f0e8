"""The exceptions of python-oracledb, as far as a connector looks at them."""

from __future__ import annotations

_TEXTS = {
    308: "cannot open archived log",
    310: "archived log contains sequence 1; sequence 2 required",
    904: "invalid identifier",
    923: "FROM keyword not found where expected",
    933: "SQL command not properly ended",
    942: "table or view does not exist",
    1013: "user requested cancel of current operation",
    1017: "invalid username/password; logon denied",
    1031: "insufficient privileges",
    1284: "file cannot be opened",
    1289: "cannot add duplicate logfile",
    1291: "missing log file",
    1292: "no log file has been specified for the current LogMiner session",
    1306: "dbms_logmnr.start_logmnr() must be invoked before selecting from v$logmnr_contents",
    1307: "no LogMiner session is currently active",
    1466: "unable to read data - table definition has changed",
    1555: 'snapshot too old: rollback segment number 9 with name "_SYSSMU9$" too small',
    1745: "invalid host/bind variable name",
    1795: "maximum number of expressions in a list is 1000",
    1796: "this operator cannot be used with lists",
    3113: "end-of-file on communication channel",
    3114: "not connected to ORACLE",
    8180: "no snapshot found based on specified time",
    12514: "Cannot connect to database. Service orcl is not registered with the listener",
}
DEAD = frozenset({3113, 3114, 12514, 12541})  # the connection is gone


class Error(Exception):
    """Anything that goes wrong."""


class InterfaceError(Error):
    """Of the driver's own use."""


class DatabaseError(Error):
    """Of the database; `args[0]` is an ErrorInfo."""


class OperationalError(DatabaseError):
    """Beyond the control of a program."""


class ProgrammingError(DatabaseError):
    """A statement that cannot be run."""


class IntegrityError(DatabaseError):
    """A constraint."""


class NotSupportedError(DatabaseError):
    """What the driver does not do."""


class DataError(DatabaseError):
    """A value."""


class InternalError(DatabaseError):
    """Of the database's inside."""


class ErrorInfo:
    """What python-oracledb tells of an error: code 1291, full_code "ORA-01291", the message, whether to reconnect."""

    def __init__(self, code: int, detail: str = "") -> None:
        self.code, self.full_code = code, f"ORA-{code:05d}"
        self.message = f"{self.full_code}: {_TEXTS.get(code, 'error')}{': ' + detail if detail else ''}"
        self.isrecoverable, self.offset, self.context = code in DEAD, 0, ""

    def __str__(self) -> str:
        return self.message


def failure(code: int, detail: str = "") -> DatabaseError:
    """The exception of an ORA-code."""
    kind = OperationalError if code in DEAD or code in (1013, 1555, 1017) else DatabaseError
    return kind(ErrorInfo(code, detail))

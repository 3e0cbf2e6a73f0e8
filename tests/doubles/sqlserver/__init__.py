"""A double of SQL Server for tests: real TDS for real ODBC drivers, T-SQL and change data capture of our own.

It runs in a process of its own, so that a driver which holds Python's lock cannot wait for itself, and so that clients
may be killed. What a test needs is done as on a real server, in T-SQL over a connection.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from flows.ports import free_port

if TYPE_CHECKING:
    import pyodbc  # the server itself does without, and a machine may not have the library it needs

_ROOT = Path(__file__).parents[3]
_FREETDS = ("/usr/lib/x86_64-linux-gnu/odbc/libtdsodbc.so", "/usr/lib/aarch64-linux-gnu/odbc/libtdsodbc.so")
_STARTED_S = 30


def drivers() -> dict[str, str]:
    """The ODBC drivers that are here by name: Microsoft's own (msodbc, from mssql-python-odbc), FreeTDS (freetds)."""
    found = {"freetds": [path for path in _FREETDS if Path(path).exists()]}
    spec = find_spec("mssql_python_odbc")
    if spec is not None and spec.submodule_search_locations:
        libraries = Path(spec.submodule_search_locations[0]) / "libs" / "linux" / "debian_ubuntu"
        found["msodbc"] = [str(path) for path in libraries.glob(f"{os.uname().machine}/lib/libmsodbcsql-18*.so*")]
    return {name: paths[0] for name, paths in found.items() if paths}


class SqlServerDouble:
    """A running double.

    Args:
        directory: where its database lies; one that is there already goes on.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> SqlServerDouble:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process. Raises RuntimeError with its log where it does not listen."""
        log = self.directory / "double.log"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.doubles.sqlserver", str(self.directory), str(self.port)],
            cwd=_ROOT, env=os.environ | {"PYTHONPATH": str(_ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=log.open("a"), text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError(log.read_text("utf-8"))

    def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate(timeout=_STARTED_S)

    def create_database(self, name: str) -> None:
        """Make an empty database beside those that are there."""
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE [{name}]")

    def odbc(self, driver: str = "msodbc", database: str = "shop", **extra: object) -> str:
        """An ODBC connection string; `extra` are more settings, or others."""
        parts = {"DRIVER": drivers()[driver], "UID": "sa", "PWD": "Secret123", "DATABASE": database}
        if driver == "freetds":
            parts |= {"SERVER": "127.0.0.1", "PORT": str(self.port), "TDS_Version": "7.4"}
        else:
            parts |= {"SERVER": f"127.0.0.1,{self.port}", "Encrypt": "no", "TrustServerCertificate": "yes"}
        return ";".join(f"{name}={value}" for name, value in (parts | extra).items())

    def connect(
        self, driver: str = "msodbc", database: str = "shop", *, autocommit: bool = True, **extra: object
    ) -> pyodbc.Connection:
        """A connection."""
        import pyodbc

        return pyodbc.connect(self.odbc(driver, database, **extra), autocommit=autocommit, timeout=10)

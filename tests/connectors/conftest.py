"""Which modules this machine can run, the readers of Kafka that it has, and databases of SQL Server's double."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from connectors.kafka import c_reader
from control.embedded import ApacheKafka

if TYPE_CHECKING:  # elsewhere they need the machine's ODBC library, which other tests do without
    from tests.connectors.sqlserver_parts import SqlServerSystem
    from tests.doubles.sqlserver import SqlServerDouble

READERS = ["plain", *([] if c_reader.missing() else ["c"])]

collect_ignore = [] if ApacheKafka.available() else ["test_kafka_apache.py", "test_kafka_secured.py"]
collect_ignore += [] if shutil.which("redis-server") else ["test_redis_source.py"]
if not find_library("odbc"):  # through which pyodbc finds drivers
    collect_ignore += ["test_contract_sqlserver.py", "test_sqlserver.py", "test_sqlserver_again.py"]
    collect_ignore += ["test_sqlserver_doctor.py", "test_sqlserver_page.py", "test_sqlserver_processes.py"]
    collect_ignore += ["test_sqlserver_source.py", "test_asked_again.py", "test_asked_columns.py"]
    collect_ignore += ["test_asked_processes.py"]


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> str:
    """The kind of each reader that is built here."""
    return request.param


@pytest.fixture(scope="module")
def sqlserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlServerDouble]:
    """A running double of SQL Server."""
    from tests.doubles.sqlserver import SqlServerDouble

    with SqlServerDouble(tmp_path_factory.mktemp("sqlserver")) as double:
        yield double


@pytest.fixture
def captured(sqlserver: SqlServerDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqlServerSystem:
    """A database of it whose tables are captured."""
    return _system("cdc", sqlserver, tmp_path, monkeypatch)


@pytest.fixture
def tracked(sqlserver: SqlServerDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqlServerSystem:
    """A database of it whose tables are tracked."""
    return _system("change_tracking", sqlserver, tmp_path, monkeypatch)


def _system(mode: str, server: SqlServerDouble, directory: Path, monkeypatch: pytest.MonkeyPatch) -> SqlServerSystem:
    from tests.connectors.sqlserver_parts import DRIVERS, SqlServerSystem

    made = SqlServerSystem(server, directory, mode, DRIVERS[-1])
    monkeypatch.setenv("ERP_DSN", made.dsn)
    return made

"""Stands in for python-oracledb where this directory comes first on the path: the double behind the driver's names."""

from __future__ import annotations

from tests.doubles.oracle.driver import Connection as Connection
from tests.doubles.oracle.driver import Cursor as Cursor
from tests.doubles.oracle.driver import connect as connect
from tests.doubles.oracle.driver import defaults as defaults
from tests.doubles.oracle.errors import DatabaseError as DatabaseError
from tests.doubles.oracle.errors import DataError as DataError
from tests.doubles.oracle.errors import Error as Error
from tests.doubles.oracle.errors import IntegrityError as IntegrityError
from tests.doubles.oracle.errors import InterfaceError as InterfaceError
from tests.doubles.oracle.errors import InternalError as InternalError
from tests.doubles.oracle.errors import NotSupportedError as NotSupportedError
from tests.doubles.oracle.errors import OperationalError as OperationalError
from tests.doubles.oracle.errors import ProgrammingError as ProgrammingError
from tests.doubles.oracle.frames import Lob

__version__ = "26.1.0"
LOB = Lob
DB_TYPE_NUMBER, DB_TYPE_VARCHAR, DB_TYPE_DATE, DB_TYPE_TIMESTAMP = "NUMBER", "VARCHAR2", "DATE", "TIMESTAMP"
DB_TYPE_TIMESTAMP_TZ, DB_TYPE_TIMESTAMP_LTZ = "TIMESTAMP WITH TIME ZONE", "TIMESTAMP WITH LOCAL TIME ZONE"
DB_TYPE_RAW, DB_TYPE_CLOB, DB_TYPE_NCLOB, DB_TYPE_BLOB = "RAW", "CLOB", "NCLOB", "BLOB"
DB_TYPE_BINARY_DOUBLE, DB_TYPE_BINARY_FLOAT, DB_TYPE_ROWID = "BINARY_DOUBLE", "BINARY_FLOAT", "ROWID"
DB_TYPE_INTERVAL_DS, DB_TYPE_INTERVAL_YM, DB_TYPE_NVARCHAR = "INTERVAL DAY", "INTERVAL YEAR", "NVARCHAR2"

"""Which modules this machine can run."""

from __future__ import annotations

from ctypes.util import find_library

# pyodbc finds drivers through the machine's ODBC library
collect_ignore = [] if find_library("odbc") else ["test_canonical_dynamics.py"]

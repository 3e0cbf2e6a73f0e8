"""A stand-in for an Oracle database with LogMiner, behind the API of python-oracledb, its truth known."""

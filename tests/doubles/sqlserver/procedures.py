"""System procedures: change data capture, its jobs, and what ODBC drivers ask when they connect."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.doubles.sqlserver import capture, definitions
from tests.doubles.sqlserver.answers import Field
from tests.doubles.sqlserver.capture import CaptureJob
from tests.doubles.sqlserver.catalog import Relation
from tests.doubles.sqlserver.dialect import plain_name
from tests.doubles.sqlserver.engine import Database, Transaction
from tests.doubles.sqlserver.errors import SqlError
from tests.doubles.sqlserver.functions import lsn, now
from tests.doubles.sqlserver.types import parse_type

Given = Mapping[str, Any]
_JOBS = ("sp_cdc_stop_job", "sp_cdc_start_job", "sp_cdc_scan", "xp_servicecontrol")
_QUERIES = ("sp_datatype_info", "sp_datatype_info_100", "sp_datatype_info_90")
_LENGTHS = {12: ("varchar", 8000), -9: ("nvarchar", 4000), -3: ("varbinary", 8000), 93: ("datetime2", 27)}
_TYPE_INFO = (
    "TYPE_NAME nvarchar(128), DATA_TYPE smallint, PRECISION int, LITERAL_PREFIX nvarchar(32), "
    "LITERAL_SUFFIX nvarchar(32), CREATE_PARAMS nvarchar(32), NULLABLE smallint, CASE_SENSITIVE smallint, "
    "SEARCHABLE smallint, UNSIGNED_ATTRIBUTE smallint, MONEY smallint, AUTO_INCREMENT smallint, "
    "LOCAL_TYPE_NAME nvarchar(128), MINIMUM_SCALE smallint, MAXIMUM_SCALE smallint, SQL_DATA_TYPE smallint, "
    "SQL_DATETIME_SUB smallint, NUM_PREC_RADIX int, INTERVAL_PRECISION smallint, USERTYPE smallint"
)


class Procedures:
    """The procedures as one client calls them, inside of its transaction."""

    def __init__(self, database: Database, job: CaptureJob, transaction: Transaction) -> None:
        self._database, self._job, self._transaction = database, job, transaction

    def find(self, name: str) -> Callable[[Given], Any]:
        """A procedure by its name. Raises SqlError 2812."""
        found = _PROCEDURES.get(name.lower())
        if found is None:
            raise SqlError(2812, f"Could not find stored procedure '{name}'.")
        return lambda given: found(self, given)

    @staticmethod
    def answers(name: str) -> bool:
        """Whether it answers with rows."""
        return name.lower() in _QUERIES

    @staticmethod
    def is_job(name: str) -> bool:
        """Whether it is about a job, and has nothing to do with the caller's transaction."""
        return name.lower() in _JOBS

    def _relation(self, schema: str, name: str) -> Relation:
        found = self._transaction.relations().get(f"{schema}.{name}".lower())
        if found is None:
            raise SqlError(22931, f"Source object '{schema}.{name}' does not exist or is inaccessible.")
        return found

    # ---- change data capture

    def _enable_db(self, given: Given) -> None:
        definitions.enable_database(self._transaction.connection, True)

    def _enable_table(self, given: Given) -> None:
        relation = self._relation(given["source_schema"], given["source_name"])
        if not self._transaction.setting("cdc"):
            raise SqlError(22901, "The database is not enabled for Change Data Capture.")
        if "role_name" not in given:
            raise SqlError(
                201, "Procedure 'sp_cdc_enable_table' expects parameter '@role_name', which was not supplied."
            )
        name = given.get("capture_instance") or relation.name.replace(".", "_")
        listed = [
            plain_name(part).split(".")[-1].lower()
            for part in (given.get("captured_column_list") or "").split(",")
            if part.strip()
        ]
        number, net = self._database.next_number(), int(given.get("supports_net_changes") or 0)
        instance = definitions.NewInstance(name, listed, lsn(number), net, given["role_name"])
        definitions.enable_capture(self._transaction.connection, relation, instance)

    def _disable_table(self, given: Given) -> None:
        relation = self._relation(given["source_schema"], given["source_name"])
        names = [given["capture_instance"]]
        if names[0].lower() == "all":
            names = definitions.instance_names(self._transaction.connection, relation)
        for name in names:
            definitions.disable_capture(self._transaction.connection, relation, name)

    def changed(self, relation: Relation, command: str) -> None:
        """A captured table has got other columns: its log follows, its instances stay as they are."""
        capture.log_changes(self._transaction.connection, relation)
        definitions.record_change(self._transaction.connection, relation, command, self._database.next_number())

    def _clean_up(self, given: Given) -> None:
        definitions.clean_up(self._transaction.connection, given["capture_instance"], given["low_water_mark"])

    def _change_job(self, given: Given) -> None:
        query = 'UPDATE "double.settings" SET value = ? WHERE name = ?'
        if given.get("pollinginterval") is not None:
            self._job.poll_s = float(given["pollinginterval"])
            self._transaction.connection.execute(query, (self._job.poll_s, "poll_s"))
        if given.get("retention") is not None:
            self._transaction.connection.execute(query, (int(given["retention"]), "retention"))

    def _stop_job(self, given: Given) -> None:
        if given.get("job_type", "capture") == "capture":
            self._database.stopped_at = now("datetime")

    def _start_job(self, given: Given) -> None:
        if given.get("job_type", "capture") == "capture":
            if not self._database.agent_runs:
                raise SqlError(14258, "Cannot perform this operation while SQLServerAgent is not running.")
            self._database.stopped_at = ""
            self._database.committed.set()

    def _service(self, given: Given) -> None:
        """xp_servicecontrol: the Agent is started or stopped, and with it the capture job."""
        self._database.agent_runs = given["0"].upper() == "START"
        self._start_job({}) if self._database.agent_runs else self._stop_job({})

    def _scan(self, given: Given) -> None:
        captured = 0
        while count := self._job.scan():
            captured += count
        if not captured and given.get("is_from_job"):
            with self._database.writing() as connection:  # an idle database: an entry that is no transaction's
                row = (lsn(self._database.next_number()),)
                values = "(?, tds_now('datetime'), tds_now('datetime'), x'00', NULL)"
                connection.execute(f'INSERT INTO "cdc.lsn_time_mapping" VALUES {values}', row)

    # ---- change tracking

    def set_option(self, options: str) -> None:
        """ALTER DATABASE ... SET."""
        words = options.upper().split()
        query = 'UPDATE "double.settings" SET value = ? WHERE name = ?'
        kept = re.search(r"CHANGE_RETENTION\s*=\s*(\d+)\s*(MINUTES|HOURS|DAYS)", options, re.IGNORECASE)
        if kept:
            self._transaction.connection.execute(query, (int(kept[1]), "tracking_period"))
            self._transaction.connection.execute(query, (kept[2].upper(), "tracking_units"))
        if words[0] == "CHANGE_TRACKING" and words[1].startswith("("):
            return  # more settings of what is on
        name = {"ALLOW_SNAPSHOT_ISOLATION": "snapshot", "CHANGE_TRACKING": "tracking"}.get(words[0])
        if name is not None:
            value = int("ON" in words[1:3])
            self._transaction.connection.execute(query, (value, name))

    def track(self, relation: Relation, enable: bool) -> None:
        """ALTER TABLE ... ENABLE or DISABLE CHANGE_TRACKING."""
        if enable:
            version = self._transaction.setting("version")
            definitions.enable_tracking(self._transaction.connection, relation, version)
        else:
            definitions.disable_tracking(self._transaction.connection, relation)

    def truncate(self, relation: Relation) -> None:
        """TRUNCATE TABLE: its rows go untold, so versions before it are not valid any more."""
        self._transaction.connection.execute(f'DELETE FROM "{relation.name}"')
        if relation.tracked & definitions.TRACKED:
            own = self._transaction.setting("version") + 1
            definitions.forget_tracked(self._transaction.connection, relation, own)

    def _forget_tracked(self, given: Given) -> None:
        relation = self._relation(*plain_name(given.get("tabletoclean") or given["0"]).split("."))
        version = self._transaction.setting("version")
        definitions.forget_tracked(self._transaction.connection, relation, version)

    # ---- drivers

    def _data_types(self, given: Given) -> tuple[list[Field], list[list[Any]]]:
        number = int(given.get("data_type") or given.get("0") or 0)
        name, length = _LENGTHS.get(number, ("nvarchar", 4000))
        fields = [Field(part.split(" ")[0], parse_type(part.split(" ")[1])) for part in _TYPE_INFO.split(", ")]
        row = [name, number, length, "'", "'", "max length", 1, 0, 3, None, 0, None, name, 0, 7, number, *[None] * 3, 0]
        return fields, [row]


_PROCEDURES: dict[str, Callable[[Procedures, Given], Any]] = {
    "sp_cdc_enable_db": Procedures._enable_db,
    "sp_cdc_enable_table": Procedures._enable_table,
    "sp_cdc_disable_table": Procedures._disable_table,
    "sp_cdc_cleanup_change_table": Procedures._clean_up,
    "sp_cdc_change_job": Procedures._change_job,
    "sp_cdc_stop_job": Procedures._stop_job,
    "sp_cdc_start_job": Procedures._start_job,
    "sp_cdc_scan": Procedures._scan,
    "xp_servicecontrol": Procedures._service,
    "sp_flush_ct_internal_table_on_demand": Procedures._forget_tracked,
} | dict.fromkeys(_QUERIES, Procedures._data_types)

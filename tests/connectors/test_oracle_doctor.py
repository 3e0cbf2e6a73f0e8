"""`headrace doctor` over an Oracle database: each fault with the statement that mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.base.database import Finding
from connectors.oracle.session import sorted_error
from flows import build, direct, reading
from libcore.errors import ConfigurationError, TransientError
from tests.connectors.oracle_parts import opened, pipeline


def findings(file: Path) -> list[Finding]:
    """What the source says of itself."""
    loaded = build.load(str(file))
    return direct.findings(loaded, reading.bind(loaded, str(file)), str(file))


def test_a_sound_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but notes where all is as it should be."""
    opened(tmp_path, monkeypatch)
    assert {finding.severity for finding in findings(pipeline(tmp_path))} == {"note"}


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("log_mode", "NOARCHIVELOG", "ALTER DATABASE ARCHIVELOG"),
        ("supplemental", "NO", "ALTER DATABASE ADD SUPPLEMENTAL LOG DATA"),
        ("revoked 1", "LOGMINING", "GRANT LOGMINING TO <login>"),
        ("revoked 2", "FLASHBACK ANY TABLE", "GRANT FLASHBACK ANY TABLE TO <login>"),
    ],
)
def test_each_fault_has_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, remedy: str
) -> None:
    """The first finding is the error, and its remedy names the statement."""
    opened(tmp_path, monkeypatch).setting(setting, value)
    worst = findings(pipeline(tmp_path))[0]
    assert worst.severity == "error"
    assert remedy in worst.remedy


@pytest.mark.parametrize(("logging", "severity"), [(None, "error"), ("PRIMARY KEY", "note"), ("ALL", None)])
def test_supplemental_logging_of_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logging: str | None, severity: str | None
) -> None:
    """A table whose columns are not logged is an error, one with its key a note; the statement names it."""
    database = opened(tmp_path, monkeypatch)
    database.create_table("ERP.OTHER", [("ID", "NUMBER(10)")], ["ID"], logging=logging)
    file = pipeline(tmp_path)
    file.write_text(file.read_text().replace("[tables.ITEMS]", "[tables.OTHER]"), "utf-8")
    found = [finding for finding in findings(file) if finding.what == "table OTHER"]
    assert [finding.severity for finding in found] == ([] if severity is None else [severity])
    wanted = 'ALTER TABLE "ERP"."OTHER" ADD SUPPLEMENTAL LOG DATA (ALL) COLUMNS'
    assert all(finding.remedy == wanted for finding in found)


def test_a_start_is_refused_where_changes_would_be_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database without archived logs is no source; the message says what to do."""
    opened(tmp_path, monkeypatch).setting("log_mode", "NOARCHIVELOG")
    file = str(pipeline(tmp_path))
    loaded = build.load(file)
    source = reading.make_source(
        loaded, reading.bind(loaded, file), until_end=True, path=file, directory=tmp_path / "state"
    )
    part = source.build_part("source", "oracle", None)
    with pytest.raises(ConfigurationError, match="ALTER DATABASE ARCHIVELOG"):
        while True:
            part.next_batch()
    part.close()


class _Told:
    """What oracledb puts into an error."""

    def __init__(self, code: int) -> None:
        self.code, self.isrecoverable = code, False


@pytest.mark.parametrize(
    ("code", "kind"),
    [(1017, ConfigurationError), (1031, ConfigurationError), (3113, TransientError), (12514, TransientError)],
)
def test_errors_are_sorted(code: int, kind: type[Exception]) -> None:
    """A wrong login or a missing grant is for a person, a lost connection passes by itself."""
    error = sorted_error(Exception(_Told(code)), "ask")
    assert isinstance(error, kind)
    assert ("GRANT" in str(error)) == (code == 1031)

"""Which columns tell when a row was changed, and the condition for those that were since a moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from connectors.sap.rfc_rows import WantedTable
from connectors.sap.rfc_where import either
from libcore.errors import ConfigurationError

USUAL = ("AEDAT", "LAEDA", "UPDAT", "ERDAT", "ERSDA", "CPUDT", "AEDTM", "LAST_CHANGED_AT", "LASTCHANGEDATETIME")
_ZONE = timedelta(hours=26)  # between the system's clock and UTC, in either direction, and a change of its clock


def stamps(wanted: WantedTable, given: Sequence[str] | None) -> list[str]:
    """The columns that tell when a row was made or changed. Raises ConfigurationError where there is none."""
    names = [wanted.found.field(name).name for name in given or ()] or [
        name for name in USUAL if wanted.found.has(name)
    ]
    kinds = {name: wanted.found.field(name).datatype for name in names}
    if odd := [name for name, kind in kinds.items() if kind not in ("DATS", "DEC")]:
        raise ConfigurationError(
            f"source.sap_rfc: table {wanted.found.name}: expected a date or a time stamp (DEC), found {odd[0]} of "
            f"{kinds[odd[0]]}"
        )
    if not names:
        name = wanted.found.name
        raise ConfigurationError(
            f"source.sap_rfc: table {name}: expected a column with the day of its last change, found none of "
            f'{", ".join(USUAL)}: name it by changed_on = {{ {name} = ["..."] }}'
        )
    return names


def changed_since(wanted: WantedTable, given: Sequence[str] | None, moment: datetime) -> str:
    """The rows of that day and later; a time stamp is in UTC, so its condition begins more than a day before."""
    found = []
    for name in stamps(wanted, given):
        if wanted.found.field(name).datatype == "DATS":
            found.append(f"{name} >= '{moment:%Y%m%d}'")
        else:
            found.append(f"{name} >= {moment - _ZONE:%Y%m%d%H%M%S}")
    return either(found)

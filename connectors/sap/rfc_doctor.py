"""What a person should know of an SAP system: the routes that SAP permits, the best one here, what it lacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.base.database import Finding
from connectors.sap.rfc_config import SapRfcConfig, Signal
from connectors.sap.rfc_dictionary import Described, amounts, currency_decimals, describe
from connectors.sap.rfc_rows import WantedTable
from connectors.sap.rfc_session import Session
from connectors.sap.rfc_signals import TableKeys, object_classes
from connectors.sap.rfc_stamps import stamps
from connectors.sap.rfc_table import Ability, found, read, texts
from connectors.sap.types import CURRENCY_DECIMALS_MAX
from libcore.errors import ConfigurationError, HeadraceError
from libcore.sapfmt_rfc import calls
from libcore.schema import Table

_ORDER = {"error": 0, "warning": 1, "note": 2}
_GRANTS = "connectors/sap/rfc_grants.md"
_ROUTES = Finding(
    "note", "routes", "one that SAP permits: ODP over OData ([source.sap_odata]), tables, change documents, change "
    "pointers and BAPIs by RFC ([source.sap_rfc]), IDocs ([source.sap_idoc])",
    "SAP Note 3255746 forbids others ODP by RFC (RODPS_*): it is not called; Note 3439624 has SAP's own check",
)  # fmt: skip
_SERVICES = "/IWFND/I_MED_SRH"  # the Gateway's services
_WIDER = (
    "install SAP's add-on with /SAPDS/RFC_READ_TABLE2, or a function of your own with these parameters (`function`)"
)


def examine(session: Session, config: SapRfcConfig, tables: Sequence[str]) -> list[Finding]:
    """All findings, worst first. Raises TransientError where the system does not answer."""
    return sorted(_all(session, config, tables), key=lambda finding: _ORDER[finding.severity])


def _all(session: Session, config: SapRfcConfig, tables: Sequence[str]) -> Iterator[Finding]:
    yield _ROUTES
    about = session.attributes()
    named = [str(about.get(name, "")).strip() for name in ("sysId", "client", "partnerRel")]
    yield Finding("note", "system", "the one that is meant", "{}, client {}, release {}".format(*named))
    try:
        able = found(session, config.function)
    except ConfigurationError as error:
        yield Finding("error", "reading tables", "a function that the user may call", str(error), f"S_RFC: {_GRANTS}")
        return
    yield from _reader(session, config, able)
    for signal in sorted({config.signal_of(name) for name in tables} or {config.signal}):
        yield from _signal(session, able, config, signal)
    yield _best(session, able, config, tables)
    for name in tables:
        yield from _table(session, able, config, name)


def _best(session: Session, able: Ability, config: SapRfcConfig, tables: Sequence[str]) -> Finding:
    """Which of the permitted routes is best for these tables of this system."""
    silent = [name for name in tables if not _documented(session, able, config, name)]
    here = f"no change document tells of {', '.join(silent)}" if silent else "change documents tell of each table"
    if next(_readable(session, able, _SERVICES), None) is None:
        odata = "OData, as the Gateway is here: a service with a delta for each table brings every change and deletion"
        return Finding("note", "best route", odata, here, "/IWFND/MAINT_SERVICE lists the services; [source.sap_odata]")
    ways = "change pointers, time stamps, or IDocs" if silent else "change documents"
    return Finding("note", "best route", f"tables by RFC with {ways}, as no Gateway is seen here", here)


def _documented(session: Session, able: Ability, config: SapRfcConfig, name: str) -> bool:
    """Whether change documents tell of a table."""
    try:
        return bool(object_classes(session, able, name, config.object_classes))
    except ConfigurationError:
        return False


def _reader(session: Session, config: SapRfcConfig, able: Ability) -> Iterator[Finding]:
    """Which function reads, and what it costs."""
    if able.delimited:
        order = "in the order of keys" if able.ordered else "in no order: each page needs two probes of keys"
        severity = "note" if able.ordered else "warning"
        yield Finding(severity, "reading tables", "whole rows of any width, by key",  # type: ignore[arg-type]
                      f"{able.function} returns them as texts (ET_DATA), {order}")  # fmt: skip
    else:
        yield Finding(
            "warning", "reading tables", "a function that returns ET_DATA",
            f"{able.function}: {able.characters} characters a row, in no order: each page needs two probes of keys, a "
            "wider row several calls, each made twice; texts of any length and floating point cannot be read", _WIDER,
        )  # fmt: skip
    if config.function != "auto":
        best = found(session, "auto")
        if best.function != able.function and best.delimited and not able.delimited:
            yield Finding("note", "function", "auto", f"{able.function}, while {best.function} returns ET_DATA")
    try:
        decimals = currency_decimals(session, able)
    except HeadraceError as error:
        yield Finding("error", "TCURX", "a table that the user may read", str(error), _may_read("TCURX"))
        return
    if many := sorted(key for key, value in decimals.items() if value > CURRENCY_DECIMALS_MAX):
        found_more = f"more for {', '.join(many)}: their amounts become dead letters where digits would be lost"
        yield Finding("warning", "TCURX", f"at most {CURRENCY_DECIMALS_MAX} decimals", found_more)


def _signal(session: Session, able: Ability, config: SapRfcConfig, signal: Signal) -> Iterator[Finding]:
    """What tells of changes: may it be read, is it switched on."""
    if signal == "change_documents":
        for name in ("CDHDR", "CDPOS", "TCDOB"):
            yield from _readable(session, able, name)
    elif signal == "change_pointers":
        for function in (config.pointers_read, config.pointers_write):
            yield from _callable_from_outside(session, able, function)
        yield from _active(session, able, config.message_type or "")
    elif signal == "timestamp":
        yield Finding(
            "note", "signal", "change_documents or change_pointers, where the tables have them",
            f"timestamp: rows are found by their day of change; deletes by all keys, every {config.compare_s:g} s",
        )  # fmt: skip
    else:
        yield Finding("note", "signal", "one of change_documents, change_pointers, timestamp",
                      "none: the rows that are there, and no change")  # fmt: skip


def _callable_from_outside(session: Session, able: Ability, function: str) -> Iterator[Finding]:
    try:
        rows = texts(session, able, "TFDIR", ["FUNCNAME", "FMODE"], f"FUNCNAME = '{function}'")
    except ConfigurationError as error:
        yield Finding("warning", f"function {function}", "a look at TFDIR", str(error), _may_read("TFDIR"))
        return
    if not rows:
        yield Finding("error", f"function {function}", "a function of this system", "none of that name")
    elif rows[0].get("FMODE") != "R":
        yield Finding(
            "error", f"function {function}", "one that can be called from outside", "one that cannot (TFDIR-FMODE)",
            "write a remote-enabled function that calls it with the same parameters, and name it by pointers_read or "
            "pointers_write",
        )  # fmt: skip


def _active(session: Session, able: Ability, message_type: str) -> Iterator[Finding]:
    try:
        rows = texts(session, able, "TBDA2", ["MESTYP", "ACTIVE"], f"MESTYP = '{message_type}'")
    except ConfigurationError as error:
        yield Finding("warning", "change pointers", "a look at TBDA2", str(error), _may_read("TBDA2"))
        return
    if not rows or rows[0]["ACTIVE"] != "X":
        yield Finding("error", "change pointers", f"active for message type {message_type}", "not active",
                      f"transactions BD61 (in general) and BD50 ({message_type}); BD52 for its fields")  # fmt: skip


def _table(session: Session, able: Ability, config: SapRfcConfig, name: str) -> Iterator[Finding]:
    refused = list(_readable(session, able, name))
    yield from refused
    if refused:
        return
    what = f"table {name}"
    described = describe(session, able, name)
    for text in described.left_out:
        yield Finding("warning", what, "every field exactly", text.split(": ", 1)[1], _WIDER)
    try:
        amounts(session, able, described, [one.name for one in described.fields], config.currency)
        wanted = WantedTable(Table(name, (), ()), described)
        signal = config.signal_of(name)
        if signal in ("change_documents", "change_pointers"):
            TableKeys({name: wanted})
        if signal == "change_documents":
            object_classes(session, able, name, config.object_classes)
        elif signal == "timestamp":
            stamps(wanted, config.changed_on.get(name))
    except ConfigurationError as error:
        yield Finding("error", what, "a key, a signal and a currency for each amount", error.message)
        return
    yield from _width(able, described)


def _width(able: Ability, described: Described) -> Iterator[Finding]:
    if not able.characters:
        return
    lengths = [one.length for one in (*described.key, *(one for one in described.fields if one not in described.key))]
    parts = len(calls(lengths, len(described.key), most=able.characters))
    if parts > 1:
        cost = f"{sum(lengths)}: {parts} calls for each page, all but one made twice; `columns` makes them fewer"
        yield Finding("note", f"table {described.name}", f"rows of at most {able.characters} characters", cost)


def _readable(session: Session, able: Ability, name: str) -> Iterator[Finding]:
    try:
        key = [one.name for one in describe(session, able, name).fields[:1]]
        read(session, able, name, key, rows_max=1)
    except ConfigurationError as error:
        yield Finding("error", f"table {name}", "a table that the user may read", error.message, _may_read(name))


def _may_read(name: str) -> str:
    return f"S_TABU_NAM with ACTVT 03, TABLE {name} ({_GRANTS})"

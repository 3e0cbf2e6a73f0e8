"""The pyrfc package, whichever distribution brings it, and its errors as those of libcore.errors."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from connectors.base import secrets
from connectors.sap.rfc_config import SapRfcConfig
from libcore.errors import ConfigurationError, FatalError, HeadraceError, TransientError

_INSTALL = (
    "pip install 'headrace[sap]' brings pyrfcx, which loads SAP's NW RFC SDK: download it with an S-user from "
    "support.sap.com (SAP NW RFC SDK 7.50), unpack it, and set SAPNWRFC_HOME and LD_LIBRARY_PATH to it"
)
_GONE = {"RFC_CLOSED", "RFC_CANCELED", "RFC_TIMEOUT", "RFC_INVALID_HANDLE", "RFC_COMMUNICATION_FAILURE"}
_PASSING = {
    "TIME_OUT", "TSV_TNEW_PAGE_ALLOC_FAILED", "TSV_NEW_PAGE_ALLOC_FAILED", "SYSTEM_NO_ROLL", "MEMORY_NO_MORE_PAGING",
    "DBIF_RSQL_SQL_ERROR", "DBIF_RTAB_SQL_ERROR", "RFC_NO_FREE_WP", "SYSTEM_FAILURE",
}  # fmt: skip
"""Runtime errors that pass by themselves, or with fewer rows a call."""


class TooWide(HeadraceError):
    """The function's row is too short for the fields asked for (DATA_BUFFER_EXCEEDED)."""


class TooMuch(TransientError):
    """A call took too long, or too much memory: it is to be asked for less."""


class NotThere(ConfigurationError):
    """A function or a table that the system does not have, or that the user may not use; `key` as the system says."""

    key = ""


def driver() -> Any:
    """The pyrfc module. Raises ConfigurationError that says what to install."""
    try:
        return import_module("pyrfc")
    except ImportError as error:
        raise ConfigurationError(f"source.sap_rfc: expected the package pyrfc, found {error}; {_INSTALL}") from error


def connect(config: SapRfcConfig) -> Any:
    """A connection. Blocks as long as a gateway is silent. Raises errors of libcore.errors."""
    module = driver()
    try:
        return module.Connection(config={"rstrip": False, "dtime": False}, **parameters(config))
    except Exception as error:
        raise translated(error, "log on") from error


def parameters(config: SapRfcConfig) -> dict[str, str]:
    """What the logon needs, the password in it."""
    plain = ("ashost", "mshost", "msserv", "r3name", "group", "saprouter")
    found = {name: value for name in plain if (value := getattr(config, name)) is not None}
    if config.ashost is not None:
        found["sysnr"] = config.sysnr
    found |= {"client": config.client, "user": secrets.plain(config.user), "lang": config.lang}
    if config.passwd is not None:
        found["passwd"] = secrets.resolve(config.passwd).reveal()
    if config.snc is not None:
        found |= {"snc_mode": "1", "snc_partnername": config.snc.partner_name, "snc_qop": config.snc.quality}
        found |= {} if config.snc.my_name is None else {"snc_myname": config.snc.my_name}
        found |= {} if config.snc.library is None else {"snc_lib": config.snc.library}
    return found


def translated(error: Exception, doing: str) -> HeadraceError:
    """An error of any distribution of pyrfc by its class's name and key: what passes, and what a person must see to."""
    if isinstance(error, HeadraceError):
        return error
    names = {one.__name__ for one in type(error).__mro__}
    key = str(getattr(error, "key", "") or "")
    text = f"source.sap_rfc: {doing}: {_text(error)}"
    if "SdkNotFoundError" in names or "libsapnwrfc" in str(error):
        return ConfigurationError(f"{text}; {_INSTALL}")
    if key == "DATA_BUFFER_EXCEEDED":
        return TooWide(text)
    if "CommunicationError" in names or key in _GONE:
        return TransientError(text)
    if "LogonError" in names:
        return ConfigurationError(f"{text}; it is not tried again, as SAP locks a user after some failures")
    if "ABAPRuntimeError" in names or "ABAPApplicationError" in names:
        return _of_abap(error, key, text)
    if "ExternalRuntimeError" in names or "RFCError" in names:
        return ConfigurationError(text)
    return FatalError(text)


def _of_abap(error: Exception, key: str, text: str) -> HeadraceError:
    if key in ("NOT_AUTHORIZED", "TABLE_NOT_AVAILABLE", "FU_NOT_FOUND", "FUNCTION_NOT_EXIST", "NOT_FOUND",
               "CALL_FUNCTION_NOT_REMOTE", "RFC_NO_AUTHORITY", "CALL_FUNCTION_NOT_FOUND"):  # fmt: skip
        found = NotThere(f"{text}; the user needs connectors/sap/rfc_grants.md")
        found.key = key
        return found
    if key in _PASSING:
        return TooMuch(text)
    if key == "FIELD_NOT_VALID":
        return FatalError(f"{text}; the table has changed: start again to read its fields anew")
    return ConfigurationError(text)


def _text(error: Exception) -> str:
    """What an error says, without the parameters of the logon."""
    parts = [str(getattr(error, name, "") or "") for name in ("key", "message")]
    known = ": ".join(part for part in parts if part)
    return f"{type(error).__name__}: {known or str(error)}"

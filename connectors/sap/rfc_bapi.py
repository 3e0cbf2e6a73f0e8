"""BAPIs that a person has allowed: called, judged by their RETURN, committed or rolled back.

Nothing is called that `bapi_allowed` does not name. Values are checked against the function's own parameters before
they are sent, because the library cuts texts and wraps numbers without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from connectors.sap.rfc_config import SapRfcConfig
from connectors.sap.rfc_session import Session
from libcore.errors import ConfigurationError, DataError, FatalError, TransientError

_FAILED = ("E", "A", "X")
_RANGES = {"RFCTYPE_INT1": (0, 255), "RFCTYPE_INT2": (-(1 << 15), (1 << 15) - 1),
           "RFCTYPE_INT": (-(1 << 31), (1 << 31) - 1), "RFCTYPE_INT8": (-(1 << 63), (1 << 63) - 1)}  # fmt: skip
_SIZED = ("RFCTYPE_CHAR", "RFCTYPE_NUM", "RFCTYPE_DATE", "RFCTYPE_TIME", "RFCTYPE_BYTE")


class Bapis:
    """Calls of allowed BAPIs, each a transaction of its own. Used by one thread.

    Args:
        config: where, who, and `bapi_allowed`.
    """

    def __init__(self, config: SapRfcConfig) -> None:
        self._config, self._session = config, Session(config)

    def call(self, name: str, **parameters: Any) -> dict[str, Any]:
        """What the BAPI answers, its changes committed.

        Raises:
            ConfigurationError: it is not allowed, or not there.
            DataError: a value does not fit its parameter, or RETURN tells of an error; nothing was changed then.
            FatalError: no answer came to the BAPI or to its commit: whether it was done is not known.
        """
        if name not in self._config.bapi_allowed:
            allowed = ", ".join(self._config.bapi_allowed) or "none"
            raise ConfigurationError(f"source.sap_rfc: expected a function of bapi_allowed ({allowed}), found {name}")
        check(name, self._session.description(name).parameters, parameters)
        try:
            answer = self._session.call(name, **parameters)
            if failed := list(_failures(answer)):
                self._session.call("BAPI_TRANSACTION_ROLLBACK")
                raise DataError(f"{name}: {'; '.join(failed)}")
            committed = self._session.call("BAPI_TRANSACTION_COMMIT", WAIT="X")
        except TransientError as error:
            raise FatalError(
                f"{name}: no answer: whether it was done is not known; look before it is called again: {error}"
            ) from error
        if failed := list(_failures(committed)):
            raise FatalError(f"{name}: its commit failed: {'; '.join(failed)}")
        return answer

    def close(self) -> None:
        """Log off."""
        self._session.close()


def _failures(answer: Mapping[str, Any]) -> Iterator[str]:
    """What RETURN (a row or a table) tells of errors."""
    told = answer.get("RETURN") or ()
    for row in (told,) if isinstance(told, Mapping) else told:
        if str(row.get("TYPE", "")).strip() in _FAILED:
            number = f"{row.get('ID', '')} {row.get('NUMBER', '')}".strip()
            yield f"{row['TYPE']} {number}: {str(row.get('MESSAGE', '')).strip()}"


def check(where: str, described: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> None:
    """Values against what the system says of a function's parameters, or of a structure's fields. Raises DataError."""
    known = {str(one["name"]): one for one in described}
    for name, value in values.items():
        if name not in known:
            raise DataError(f"{where}: expected one of {', '.join(known)}, found {name}")
        _check_one(f"{where}: {name}", known[name], value)


def _check_one(where: str, described: Mapping[str, Any], value: Any) -> None:
    kind = str(described.get("parameter_type") or described.get("field_type"))
    inner = described.get("type_description")
    if kind in ("RFCTYPE_TABLE", "RFCTYPE_STRUCTURE"):
        rows = value if kind == "RFCTYPE_TABLE" else [value]
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
            wanted = "rows of fields" if kind == "RFCTYPE_TABLE" else "fields"
            raise DataError(f"{where}: expected {wanted} by name, found {value!r}")
        for row in rows:
            if inner is not None:
                check(where, inner.fields, row)
    elif kind in _RANGES:
        low, high = _RANGES[kind]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise DataError(f"{where}: expected a whole number from {low} to {high}, found {value!r}")
    elif kind in _SIZED:
        length = int(described["nuc_length"])
        if not isinstance(value, str | bytes):
            raise DataError(f"{where}: expected a text, found {value!r}")
        if len(value) > length:
            raise DataError(f"{where}: expected at most {length} characters, found {len(value)}")
        if kind == "RFCTYPE_NUM" and not str(value).isdigit():
            raise DataError(f"{where}: expected digits, found {value!r}")
    elif kind == "RFCTYPE_BCD":
        _check_packed(where, 2 * int(described["nuc_length"]) - 1, int(described["decimals"]), value)


def _check_packed(where: str, digits: int, decimals: int, value: Any) -> None:
    try:
        number = Decimal(str(value))
        exact = number == round(number, decimals)
    except InvalidOperation:
        exact = False
    if not exact or abs(number) >= Decimal(10) ** (digits - decimals):
        raise DataError(f"{where}: expected a number of {digits} digits, {decimals} of them decimals, found {value!r}")

"""The [source.sap_rfc] section: an SAP system read by remote function calls, and how changed rows are found."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from connectors.base.config import Config
from connectors.base.guardian import Guardian
from connectors.base.secrets import SUPPORTED, Reference

FORBIDDEN = "RODPS_"
"""How SAP's functions for ODP begin: SAP Note 3255746 does not permit them to others."""
_COMPARE_S = 3600.0
Signal = Literal["change_documents", "change_pointers", "timestamp", "none"]


def check_name(name: str) -> str:
    """A function's name, where it may be called. Raises ValueError."""
    if name.upper().startswith(FORBIDDEN):
        raise ValueError(
            f"expected a function that SAP permits, found {name}: SAP Note 3255746 does not permit ODP by RFC; read "
            "the extractor by [source.sap_odata], or its tables by [source.sap_rfc]"
        )
    if not re.fullmatch(r"(/[A-Za-z0-9_]{1,10}/)?[A-Za-z0-9_]{1,30}", name) or len(name) > 30:
        raise ValueError(f"expected the name of a function, found {name!r}")
    return name


class Snc(Config):
    """`[source.sap_rfc.snc]`: an encrypted connection, with a certificate instead of a password or beside it."""

    partner_name: str = Field(min_length=1)
    """The system's SNC name, such as "p:CN=S4H, O=ACME, C=DE"."""
    my_name: str | None = None
    """The SNC name of this side; default: that of the library's credentials."""
    library: str | None = None
    """Path of the cryptographic library (libsapcrypto.so); default: the environment variable SNC_LIB."""
    quality: Literal["1", "2", "3", "8", "9"] = "8"
    """What is protected: 1 who it is, 2 integrity too, 3 privacy too, 8 as the system wants, 9 the most there is."""


class SapGuardian(Guardian):
    """`[source.sap_rfc.guardian]`: what the SAP system is spared."""

    query_seconds_max: float = Field(default=120.0, gt=0, le=86_400)
    """A call that takes longer is given up, its connection with it: a gateway that is silent never answers."""
    abandoned_max: int = Field(default=8, ge=1, le=100)
    """Calls that were given up and still hang, in one process; with so many no further one is started."""


class SapRfcConfig(Config):
    """Where the system is, who logs on, which function reads tables, and what tells that rows changed."""

    ashost: str | None = None
    """The application server; or `mshost` and `group`, to be given one by the message server."""
    sysnr: str = Field(default="00", pattern="^[0-9]{2}$")
    """Its number."""
    mshost: str | None = None
    """The message server."""
    msserv: str | None = None
    """Its service or port; default: sapms and the system's id."""
    r3name: str | None = None
    """The system's id, beside `mshost`."""
    group: str | None = None
    """The logon group, beside `mshost`."""
    saprouter: str | None = None
    """The route string, such as "/H/router/S/3299"."""
    client: str = Field(pattern="^[0-9]{3}$")
    """The client (MANDT); rows of others are not seen."""
    user: str = Field(min_length=1)
    """Who logs on: a system user. Perhaps a reference to a secret."""
    passwd: Reference | None = None
    """Reference to the password (env:NAME or file:/path); none beside `snc`."""
    lang: str = Field(default="EN", pattern="^[A-Z]{2}$")
    """The language of messages."""
    snc: Snc | None = None
    """An encrypted connection."""

    function: str = "auto"
    """The function that reads tables; auto: the best one that the system has and the user may call."""
    names: tuple[str, ...] = ()
    """Which tables patterns are matched against, such as ["VB*", "KNA1"]; default: every table of the dictionary."""
    signal: Signal = "change_documents"
    """What tells that rows changed; none: the rows that are there, and no more."""
    signals: dict[str, Signal] = Field(default_factory=dict)
    """Table -> another signal than the others': EKBE has no change documents, and never changes a row."""
    message_type: str | None = Field(default=None, min_length=1, max_length=30)
    """The message type of the change pointers; no other reader may use it."""
    object_classes: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Table -> classes of change documents (OBJECTCLAS); default: those that TCDOB names."""
    changed_on: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Table -> columns with the day of the last change, of the creation; default: those of the usual names."""
    currency: dict[str, str] = Field(default_factory=dict)
    """ "TABLE.FIELD" -> where an amount's currency stands: a column of the table, "=EUR", or "stored": not shifted."""
    version: dict[str, str] = Field(default_factory=dict)
    """Table -> a column that is another after each change: halves of a wide row belong together where it is equal."""
    alpha: Literal["internal", "external"] = "internal"
    """Values with the conversion ALPHA as they stand in the table, or without zeros in front; keys as they stand."""
    initial_null: bool = False
    """ABAP's initial values (blank, zero) as NULL, but in keys. A date of zeros is NULL in any case."""
    pointers_read: str = "CHANGE_POINTERS_READ"
    """What reads change pointers; a wrapper of your own where SAP's cannot be called from outside."""
    pointers_write: str = "CHANGE_POINTERS_STATUS_WRITE"
    """What marks them as processed; as above."""
    bapi_allowed: tuple[str, ...] = ()
    """BAPIs and functions that may be called to write; none by default."""

    overlap_seconds: int = Field(default=300, ge=1, le=86_400)
    """How far behind the newest change document is looked again: each has the time at which its change began."""
    compare_seconds: float = Field(default=0.0, ge=0)
    """How often all keys are compared, which shows rows that went unseen; 0: never, under "timestamp" every hour."""
    chunk_rows: int = Field(default=10_000, ge=1, le=1_000_000)
    """Rows that one call of the snapshot reads."""
    batch_rows_max: int = Field(default=20_000, ge=1, le=1_000_000)
    """Rows in one batch, which is one epoch of the partition."""
    queued_bytes_max: int = Field(default=64 << 20, ge=1 << 20, le=1 << 30)
    """Bytes read ahead."""
    where_characters_max: int = Field(default=2000, ge=200, le=100_000)
    """How long a WHERE clause may be; keys that do not fit are asked for in more calls."""
    poll_s: float = Field(default=10.0, ge=0.01, le=86_400)
    """How often a system that had nothing new is asked again."""
    guardian: SapGuardian = SapGuardian()
    """What the system is spared."""

    def signal_of(self, table: str) -> Signal:
        """What tells of a table's changes."""
        return self.signals.get(table, self.signal)

    @property
    def compare_s(self) -> float:
        """How often all keys are compared, of every table or of those under "timestamp"."""
        return self.compare_seconds or _COMPARE_S

    def compared(self, table: str) -> bool:
        """Whether a table's keys are compared."""
        signal = self.signal_of(table)
        return signal == "timestamp" or (signal != "none" and self.compare_seconds > 0)

    @field_validator("function", "pointers_read", "pointers_write")
    @classmethod
    def _is_permitted(cls, name: str) -> str:
        return check_name(name)

    @field_validator("bapi_allowed")
    @classmethod
    def _are_permitted(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_name(name) for name in names)

    @model_validator(mode="after")
    def _is_whole(self) -> SapRfcConfig:
        if (self.ashost is None) == (self.mshost is None):
            raise ValueError("expected ashost, or mshost with r3name and group, found both or none of them")
        if self.mshost is not None and (self.group is None or self.r3name is None):
            raise ValueError("expected r3name and group beside mshost")
        if self.passwd is None and self.snc is None:
            raise ValueError(f"expected passwd, a reference ({SUPPORTED}), or [source.sap_rfc.snc]")
        if ("change_pointers" in (self.signal, *self.signals.values())) != (self.message_type is not None):
            raise ValueError('expected message_type beside the signal "change_pointers", and beside it alone')
        return self

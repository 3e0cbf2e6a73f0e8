"""The [source.sap_odata] section: where the gateway is, who logs in, which services are read and how."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from connectors.base.config import Config
from connectors.base.guardian import Guardian
from connectors.base.secrets import Reference, is_reference

SERVICES = "/sap/opu/odata/sap"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class OAuth(Config):
    """`[source.sap_odata.oauth]`: OAuth 2.0 client credentials."""

    token_url: str = Field(min_length=1)
    """Where tokens are asked for: an address, or a path at `url`."""
    client_id: str
    """The client's name, or a reference to it."""
    client_secret: Reference
    """A reference to the client's secret (env:NAME or file:/path)."""
    scope: str = ""
    """What the token is for, where the server wants it said."""


class SapHttp(Config):
    """A SAP system by HTTP, and a login."""

    url: str = Field(min_length=1)
    """The system's address, without a path: https://erp.example.com:44300; or a reference to it."""
    user: str | None = Field(default=None, min_length=1)
    """The user, or a reference to it."""
    password: Reference | None = None
    """A reference to the password (env:NAME or file:/path)."""
    oauth: OAuth | None = None
    """Instead of user and password: OAuth 2.0 client credentials."""
    client: str | None = Field(default=None, pattern=r"^\d{3}$")
    """The SAP client, three digits; default: the system's own."""
    ca_file: str | None = Field(default=None, min_length=1)
    """Certificates that are trusted, as a PEM file; default: those of the machine."""
    answer_s_max: float = Field(default=300.0, gt=0, le=3600)
    """How long one answer may take; after it the source tries again by itself."""
    body_bytes_max: int = Field(default=256 << 20, ge=1 << 16, le=1 << 31)
    """What one answer may hold."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if is_reference(url) or (parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/")):
            return url.rstrip("/")
        raise ValueError("expected http:// or https://, a host, and no path: a service's path stands in `services`")

    @model_validator(mode="after")
    def _one_login(self) -> SapHttp:
        if (self.user is None) != (self.password is None):
            raise ValueError("expected `user` and `password` together")
        if self.user is not None and self.oauth is not None:
            raise ValueError("expected `user` and `password`, or `oauth`, found both")
        return self


class SapODataConfig(SapHttp):
    """OData services of a SAP system: tables are their entity sets, named SERVICE/EntitySet in `[tables.X] topic`."""

    services: tuple[str, ...] | dict[str, str] = Field(min_length=1)
    """Services below /sap/opu/odata/sap by name; or, as a table, a name for each path: of V4, of other namespaces."""
    follow: Literal["delta", "nothing"] = "delta"
    """After the initial load: bring the changes by delta links; or end there."""
    once: tuple[str, ...] = ()
    """Tables, as SERVICE/EntitySet, that have no deltas: they are loaded, and not followed."""
    page_rows: int = Field(default=5_000, ge=1, le=1_000_000)
    """Entities of one answer, as the server is asked; it may give fewer."""
    batch_rows_max: int = Field(default=20_000, ge=1, le=1_000_000)
    """Rows in one batch, which is one epoch of an entity set."""
    queued_bytes_max: int = Field(default=64 << 20, ge=1 << 20, le=1 << 30)
    """Bytes read ahead, for each entity set."""
    poll_s: float = Field(default=30.0, ge=0.01, le=86_400)
    """How often changes are asked for."""
    guardian: Guardian = Guardian()
    """Bounds of the initial load: rows a second, business hours."""

    @field_validator("services")
    @classmethod
    def _are_names(cls, services: tuple[str, ...] | dict[str, str]) -> tuple[str, ...] | dict[str, str]:
        if wrong := [name for name in services if not _NAME.fullmatch(name)]:
            raise ValueError(f"expected names of A-Z, a-z, 0-9 and `_`, found {wrong[0]!r}: give its path a name")
        paths = services.values() if isinstance(services, dict) else ()
        if wrong := [path for path in paths if not path.startswith("/") or "?" in path]:
            raise ValueError(f"expected a path that begins with /, found {wrong[0]!r}")
        if len(set(services)) < len(services):
            raise ValueError("expected each service once")
        return services

    def follows(self, name: str) -> bool:
        """Whether a table's changes are brought, too."""
        return self.follow == "delta" and name not in self.once

    @property
    def paths(self) -> dict[str, str]:
        """Each service's path by its name."""
        if isinstance(self.services, dict):
            return {name: path.rstrip("/") for name, path in self.services.items()}
        return {name: f"{SERVICES}/{name}" for name in self.services}

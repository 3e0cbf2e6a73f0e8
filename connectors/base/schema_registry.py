"""Where the schemas of Avro messages are kept: the settings of a registry, and what a client of one answers."""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import Field, field_validator, model_validator

from connectors.base import secrets
from connectors.base.config import Config


class SchemaRegistryConfig(Config):
    """A registry: a server that speaks Confluent's API, or a directory of ID.avsc files. Exactly one of the two."""

    url: str | None = None
    """Its base address, "https://host:port[/path]"; /schemas/ids/ID is asked for below it."""
    directory: str | None = None
    """A directory whose file ID.avsc holds the schema of that id."""
    framing: Literal["confluent", "apicurio"] = "confluent"
    """What stands before a body: a 0 byte and an id of 4 bytes, or of 8 (Apicurio's default)."""
    user: str | None = None
    """User name for basic authentication; plain, or a reference."""
    password: secrets.Reference | None = Field(default=None, repr=False)
    """Its password: env:NAME or file:/path."""
    timeout_s: float = Field(default=10.0, gt=0)
    """How long one request may take."""
    wait_s_max: float = Field(default=60.0, ge=0)
    """How long a server that does not answer is asked again before the flow stops."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("expected an address that begins with http:// or https://")
        if url is not None and "@" in url.partition("://")[2].partition("/")[0]:
            raise ValueError("expected an address without user and password: they have settings of their own")
        return url

    @model_validator(mode="after")
    def _one_place(self) -> SchemaRegistryConfig:
        if (self.url is None) == (self.directory is None):
            raise ValueError("expected exactly one of url, directory")
        if (self.user is None) != (self.password is None):
            raise ValueError("expected user and password together")
        return self


class SchemaRegistry(Protocol):
    """Schemas by id. An id names one schema for ever, so an answer may be kept."""

    def schema(self, schema_id: int) -> str:
        """The JSON of an Avro schema.

        Raises: DataError where the registry has no such id, or it is no Avro schema; TransientError where it does not
        answer; ConfigurationError where it refuses the login.
        """

"""Schema registries: over HTTP (Confluent's API, which Apicurio serves too) and as a directory of ID.avsc files."""

from __future__ import annotations

import base64
import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path

from connectors.base import retry, secrets
from connectors.base.schema_registry import SchemaRegistry, SchemaRegistryConfig
from libcore.errors import ConfigurationError, DataError, TransientError

SCHEMA_BYTES_MAX = 16 << 20
MISSING_S = 30.0
"""How long an id that is not there is not asked for again: a topic full of them must not flood the server."""


def open_registry(config: SchemaRegistryConfig) -> SchemaRegistry:
    """The client that the settings ask for; nothing is read yet but the secrets. Raises ConfigurationError."""
    if config.directory is not None:
        return DirectoryRegistry(Path(config.directory))
    return HttpRegistry(config)


class DirectoryRegistry:
    """Schemas in files: DIRECTORY/7.avsc has the schema of id 7. Raises ConfigurationError for no directory."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise ConfigurationError(f"source.kafka.registry: {directory}: expected a directory of ID.avsc files")
        self._directory = directory
        self._known: dict[int, str] = {}

    def schema(self, schema_id: int) -> str:
        """See SchemaRegistry.schema."""
        if schema_id not in self._known:
            path = self._directory / f"{schema_id}.avsc"
            try:
                self._known[schema_id] = path.read_text("utf-8")
            except FileNotFoundError as error:
                raise DataError(f"SCHEMA: no schema {schema_id}: expected a file {path}", byte_position=0) from error
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigurationError(f"source.kafka.registry: {path}: {error}") from error
        return self._known[schema_id]


class HttpRegistry:
    """Schemas from a server: GET URL/schemas/ids/ID answers {"schema": "..."}; each id is asked for once."""

    def __init__(self, config: SchemaRegistryConfig) -> None:
        assert config.url is not None, "open_registry takes care of it"
        self._url, self._config = config.url.rstrip("/"), config
        self._known: dict[int, str] = {}
        self._missing: dict[int, tuple[float, DataError]] = {}
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if config.user is not None and config.password is not None:
            login = f"{secrets.plain(config.user)}:{secrets.resolve(config.password).reveal()}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()

    def schema(self, schema_id: int) -> str:
        """See SchemaRegistry.schema. Waits and asks again, up to wait_s_max, while the server does not answer."""
        if schema_id in self._known:
            return self._known[schema_id]
        asked, missing = self._missing.get(schema_id, (0.0, None))
        if missing is not None and time.monotonic() - asked < MISSING_S:
            raise missing
        what = f"schema {schema_id} of {self._url}"
        try:
            text = retry.call(what, lambda: self._ask(schema_id), total_s=self._config.wait_s_max)
        except DataError as error:
            self._missing[schema_id] = (time.monotonic(), error)
            raise
        self._known[schema_id] = text
        return text

    def _ask(self, schema_id: int) -> str:
        address = f"{self._url}/schemas/ids/{schema_id}"
        try:
            status, data, left = self._answer(address)
        except (OSError, http.client.HTTPException) as error:  # no connection, no answer in time, half of one
            raise TransientError(f"{address}: {error!r}") from error
        if status != 200:
            raise _refusal(address, schema_id, status, is_missing=bool(self._known) or _NO_SCHEMA in data)
        if len(data) > SCHEMA_BYTES_MAX:
            raise DataError(f"SCHEMA: {address}: expected at most {SCHEMA_BYTES_MAX} bytes", byte_position=0)
        if left:
            raise TransientError(f"{address}: the answer ended {left} bytes early")
        return _schema_text(address, data)

    def _answer(self, address: str) -> tuple[int, bytes, int]:
        """Status, text (a byte more than a schema may have) and how many bytes did not come."""
        request = urllib.request.Request(address, headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=self._config.timeout_s) as answer:
                return answer.status, answer.read(SCHEMA_BYTES_MAX + 1), answer.length or 0
        except urllib.error.HTTPError as error:
            return error.code, error.read(SCHEMA_BYTES_MAX + 1), 0


_NO_SCHEMA = b"40403"
"""The code of a schema that is not there (Confluent's API reference, GET /schemas/ids/{int: id})."""


def _refusal(address: str, schema_id: int, status: int, *, is_missing: bool) -> Exception:
    """What a status other than 200 is. `is_missing`: a 404 is a registry's, not that of a wrong path."""
    if status == 404:  # a wrong path would make every message a dead letter
        if is_missing:
            return DataError(f"SCHEMA: no schema {schema_id} at {address}", byte_position=0)
        return ConfigurationError(
            f"source.kafka.registry: {address}: expected a schema registry, found status 404 without its error code "
            "40403 (no such schema): is the path of `url` right?"
        )
    if status in (401, 403):
        return ConfigurationError(f"source.kafka.registry: {address}: the login was refused ({status})")
    if status >= 500 or status in (408, 429):
        return TransientError(f"{address}: status {status}")
    return ConfigurationError(f"source.kafka.registry: {address}: expected a schema, found status {status}")


def _schema_text(address: str, data: bytes) -> str:
    try:
        answer = json.loads(data)
        text, kind = answer["schema"], answer.get("schemaType") or "AVRO"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(
            f'source.kafka.registry: {address}: expected {{"schema": ...}}, found {data[:80]!r}'
        ) from error
    if kind != "AVRO" or not isinstance(text, str):
        raise DataError(f"SCHEMA: {address}: expected an Avro schema, found {kind}", byte_position=0)
    if answer.get("references"):
        raise DataError(f"SCHEMA: {address}: references to other schemas are not followed", byte_position=0)
    return text

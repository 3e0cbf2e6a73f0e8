"""What is amiss with a SAP system's OData services, and which routes out of this system are permitted and best.

Permitted to a third party are OData services (ODP's too), RFC table reads and BAPIs of released or own function
modules, change documents, change pointers and IDocs. Not permitted is ODP by RFC (RODPS_REPL_*, SAP Note 3255746):
there is no such source here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.base.database import Finding
from connectors.base.secrets import plain
from connectors.sap.http import Gateway, GatewayError
from connectors.sap.odata_config import SapODataConfig
from connectors.sap.odata_metadata import EntitySet
from libcore.errors import ConfigurationError, TransientError

NOTE = "SAP Note 3255746"
_ORDER = {"error": 0, "warning": 1, "note": 2}
_ACCEPT = {"Accept": "application/json"}


def examine(gateway: Gateway, config: SapODataConfig, entities: Sequence[EntitySet]) -> list[Finding]:
    """All findings, worst first."""
    found = [finding for entity in entities for finding in _entity(gateway, config, entity)]
    if plain(config.url).startswith("http://"):
        found.append(
            Finding("warning", "url", "https, as logins and rows travel there", "http", "SMICM names the HTTPS port")
        )
    if config.user is None and config.oauth is None:
        found.append(Finding("warning", "login", "user and password, or oauth", "none"))
    found.append(_routes(entities))
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


def _entity(gateway: Gateway, config: SapODataConfig, entity: EntitySet) -> Iterator[Finding]:
    name = entity.table.name
    what = f"entity set {name}"
    try:
        gateway.get(f"{entity.path}?$top=1", _ACCEPT)
    except (GatewayError, ConfigurationError) as error:
        yield Finding("error", what, "entities that the user may read", str(error), "SU53 and /IWFND/ERROR_LOG say why")
        return
    except TransientError as error:
        yield Finding("error", what, "an answer", str(error))
        return
    if config.follows(name) and not entity.tracks:
        yield Finding(
            "warning", what, "a delta queue (ODP's DeltaLinksOf or SubscribedTo, change tracking)",
            "nothing of it in $metadata", f'enable the delta in the provider; -- or once = ["{name}"]',
        )  # fmt: skip
    elif entity.tracks:
        yield Finding("note", what, "a delta queue", entity.tracks)
    if entity.queued and config.follows(name):
        yield Finding(
            "note", what, "one subscriber, as a delta queue has one for each user and service",
            "this pipeline's user; ODQMON shows the subscription and how long its data stays",
        )  # fmt: skip
    if entity.queued and config.follows(name):
        yield Finding("note", what, "a delta that overwrites: whole rows, not differences", _images(entity))
    if not entity.table.key:
        yield Finding("error", what, "a key", "none", f'key = [...] in the [tables.X] of "{name}"')


def _images(entity: EntitySet) -> str:
    """What is known of the delta's images."""
    if entity.record_mode:
        return f"{entity.record_mode} tells: rows with A (additive) become dead letters"
    return "nothing that tells: for a DataSource see its delta in ROOSOURCE; ADD and ADDD send differences"


def _routes(entities: Sequence[EntitySet]) -> Finding:
    """Which route is best here, of those that are permitted."""
    queued = sorted({entity.service for entity in entities if entity.tracks})
    best = (
        f"OData with delta queues ({', '.join(queued)}): every change and deletion, by pull"
        if queued
        else "IDocs ([source.sap_idoc]) or change pointers ([source.sap_rfc]) for changes, OData for the first load"
    )
    return Finding(
        "note", "route", f"a permitted one: OData, IDocs, RFC table reads; not ODP by RFC (RODPS_REPL_*, {NOTE})", best
    )

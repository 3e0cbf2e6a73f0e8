"""The gateway's answers: EDMX, pages of entities and errors, in the words of OData V2 and V4."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from tests.doubles.sap.queue import EntitySet, Row

SERVICE = "ZERP_SRV"
PATHS = {2: f"/sap/opu/odata/sap/{SERVICE}", 4: f"/sap/opu/odata4/sap/{SERVICE.lower()}/srvd_a2x/sap/zerp/0001"}
_HOST = "http://erp.internal:8000"
_ODQ = (
    ("ODQ_CHANGEMODE", "Edm.String", 'MaxLength="1"'),
    ("ODQ_ENTITYCNTR", "Edm.Decimal", 'Precision="19" Scale="0"'),
)


def metadata(sets: Sequence[EntitySet], version: int) -> bytes:
    """$metadata of all sets."""
    edmx = ("http://schemas.microsoft.com/ado/2007/06/edmx", "1.0")
    edm = "http://schemas.microsoft.com/ado/2008/09/edm"
    if version == 4:
        edmx, edm = ("http://docs.oasis-open.org/odata/ns/edmx", "4.0"), "http://docs.oasis-open.org/odata/ns/edm"
    types, entries = [], []
    for one in sets:
        keys = "".join(f'<PropertyRef Name="{name}"/>' for name in one.key)
        properties = "".join(
            f'<Property Name="{each.name}" Type="{each.type}" {each.attributes}/>' for each in one.properties
        )
        if one.queued and version == 2:
            properties += "".join(f'<Property Name="{name}" Type="{kind}" {more}/>' for name, kind, more in _ODQ)
        types.append(f'<EntityType Name="{one.name}Type"><Key>{keys}</Key>{properties}</EntityType>')
        entries.append(f'<EntitySet Name="{one.name}" EntityType="{SERVICE}.{one.name}Type"/>')
        if one.queued and version == 2:
            types.append(
                f'<EntityType Name="DeltaLinksOf{one.name}Type"><Key><PropertyRef Name="DeltaToken"/></Key>'
                '<Property Name="DeltaToken" Type="Edm.String" Nullable="false"/></EntityType>'
            )
            entries.append(
                f'<EntitySet Name="DeltaLinksOf{one.name}" EntityType="{SERVICE}.DeltaLinksOf{one.name}Type"/>'
                f'<FunctionImport Name="SubscribedTo{one.name}"/><FunctionImport Name="TerminateDeltasFor{one.name}"/>'
            )
    return (
        f'<?xml version="1.0" encoding="utf-8"?><edmx:Edmx Version="{edmx[1]}" xmlns:edmx="{edmx[0]}">'
        f'<edmx:DataServices><Schema Namespace="{SERVICE}" xmlns="{edm}" '
        f'xmlns:sap="http://www.sap.com/Protocols/SAPData">{"".join(types)}'
        f'<EntityContainer Name="{SERVICE}_Entities">{"".join(entries)}</EntityContainer>'
        "</Schema></edmx:DataServices></edmx:Edmx>"
    ).encode()


def page(one: EntitySet, version: int, rows: Sequence[Row], next_link: str, delta_link: str, *, delta: bool) -> bytes:
    """Some entities and the link behind them. A host of its own stands in the links, as behind a proxy."""
    base = f"{_HOST}{PATHS[version]}/"
    if version == 2:
        return v2(results(one, rows), next_link, delta_link)
    value = [_v4(one, row, base) for row in rows]
    body: dict[str, Any] = {"@odata.context": f"$metadata#{one.name}{'/$delta' if delta else ''}", "value": value}
    body |= {"@odata.nextLink": base + next_link} if next_link else {}
    body |= {"@odata.deltaLink": base + delta_link} if delta_link else {}
    return json.dumps(body, separators=(",", ":")).encode()


def results(one: EntitySet, rows: Sequence[Row]) -> bytes:
    """Some entities of V2."""
    base = f"{_HOST}{PATHS[2]}/"
    found = [{"__metadata": {"uri": f"{base}{_address(one, row)}", "type": SERVICE}, **row} for row in rows]
    return json.dumps(found, separators=(",", ":")).encode()


def v2(entities: bytes, next_link: str, delta_link: str) -> bytes:
    """A page of V2 around its entities."""
    links = {"__next": next_link, "__delta": delta_link}
    told = "".join(f',"{name}":{json.dumps(f"{_HOST}{PATHS[2]}/{link}")}' for name, link in links.items() if link)
    return b'{"d":{"results":%b%b}}' % (entities, told.encode())


def error(code: str, text: str, version: int) -> bytes:
    """An error's body."""
    message: Any = {"lang": "en", "value": text} if version == 2 else text
    return json.dumps({"error": {"code": code, "message": message}}).encode()


def _v4(one: EntitySet, row: Row, base: str) -> Row:
    bare = {name: value for name, value in row.items() if not name.startswith("ODQ_")}
    if row["ODQ_CHANGEMODE"] == "D":
        return {"@removed": {"reason": "deleted"}, "@id": f"{base}{_address(one, row)}"}
    return bare


def _address(one: EntitySet, row: Row) -> str:
    """SET(key); texts in quotes, all of it escaped as an address is."""
    parts = []
    for each in one.properties:
        if each.key:
            value = row[each.name]
            text = "'" + str(value).replace("'", "''") + "'" if each.type == "Edm.String" else str(value)
            parts.append((each.name, text))
    inside = parts[0][1] if len(parts) == 1 else ",".join(f"{name}={text}" for name, text in parts)
    return f"{one.name}({quote(inside)})"

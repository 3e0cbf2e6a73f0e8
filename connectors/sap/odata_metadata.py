"""A service's $metadata (EDMX of OData V2 and V4) -> its entity sets as tables with exact types.

What SAP adds counts too: `sap:display-format="Date"` makes a DateTime a date, and what tells that an entity set has a
delta queue: ODP's own function imports and entity sets, or the capability annotation of V4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree

from connectors.sap.odata_values import Edm, exact_type
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table

CHANGE_MODE, COUNTER = "ODQ_CHANGEMODE", "ODQ_ENTITYCNTR"
"""Columns that ODP adds to say what happened to a row; they are read, but are no columns of the table."""
RECORD_MODES = ("ROCANCEL", "RECORDMODE")
"""What DataSources of BW call the column that says what kind of image a row is; beside ODP's columns alone."""
SUBSCRIBED, TERMINATE = "SubscribedTo", "TerminateDeltasFor"
"""What stands in front of an entity set's name in the names of ODP's functions."""
_V4 = "http://docs.oasis-open.org/odata/ns/edmx"
_SAP = "{http://www.sap.com/Protocols/SAPData}"
_TRACKING = "Org.OData.Capabilities.V1.ChangeTracking"


@dataclass(frozen=True)
class EntitySet:
    """An entity set as its service describes it.

    Args:
        service: the service's name in the pipeline file. path: of the set, without the host.
        version: 2 or 4.
        table: all properties that can be columns, named SERVICE/EntitySet.
        edm: each column's type on the wire.
        queued: its rows have ODP's columns of what happened.
        record_mode: the property that says what kind of image a row is ("" where there is none); no column either.
        tracks: why it is known to have deltas ("" where nothing says so).
        ends: whether the service has ODP's functions that tell of the set's subscription and end it.
        notes: what is surprising, a sentence each.
    """

    service: str
    path: str
    version: int
    table: Table
    edm: dict[str, Edm]
    queued: bool = False
    record_mode: str = ""
    tracks: str = ""
    ends: bool = False
    notes: tuple[str, ...] = ()

    @property
    def is_list_of_links(self) -> bool:
        """Whether it is no data, but ODP's list of another set's delta links."""
        return self.table.key == ("DeltaToken",)

    @property
    def base(self) -> str:
        """Where the set's relative links begin: the service, with a slash."""
        return self.path.rpartition("/")[0] + "/"


@dataclass
class _Types:
    """The entity types of a document by their full name, with those they are derived from."""

    elements: dict[str, ElementTree.Element] = field(default_factory=dict)

    def chain(self, name: str) -> list[ElementTree.Element]:
        found: list[ElementTree.Element] = []
        while name:
            if name not in self.elements or len(found) > 16:
                raise ValueError(f"an entity type {name!r}")
            found.insert(0, self.elements[name])
            name = self.elements[name].get("BaseType", "")
        return found


def entity_sets(service: str, path: str, document: bytes) -> dict[str, EntitySet]:
    """The entity sets of a service by their table's name, SERVICE/EntitySet.

    Args:
        service: its name in the pipeline file. path: without the host.
        document: what $metadata answered.
    Raises: ConfigurationError where it is no EDMX.
    """
    where = f"service {service}: $metadata"
    if b"<!DOCTYPE" in document[:4096]:
        raise ConfigurationError(f"{where}: expected EDMX, found a document with a DOCTYPE")
    try:
        root = ElementTree.fromstring(document)
    except ElementTree.ParseError as error:
        raise ConfigurationError(f"{where}: expected EDMX, found no XML: {error}") from error
    version = 4 if root.tag.startswith(f"{{{_V4}}}") else 2
    types, aliases = _Types(), {}
    for schema in _named(root, "Schema"):
        namespace = schema.get("Namespace", "")
        aliases[schema.get("Alias") or namespace] = namespace
        for each in _named(schema, "EntityType"):
            types.elements[f"{namespace}.{each.get('Name')}"] = each
    sets = list(_named(root, "EntitySet"))
    if not sets:
        raise ConfigurationError(f"{where}: expected entity sets, found none")
    imports = {str(each.get("Name")) for each in _named(root, "FunctionImport")}
    names = [str(one.get("Name")) for one in sets]
    tracking = _tracking(root, names, imports)
    ending = {name for name in names if {f"{SUBSCRIBED}{name}", f"{TERMINATE}{name}"} <= imports}
    found = {}
    for one in sets:
        try:
            chain = types.chain(_full(one.get("EntityType", ""), aliases))
        except ValueError as error:
            raise ConfigurationError(f"{where}: entity set {one.get('Name')}: expected {error}, found none") from error
        described = _described(service, path, version, one, chain, tracking, ending)
        found[described.table.name] = described
    return found


def _described(
    service: str,
    path: str,
    version: int,
    one: ElementTree.Element,
    chain: list[ElementTree.Element],
    tracking: dict[str, str],
    ending: set[str],
) -> EntitySet:
    name = str(one.get("Name"))
    key = tuple(str(ref.get("Name")) for each in chain for ref in _named(each, "PropertyRef"))
    columns, edm, notes = [], {}, []
    properties = {str(prop.get("Name")): prop for entity in chain for prop in entity if _local(prop) == "Property"}
    queued = CHANGE_MODE in properties or COUNTER in properties
    record_mode = next((one for one in RECORD_MODES if queued and one in properties and one not in key), "")
    for column, each in properties.items():
        if column in (CHANGE_MODE, COUNTER, record_mode):
            continue
        wire, kind, note = exact_type(dict(each.attrib), each.get(f"{_SAP}display-format", ""), version)
        if note:
            notes.append(f"{service}/{name}.{column}: {note}")
        if kind is not None:
            columns.append(Column(column, kind, column not in key))
            edm[column] = wire
    if not key:
        notes.append(f"{service}/{name}: no key: give it one by `key`")
    table = Table(f"{service}/{name}", tuple(columns), tuple(one for one in key if one in edm))
    tracks = tracking.get(name, "")
    if queued and not tracks:
        tracks = f"its rows have {CHANGE_MODE}"
    if not queued and version == 2 and one.get(f"{_SAP}change-tracking") == "true":
        tracks = "sap:change-tracking"
    return EntitySet(
        service, f"{path}/{name}", version, table, edm, queued, record_mode, tracks, name in ending, tuple(notes)
    )


def _tracking(root: ElementTree.Element, sets: list[str], imports: set[str]) -> dict[str, str]:
    """Entity sets that say of themselves that they have deltas, and by what; ODP shortens long names, so not all."""
    found = {}
    for name in sets:
        if f"DeltaLinksOf{name}" in sets:
            found[name] = f"entity set DeltaLinksOf{name}"
        elif f"{SUBSCRIBED}{name}" in imports:
            found[name] = f"function {SUBSCRIBED}{name}"
    for each in _named(root, "Annotations"):
        target = str(each.get("Target", "")).rpartition("/")[2].rpartition(".")[2]
        for annotation in _named(each, "Annotation"):
            term = annotation.get("Term", "")
            if term in (_TRACKING, "Capabilities.ChangeTracking") and _supported(annotation):
                found[target] = "annotation ChangeTracking"
    return found


def _supported(annotation: ElementTree.Element) -> bool:
    values = [each for each in _named(annotation, "PropertyValue") if each.get("Property") == "Supported"]
    return all(each.get("Bool", "true") != "false" for each in values)


def _named(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Elements inside that are called so, in whichever of EDMX's many namespaces."""
    return (each for each in element.iter() if _local(each) == name)


def _local(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _full(name: str, aliases: dict[str, str]) -> str:
    space, _, last = name.rpartition(".")
    return f"{aliases.get(space, space)}.{last}"

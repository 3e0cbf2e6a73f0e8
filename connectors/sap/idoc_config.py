"""The [source.sap_idoc] section: where IDocs are received, where they wait, which segments become tables."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from connectors.base.config import Config
from connectors.base.secrets import Reference
from connectors.sap.odata_config import SapHttp
from libcore.delimited_types import TextColumn, Trim, code_points
from libcore.errors import ConfigurationError
from libcore.idoc import CONTROL, CONTROL_FIELDS, IdocPlan, IdocSegment, control_columns
from libcore.schema import Column, Table, parse_type

OBJECT = "OBJECT"
_HEAD = (("DOCNUM", "string", False), ("SEGNUM", "int32", False), ("PSGNUM", "int32", True), ("HLEVEL", "int32", True))
_INITIAL = {"date": ("%Y%m%d", ("00000000",)), "time": ("%H%M%S", ())}


class Field_(Config):
    """One field of a segment."""

    type: str = "string"
    """Its exact type; a date is YYYYMMDD, a time HHMMSS, a number may have its sign behind."""
    offset: int = Field(default=0, ge=0, lt=1000)
    """Flat files: where in SDATA it begins."""
    length: int = Field(default=0, ge=0, le=1000)
    """Flat files: how long it is."""

    @field_validator("type")
    @classmethod
    def _is_known(cls, text: str) -> str:
        try:
            parse_type(text)
        except ConfigurationError as error:
            raise ValueError(error.message) from None
        return text


class Segment(Config):
    """`[source.sap_idoc.segments.NAME]`: a segment type that becomes a table of its name."""

    definition: str | None = Field(default=None, min_length=1, max_length=30)
    """What flat files call it, E2EDK01005; default: its name."""
    columns: dict[str, Field_] = Field(min_length=1)
    """Its fields by name."""


class Status(SapHttp):
    """`[source.sap_idoc.status]`: where the audit IDoc (ALEAUD) goes that says what became of IDocs."""

    path: str = Field(default="/sap/bc/idoc_xml", pattern=r"^/")
    """The path that takes IDocs in XML."""
    partner: str = Field(default="HEADRACE", min_length=1, max_length=10)
    """This side's logical system, as the partner profile (WE20) has it."""


class SapIdocConfig(Config):
    """A place that receives IDocs by HTTP. One worker process listens, whichever has the partition."""

    listen: str = Field(default="127.0.0.1:8440", pattern=r"^[^:\s]+:\d{1,5}$")
    """Address and port."""
    path: str = Field(default="/idoc", pattern=r"^/[\w/.-]*$")
    """Where IDocs are posted to."""
    user: str | None = Field(default=None, min_length=1)
    """The user that SAP logs in with (SM59), or a reference to it."""
    password: Reference | None = None
    """A reference to the password."""
    tls_certificate: str | None = Field(default=None, min_length=1)
    """A PEM file with this side's certificates: https instead of http."""
    tls_key: str | None = Field(default=None, min_length=1)
    """A PEM file with their key."""
    body_bytes_max: int = Field(default=64 << 20, ge=1 << 10, le=1 << 30)
    """What one post may hold; a bigger one is refused."""
    connections_max: int = Field(default=32, ge=1, le=1000)
    """Posts at a time; more are told to come again."""
    spool: str | None = Field(default=None, min_length=1)
    """The folder where IDocs wait until they are durable in the target; default: in the state directory."""
    spool_bytes_max: int = Field(default=2 << 30, ge=1 << 20)
    """IDocs that wait; a post beyond it is told to come again."""
    docnums_kept: int = Field(default=1_000_000, ge=1_000)
    """How many IDocs are remembered, so that one that comes again is known."""
    object: str | None = Field(default=None, pattern=r"^\w+\.\w+$")
    """SEGMENT.FIELD that names the business object: an IDoc that an older one of its object overtakes wins."""
    control: tuple[str, ...] = ("DOCNUM", "IDOCTYP", "MESTYP", "SNDPRN", "CREDAT", "CRETIM", "SERIAL")
    """Columns of the control record's table, EDI_DC40."""
    segments: dict[str, Segment] = Field(min_length=1)
    """Which segment types become tables; others are passed by."""
    encoding: str = "utf-8"
    """Of flat files: utf-8, or the code page of a system that is not Unicode, where offsets count bytes."""
    status: Status | None = None
    """Where to say what became of IDocs, once it is durable."""
    batch_rows_max: int = Field(default=20_000, ge=1, le=1_000_000)
    """Rows of one batch, which is one epoch."""
    queued_bytes_max: int = Field(default=64 << 20, ge=1 << 20, le=1 << 30)
    """Bytes read ahead."""

    @model_validator(mode="after")
    def _fits_together(self) -> SapIdocConfig:
        for first, second in (("user", "password"), ("tls_certificate", "tls_key")):
            if (getattr(self, first) is None) != (getattr(self, second) is None):
                raise ValueError(f"expected `{first}` and `{second}` together")
        if unknown := [name for name in self.control if name not in CONTROL_FIELDS]:
            raise ValueError(f"control: expected fields of {CONTROL}, found {unknown[0]!r}")
        if "DOCNUM" not in self.control:
            raise ValueError("control: expected DOCNUM among them")
        if self.object is not None:
            segment, _, name = self.object.partition(".")
            if segment not in self.segments or name not in self.segments[segment].columns:
                raise ValueError(f"object: expected a column of `segments`, found {self.object!r}")
        return self

    @property
    def plan(self) -> IdocPlan:
        """What libcore reads. Raises ConfigurationError."""
        segments = tuple(
            IdocSegment(
                name, one.definition or name, tuple(_column(field, told) for field, told in one.columns.items())
            )
            for name, one in self.segments.items()
        )
        unicode = code_points(self.encoding) is None
        return IdocPlan(segments, control_columns(*self.control), unicode, ignore_segments=True, encoding=self.encoding)

    @property
    def tables(self) -> dict[str, Table]:
        """The control record's table and each segment's."""
        control = tuple(Column(name, parse_type("string"), name != "DOCNUM") for name in self.control)
        found = {CONTROL: Table(CONTROL, control + self._object, ("DOCNUM",))}
        head = tuple(Column(name, parse_type(kind), nullable) for name, kind, nullable in _HEAD)
        for name, one in self.segments.items():
            columns = tuple(Column(field, parse_type(told.type)) for field, told in one.columns.items())
            found[name] = Table(name, head + columns + self._object, ("DOCNUM", "SEGNUM"))
        return found

    @property
    def _object(self) -> tuple[Column, ...]:
        return () if self.object is None else (Column(OBJECT, parse_type("string")),)


def _column(name: str, told: Field_) -> TextColumn:
    pattern, words = _INITIAL.get(told.type, (None, ()))
    kind = parse_type(told.type)
    trim = Trim.RIGHT if kind.name == "string" else Trim.NONE
    return TextColumn(
        Column(name, kind), offset=told.offset, length=told.length, pattern=pattern, null_words=words, trim=trim
    )

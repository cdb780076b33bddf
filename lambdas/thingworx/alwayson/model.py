"""What the wire carries: typed values, InfoTables and messages, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from lambdas.thingworx.alwayson.codes import NO_SESSION, BaseType, Method

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "NOTHING",
    "Auth",
    "Bind",
    "Chunk",
    "Field",
    "Gateway",
    "Ids",
    "InfoTable",
    "Location",
    "Message",
    "Other",
    "Request",
    "Response",
    "ThingCode",
    "Timespan",
    "Value",
]


class Value(NamedTuple):
    """A value with its base type, the type that stands before it on the wire.

    Attributes:
        base_type: its type, which may differ from the field's: the platform sends texts of every
            type (THINGNAME, TEXT, ...) as STRING.
        value: by base type - NOTHING: None; NUMBER: float; BOOLEAN: bool; INTEGER, LONG: int;
            DATETIME: int, milliseconds since 1970, UTC; TIMESPAN: Timespan; INFOTABLE: InfoTable;
            LOCATION: Location; IMAGE, BLOB: bytes; VARIANT: Value; VEC2, VEC3, VEC4: tuple of floats;
            THINGCODE: ThingCode; all others: str.
    """

    base_type: BaseType
    value: Any


#: Null, in any cell of any type.
NOTHING = Value(BaseType.NOTHING, None)


class Location(NamedTuple):
    """A LOCATION, in the order of the wire: degrees, degrees, metres."""

    longitude: float
    latitude: float
    elevation: float


class Timespan(NamedTuple):
    """A TIMESPAN: start and end in milliseconds since 1970, and a period like `00:00:00:00:01:00`."""

    start: int
    end: int
    period: str


class ThingCode(NamedTuple):
    """A THINGCODE: int32 and int64."""

    domain_id: int
    instance_id: int


class Field(NamedTuple):
    """A field definition of a data shape.

    Attributes:
        base_type: declared type of the column; a cell tells its own.
        description: may be empty; the Java SDK repeats the name here.
        aspects: for example `isPrimaryKey` (BOOLEAN), `dataShape` (STRING), `defaultValue`, `units`.
    """

    base_type: BaseType
    description: str = ""
    aspects: Mapping[str, Value] = MappingProxyType({})


@dataclass(slots=True)
class InfoTable:
    """A table.

    Attributes:
        fields: name -> field, in the order of the wire, which has no meaning: look columns up by name.
        rows: cells in the order of `fields`, as many as there are fields.
    """

    fields: dict[str, Field]
    rows: list[tuple[Value, ...]] = field(default_factory=list)

    @classmethod
    def build(cls, fields: Mapping[str, BaseType], rows: Iterable[Mapping[str, Any]] = ()) -> InfoTable:
        """Table of plain values; each gets its field's base type.

        Args:
            fields: name -> base type.
            rows: name -> value as `Value` describes it; None or no entry is null, and a `Value` stays
                what it is, except in a VARIANT field, whose value it becomes.
        """
        types = list(fields.items())
        return cls(
            {name: Field(base_type) for name, base_type in types},
            [tuple(_cell(base_type, row.get(name)) for name, base_type in types) for row in rows],
        )

    @classmethod
    def of(cls, values: Mapping[str, Value]) -> InfoTable:
        """Table of one row, a field a value: the form of parameters, results and property values."""
        return cls({name: Field(value.base_type) for name, value in values.items()}, [tuple(values.values())])

    def records(self) -> Iterator[dict[str, Value]]:
        """Rows as name -> cell."""
        for row in self.rows:
            yield dict(zip(self.fields, row, strict=False))

    def first(self, name: str) -> Value:
        """The cell of this name in the first row; NOTHING when there is no such row or field."""
        if not self.rows:
            return NOTHING
        return dict(zip(self.fields, self.rows[0], strict=False)).get(name, NOTHING)

    @property
    def primary_key(self) -> str | None:
        """Name of the field whose aspect `isPrimaryKey` is true."""
        for name, definition in self.fields.items():
            if definition.aspects.get("isPrimaryKey", NOTHING).value is True:
                return name
        return None


def _cell(base_type: BaseType, plain: Any) -> Value:
    if plain is None:
        return NOTHING
    if isinstance(plain, Value) and (base_type is not BaseType.VARIANT or plain.base_type is base_type):
        return plain
    return Value(base_type, plain)


class Ids(NamedTuple):
    """The three numbers of a header, unsigned 32 bits each; a response repeats its request's."""

    request: int
    endpoint: int = 0
    session: int = NO_SESSION


class Gateway(NamedTuple):
    """Name and Thing Template of the gateway that binds."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH, or CLEARAUTH with the same body.

    Attributes:
        claims: usually `appKey` alone; or `userid` and `password`.
        trailing: bytes after the body, which mean nothing; never encoded.
    """

    ids: Ids
    claims: Mapping[str, str] = field(repr=False)
    method: Method = Method.AUTH
    trailing: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Bind:
    """BIND or UNBIND.

    Attributes:
        names: names of Things, or `*` and an identifier.
        gateway: None without a gateway.
        trailing: bytes after the body, which mean nothing; never encoded.
    """

    ids: Ids
    names: tuple[str, ...]
    gateway: Gateway | None = None
    method: Method = Method.BIND
    trailing: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Request:
    """GET, PUT, POST or DELETE.

    Attributes:
        method: one of these four.
        entity_type: an `EntityType` or another number of 8 bits.
        entity_name: usually the Thing, as it was bound.
        characteristic: a `Characteristic` or another number of 8 bits.
        target: name of the property, service or event; `*` or empty for all properties.
        params: one row with a field a parameter.
        headers: name and value; none in practice.
        trailing: bytes after the body, which mean nothing; never encoded.
    """

    ids: Ids
    method: Method
    entity_type: int
    entity_name: str
    characteristic: int
    target: str
    params: InfoTable | None = None
    headers: tuple[tuple[str, str], ...] = ()
    trailing: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, or (request id `NO_REQUEST`) one that only tells session and endpoint.

    Attributes:
        status: a `Status` or another number of 0x40..0xFF.
        reason: None when there is none, which isn't the empty text.
        content: result.
        trailing: bytes after the body, which mean nothing; never encoded.
    """

    ids: Ids
    status: int
    reason: str | None = None
    content: InfoTable | None = None
    trailing: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a message that is larger than a frame.

    Attributes:
        code: method or status of the whole.
        chunk_id: 1-based; chunks may come in any order.
        chunk_count: how many there are.
        chunk_size: the sender's largest frame in bytes, not the size of this chunk.
        entity: entity type and name as their bytes; empty unless `code` is GET, PUT, POST or DELETE.
        data: the part of the body.
    """

    ids: Ids
    code: int
    chunk_id: int
    chunk_count: int
    chunk_size: int
    entity: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Other:
    """A message of a method that isn't known, or KEEP_ALIVE: kept as it is, for it must do no harm."""

    ids: Ids
    code: int
    body: bytes = b""


Message: TypeAlias = Auth | Bind | Request | Response | Other

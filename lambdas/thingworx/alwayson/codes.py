"""The numbers of AlwaysOn: base types, methods, statuses, entity types, characteristics."""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "NO_ENDPOINT",
    "NO_REQUEST",
    "NO_SESSION",
    "BaseType",
    "Characteristic",
    "EntityType",
    "Method",
    "Status",
    "http_status",
    "is_success",
    "status_text",
]

#: Request id of a response that answers no request: it only carries session and endpoint.
NO_REQUEST = 0xFFFF_FFFF
#: Endpoint id of a message that isn't routed to an endpoint.
NO_ENDPOINT = 0xFFFF_FFFF
#: Session id before AUTH was answered.
NO_SESSION = 0xFFFF_FFFF

_FIRST_STATUS = 0x40
_FIRST_REDIRECT, _FIRST_ERROR = 0x60, 0x80
_CLASS_BITS = 5


class BaseType(IntEnum):
    """Type of a value; on the wire one signed byte."""

    NOTHING = -1
    STRING = 0
    NUMBER = 1
    BOOLEAN = 2
    DATETIME = 3
    TIMESPAN = 4
    INFOTABLE = 5
    LOCATION = 6
    XML = 7
    JSON = 8
    QUERY = 9
    IMAGE = 10
    HYPERLINK = 11
    IMAGELINK = 12
    PASSWORD = 13
    HTML = 14
    TEXT = 15
    TAGS = 16
    SCHEDULE = 17
    VARIANT = 18
    GUID = 20
    BLOB = 21
    INTEGER = 22
    LONG = 23
    PROPERTYNAME = 50
    SERVICENAME = 51
    EVENTNAME = 52
    THINGNAME = 100
    THINGSHAPENAME = 101
    THINGTEMPLATENAME = 102
    DATASHAPENAME = 104
    MASHUPNAME = 105
    MENUNAME = 106
    BASETYPENAME = 107
    USERNAME = 108
    GROUPNAME = 109
    CATEGORYNAME = 110
    STATEDEFINITIONNAME = 111
    STYLEDEFINITIONNAME = 112
    MODELTAGVOCABULARYNAME = 113
    DATATAGVOCABULARYNAME = 114
    NETWORKNAME = 115
    MEDIAENTITYNAME = 116
    APPLICATIONKEYNAME = 117
    LOCALIZATIONTABLENAME = 118
    ORGANIZATIONNAME = 119
    DASHBOARDNAME = 120
    PERSISTENCEPROVIDERPACKAGENAME = 121
    PERSISTENCEPROVIDERNAME = 122
    PROJECTNAME = 123
    VEC2 = 124
    VEC3 = 125
    VEC4 = 126
    THINGCODE = 127


class Method(IntEnum):
    """Code of a message that asks; below 0x40. Codes that aren't listed may come and are no error."""

    GET = 0x01
    PUT = 0x02
    POST = 0x03
    DELETE = 0x04
    BIND = 0x0A
    UNBIND = 0x0B
    AUTH = 0x14
    CLEARAUTH = 0x15
    KEEP_ALIVE = 0x1F


class Status(IntEnum):
    """Code of a message that answers: hundreds of the HTTP-like status in the upper 3 bits, rest in 5.

    The vendor's SDKs for C and Java disagree on 0x82 and 0xA1; the names are those of the Java one,
    which shares its code with the platform. Other codes from 0x40 up may come and are no error.
    """

    SUCCESS = 0x40
    CREATED = 0x41
    ACCEPTED = 0x42
    NO_CONTENT = 0x44
    PARTIAL = 0x46
    BAD_REQUEST = 0x80
    UNAUTHORIZED = 0x81
    PAYMENT_REQUIRED = 0x82
    FORBIDDEN = 0x83
    NOT_FOUND = 0x84
    METHOD_NOT_ALLOWED = 0x85
    NOT_ACCEPTABLE = 0x86
    REQUEST_TIMEOUT = 0x88
    CONFLICT = 0x89
    PRECONDITION_FAILED = 0x8C
    ENTITY_TOO_LARGE = 0x8D
    UNSUPPORTED_CONTENT_FORMAT = 0x8F
    TEAPOT = 0x92
    INTERNAL_ERROR = 0xA0
    INVALID_SESSION = 0xA1
    BAD_GATEWAY = 0xA2
    SERVICE_UNAVAILABLE = 0xA3
    GATEWAY_TIMEOUT = 0xA4
    NOT_IMPLEMENTED = 0xA5
    COMM_ERROR = 0xE0
    SERVER_REFUSED = 0xE1
    SERVER_UNAVAILABLE = 0xE2
    COMM_TIMEOUT = 0xE3
    INVALID_PROTOCOL_VERSION = 0xE4


class EntityType(IntEnum):
    """Collections that requests are addressed to, as far as the connector and its tests use them."""

    THINGS = 10
    THING_SHAPES = 11
    THING_TEMPLATES = 12
    MODEL_TAGS = 20
    RESOURCES = 60
    SUBSYSTEMS = 80


class Characteristic(IntEnum):
    """What of an entity a request is about."""

    CUSTOM = 0
    PROPERTIES = 1
    SERVICES = 2
    EVENTS = 3
    PROPERTIES_VTQ = 4
    UNKNOWN = 255


def is_success(status: int) -> bool:
    """Whether a response with this status did what was asked (0x40..0x5F)."""
    return _FIRST_STATUS <= status < _FIRST_REDIRECT


def http_status(status: int) -> int:
    """The HTTP-like number of a status: 0x84 -> 404."""
    return (status >> _CLASS_BITS) * 100 + (status & ((1 << _CLASS_BITS) - 1))


def status_text(status: int) -> str:
    """A status for people: `0x84 NOT_FOUND(404)`."""
    try:
        name = Status(status).name
    except ValueError:
        name = "REDIRECT" if _FIRST_REDIRECT <= status < _FIRST_ERROR else "UNKNOWN"
    return f"0x{status:02x} {name}({http_status(status)})"

"""The golden vectors: bytes that the vendor's own encoders wrote, and what they say.

`vectors.json` holds, a vector: `name`, `kind` (message, value, infotable), `source` (which encoder;
`composed` ones were read by the vendor's decoder), `hex` and `decode`. `multipart` tells which frames make
one message.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

DOCUMENT: dict[str, Any] = json.loads(Path(__file__).with_name("vectors.json").read_text())


class Vector(NamedTuple):
    """One of them."""

    name: str
    kind: str
    data: bytes
    decode: dict[str, Any]


VECTORS = [
    Vector(entry["name"], entry["kind"], bytes.fromhex(entry["hex"]), entry["decode"])
    for entry in DOCUMENT["vectors"]
]
BY_NAME = {vector.name: vector for vector in VECTORS}
MESSAGES = [vector for vector in VECTORS if vector.kind == "message"]

#: Vectors that another encoder than ours wrote in a form of its own, and why.
NOT_CANONICAL = {
    "edge reply service error with reason (C SDK quirk: reason lost, trailing padding)": (
        "the C SDK counts the reason but doesn't write it, and pads the message with zeros to that length; "
        "bytes after the body mean nothing and aren't written again"
    ),
}

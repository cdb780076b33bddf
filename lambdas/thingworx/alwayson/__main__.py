"""Read wire traces.

    python -m lambdas.thingworx.alwayson decode [--kind message|value|infotable] [HEX | -]

A line of hex in, a line of JSON out; `-` or nothing reads standard input. Bytes that can't be decoded
are told on standard error with the offset of what is wrong, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson.decode import decode_infotable, decode_value
from lambdas.thingworx.alwayson.messages import decode_message
from lambdas.thingworx.alwayson.wire_json import message_json, table_json, value_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lambdas.thingworx.alwayson", description="AlwaysOn bytes"
    )
    commands = parser.add_subparsers(required=True)
    decode = commands.add_parser("decode", help="bytes as hex to JSON, line by line")
    decode.add_argument("--kind", choices=sorted(_DECODERS), default="message", help="what the bytes are")
    decode.add_argument(
        "hex", nargs="?", default="-", metavar="HEX | -", help="bytes, or - for standard input"
    )
    chosen = parser.parse_args(arguments)
    lines = _input_lines() if chosen.hex == "-" else [chosen.hex]
    return _decode_lines(lines, _DECODERS[chosen.kind])


def _input_lines() -> Iterable[str]:
    lines = (line.decode("ascii", "replace") for line in sys.stdin.buffer)
    return (line for line in lines if line.strip())


def _decode_lines(lines: Iterable[str], decode: Callable[[bytes], dict[str, Any]]) -> int:
    exit_code = 0
    for number, line in enumerate(lines, 1):
        try:
            decoded = decode(_bytes(line))
        except WireError as error:
            sys.stderr.write(f"line {number}: {error}\n")
            exit_code = 1
            continue
        sys.stdout.write(json.dumps(decoded) + "\n")
        # A trace that is piped in as it happens is read as it happens.
        sys.stdout.flush()
    return exit_code


def _bytes(line: str) -> bytes:
    digits = "".join(line.split())
    try:
        return bytes.fromhex(digits)
    except ValueError:
        wrong = next(
            (at for at, digit in enumerate(digits) if digit not in "0123456789abcdefABCDEF"), len(digits)
        )
        raise WireError("not hex, or half a byte", "hex", wrong // 2) from None


def _infotable(data: bytes) -> dict[str, Any]:
    table, trailing = decode_infotable(data)
    return {"table": table_json(table), "trailingBytes": trailing}


_DECODERS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "message": lambda data: message_json(decode_message(data)),
    "value": lambda data: value_json(decode_value(data)),
    "infotable": _infotable,
}


if __name__ == "__main__":
    sys.exit(main())

"""Reading bytes with bounds: everything that can be wrong becomes one error with its place."""

from __future__ import annotations

import struct
from typing import Any

from lambdas.shared.errors import WireError

__all__ = ["Reader"]

_U8 = struct.Struct(">B")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_LONG_LENGTH = 0x80
_LENGTH_BITS = 0x7FFF_FFFF
#: Rows may be shorter than the data shape and are filled up with nulls: this bounds the memory that
#: a few bytes can ask for.
_MISSING_CELLS = 1 << 20


class Reader:
    """A position in bytes.

    Every method takes the name of the field it reads and raises WireError, with that name and the
    offset where the field starts, when the bytes end too early or mean nothing.
    """

    __slots__ = ("_missing", "data", "end", "pos")

    def __init__(self, data: bytes, pos: int = 0) -> None:
        self.data = data
        self.pos = pos
        self.end = len(data)
        self._missing = _MISSING_CELLS

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self.end - self.pos

    def need(self, count: int, field: str) -> None:
        """Check that `count` bytes are left, before anything is done for them."""
        if count > self.end - self.pos:
            raise WireError(f"{count} bytes needed, {self.end - self.pos} left", field, self.pos)

    def unpack(self, form: struct.Struct, field: str) -> tuple[Any, ...]:
        """Numbers."""
        start = self.pos
        self.need(form.size, field)
        self.pos = start + form.size
        return form.unpack_from(self.data, start)

    def u8(self, field: str) -> int:
        """One byte."""
        pos = self.pos
        if pos >= self.end:
            raise WireError("1 bytes needed, 0 left", field, pos)
        self.pos = pos + 1
        return self.data[pos]

    def count(self, field: str, *, each: int) -> int:
        """Two bytes: how many follow, of at least `each` bytes."""
        start = self.pos
        count = int(self.unpack(_U16, field)[0])
        if count * each > self.left:
            raise WireError(f"{count} of at least {each} bytes announced, {self.left} left", field, start)
        return count

    def marker(self, field: str) -> bool:
        """One byte that is 0 or 1."""
        value = self.u8(field)
        if value > 1:
            raise WireError(f"0 or 1 expected, got {value}", field, self.pos - 1)
        return value == 1

    def take(self, count: int, field: str) -> bytes:
        """So many bytes."""
        start = self.pos
        self.need(count, field)
        self.pos = start + count
        return self.data[start : self.pos]

    def blob(self, field: str) -> bytes:
        """Bytes after their length, which always takes four bytes."""
        start = self.pos
        count = int(self.unpack(_U32, field)[0])
        if count > self.left:
            raise WireError(f"length {count}, {self.left} bytes left", field, start)
        return self.take(count, field)

    def text(self, field: str) -> str:
        """A string after its length: one byte, or four with the first bit set."""
        start = self.pos
        length = self.u8(field)
        if length >= _LONG_LENGTH:
            self.pos = start
            length = int(self.unpack(_U32, field)[0]) & _LENGTH_BITS
        if length > self.left:
            raise WireError(f"length {length}, {self.left} bytes left", field, start)
        try:
            return self.take(length, field).decode()
        except UnicodeDecodeError as error:
            raise WireError(f"not UTF-8 at byte {error.start} of the text", field, start) from None

    def allow_missing(self, cells: int, field: str) -> None:
        """Take from the allowance for cells that a row should have and hasn't."""
        self._missing -= cells
        if self._missing < 0:
            raise WireError(f"more than {_MISSING_CELLS} cells are missing in all rows", field, self.pos)

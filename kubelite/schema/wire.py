"""The wire format of protocol buffers, read and written without types: numbered fields of varints, fixed numbers and bytes."""

import struct
from collections.abc import Iterator
from typing import Any


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Each field's number and value: an int for varints and fixed ones, bytes for what has a length.

    Raises:
        ValueError, IndexError, struct.error: it is no message.
    """
    position, end = 0, len(data)
    while position < end:
        # most numbers are one byte long
        tag = data[position]
        position += 1
        if tag > 0x7F:
            tag, position = varint(data, position - 1)
        wire = tag & 7
        if wire == 2:
            length = data[position]
            position += 1
            if length > 0x7F:
                length, position = varint(data, position - 1)
            start, position = position, position + length
            if position > end:
                raise ValueError("unexpected EOF")
            yield tag >> 3, data[start:position]
        elif wire == 0:
            value, position = varint(data, position)
            yield tag >> 3, value
        elif wire == 1:
            yield tag >> 3, struct.unpack_from("<Q", data, position)[0]
            position += 8
        elif wire == 5:
            yield tag >> 3, struct.unpack_from("<I", data, position)[0]
            position += 4
        else:
            raise ValueError(f"proto: illegal wireType {wire}")


def varint(data: bytes, position: int) -> tuple[int, int]:
    """A number, and the position behind it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("proto: integer overflow")


def signed(value: int) -> int:
    """A varint's value as the 64 bits with a sign that it stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def number(value: int) -> bytes:
    """A varint."""
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def count(field: int, value: int) -> bytes:
    """A field with a varint: an integer or a truth."""
    return number(field << 3) + number(value)


def double(field: int, value: float) -> bytes:
    """A field with a floating point number."""
    return number(field << 3 | 1) + struct.pack("<d", value)


def block(field: int, value: bytes) -> bytes:
    """A field with bytes, a message among them."""
    return number(field << 3 | 2) + number(len(value)) + value


def text(field: int, value: str) -> bytes:
    """A field with a text."""
    return block(field, value.encode("utf-8", "surrogatepass"))


_ONE_BYTE = [bytes((value,)) for value in range(0x80)]

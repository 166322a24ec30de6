"""Looking through an ONNX file for what is foreign in it, by the wire format of protocol buffers alone.

Every submessage in which an operator or a tensor can stand is entered; fields are numbered as in ``onnx.proto``. What
another reader of protocol buffers may understand otherwise than this one is foreign, too.
"""

from __future__ import annotations

from collections.abc import Iterator

DOMAINS = ("", "ai.onnx", "com.microsoft")  # of the operators that ONNX Runtime brings
MAX_FIELDS = 500_000  # an encoder has some ten thousand

_MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_OP_TYPE, _DOMAIN = 4, 7  # of a node
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
VARINT, _FIXED64, BYTES, _GROUPS, _FIXED32 = 0, 1, 2, (3, 4), 5

Field = tuple[int, int, int, int]  # number, wire type, and the bytes from where to where


def foreign_in_onnx(content: bytes) -> str | None:
    """The first foreign thing in the file, in words, or ``None``; also for a file that no reader understands."""
    waiting = [("model", 0, len(content))]
    seen = 0
    try:
        while waiting:
            kind, start, end = waiting.pop()
            name = domain = b""
            for number, wire, first, last in fields(content, start, end):
                seen += 1
                if seen > MAX_FIELDS:
                    return f"more than {MAX_FIELDS:,} fields"
                if kind == "tensor" and number in (_EXTERNAL_DATA, _DATA_LOCATION) and any(content[first:last]):
                    return "data that is kept in another file"
                if wire != BYTES:
                    continue
                if kind == "node" and number == _OP_TYPE:
                    name = content[first:last]
                elif kind == "node" and number == _DOMAIN:
                    domain = domain or _foreign(content[first:last])
                elif inner := _MESSAGES[kind].get(number):
                    waiting.append((inner, first, last))
            if domain:
                return f"the operator {_shown(name)} of the domain {_shown(domain)}"
    except UnclearError:
        return "fields that ONNX does not have"
    except (IndexError, ValueError):
        return None  # it does not load: the engine says why
    return None


class UnclearError(Exception):
    """A field that this reader cannot skip, and others can."""


def _foreign(domain: bytes) -> bytes:
    return b"" if domain.decode("utf-8", "replace") in DOMAINS else domain


def _shown(name: bytes) -> str:
    return repr(name.decode("utf-8", "replace")[:60])


def fields(content: bytes, position: int, end: int) -> Iterator[Field]:
    """The fields of the message in ``content[position:end]``. Raises ``IndexError`` or ``ValueError`` when torn."""
    while position < end:
        tag, position = varint(content, position)
        number, wire = tag >> 3, tag & 7
        if tag >= 2**32 or wire in _GROUPS:
            raise UnclearError
        first = position
        if wire == VARINT:
            _, position = varint(content, position)
        elif wire == BYTES:
            length, first = varint(content, position)
            position = first + length
        elif wire in (_FIXED64, _FIXED32):
            position += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("no wire type")
        if position > end:
            raise ValueError("a field that is longer than its message")
        yield number, wire, first, position


def varint(content: bytes, position: int) -> tuple[int, int]:
    """The number at ``position``, and the position after it."""
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")

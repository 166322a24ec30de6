"""Looking through a TensorFlow Lite file for what is foreign in it, by the format of FlatBuffers alone.

A table begins with the distance back to a list that says where in the table each of its fields is; strings, vectors and
other tables are reached by distances forward. Fields are numbered as in TensorFlow Lite's ``schema.fbs``.
"""

from __future__ import annotations

import struct

_OPERATOR_CODES, _EXTERNAL_BUFFER_GROUPS, _EXTERNAL_BUFFERS = 1, 8, 9  # of the model
_DEPRECATED_CODE, _CUSTOM_NAME, _CODE = 0, 1, 3  # of an operator code
_CUSTOM = 32  # the code of all custom operators, which their names tell apart
_FLEX = "Flex"  # how the names of TensorFlow's own operators begin


def foreign_in_tflite(content: bytes) -> str | None:
    """The first foreign thing in the file, in words, or ``None``; also for a file that is none of these."""
    try:
        model = _target(content, 0)
        for number in (_EXTERNAL_BUFFER_GROUPS, _EXTERNAL_BUFFERS):
            where = _field(content, model, number)
            if where and _length(content, _target(content, where)):
                return "data that is kept in another file"
        where = _field(content, model, _OPERATOR_CODES)
        if where is None:
            return None
        codes = _target(content, where)
        for index in range(_length(content, codes)):
            name = _custom_name(content, _target(content, codes + 4 + 4 * index))
            if name is not None:
                whose = "TensorFlow" if name.startswith(_FLEX) else "custom"
                return f"the {whose} operator {name[:60]!r}"
    except struct.error:
        return None  # it does not load: the engine says why
    return None


def _custom_name(content: bytes, code: int) -> str | None:
    """The name of a custom operator, or ``None`` for the engine's own."""
    old, new, name = (_field(content, code, number) for number in (_DEPRECATED_CODE, _CODE, _CUSTOM_NAME))
    number = max(_number(content, "<b", old) if old else 0, _number(content, "<i", new) if new else 0)
    if number != _CUSTOM:
        return None
    if name is None:
        return ""
    text = _target(content, name)
    return content[text + 4 : text + 4 + _length(content, text)].decode("utf-8", "replace")


def _field(content: bytes, table: int, number: int) -> int | None:
    """Where the field is, or ``None`` for one that the table does not have."""
    fields = table - _number(content, "<i", table)
    place = 4 + 2 * number
    if fields < 0 or place >= _number(content, "<H", fields):
        return None
    offset = _number(content, "<H", fields + place)
    return table + offset if offset else None


def _target(content: bytes, where: int) -> int:
    return where + _number(content, "<I", where)


def _length(content: bytes, vector: int) -> int:
    return _number(content, "<I", vector)


def _number(content: bytes, form: str, where: int) -> int:
    number: int = struct.unpack_from(form, content, where)[0]
    return number

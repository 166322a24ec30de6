"""Looking through a TensorFlow Lite file for what is foreign in it, by the format of FlatBuffers alone.

A table begins with the distance back to a list that says where in the table each of its fields is; strings, vectors and
other tables are reached by distances forward. Fields are numbered as in TensorFlow Lite's ``schema.fbs``.

A file whose tables lead out of it, or whose numbers name tensors, operators or buffers that it does not have, is
foreign as a whole: the engine may read on where this reader cannot, and find what it was not shown; or it may crash.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

# Fields of the model, and of what is in it
_OPERATOR_CODES, _SUBGRAPHS, _BUFFERS, _SIGNATURES = 1, 2, 4, 7
_EXTERNAL_BUFFER_GROUPS, _EXTERNAL_BUFFERS = 8, 9
_DEPRECATED_CODE, _CUSTOM_NAME, _CODE = 0, 1, 3  # of an operator code
_TENSORS, _INPUTS, _OUTPUTS, _OPERATORS = 0, 1, 2, 3  # of a subgraph
_SHAPE, _BUFFER = 0, 2  # of a tensor
_OPCODE, _OP_INPUTS, _OP_OUTPUTS, _INTERMEDIATES = 0, 1, 2, 8  # of an operator
_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS, _SIGNATURE_KEY, _SIGNATURE_SUBGRAPH = 0, 1, 2, 4  # of a signature
_TENSOR_NAME, _TENSOR_INDEX = 0, 1  # of a signature's tensor
_DATA, _OFFSET, _SIZE = 0, 1, 2  # of a buffer

_CUSTOM = 32  # the code of all custom operators, which their names tell apart
_FLEX = "Flex"  # how the names of TensorFlow's own operators begin
_NONE = -1  # in a list of tensors: one that is left out
MAX_ITEMS = 200_000  # of all lists together, so that the scan ends soon; an encoder has some thousand
MAX_ELEMENTS = 2**31  # of a tensor


class _BrokenError(Exception):
    """Something that the file says it has and does not."""


def foreign_in_tflite(content: bytes) -> str | None:
    """The first foreign thing in the file, in words, or ``None``."""
    try:
        return _Scan(content).foreign()
    except _BrokenError as error:
        return f"a structure that does not fit into its file ({error})"
    except struct.error:
        return "a structure that ends outside of its file"


class _Scan:
    """One pass over a file. What leads out of it raises ``struct.error`` or :class:`_BrokenError`."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._items = 0

    def foreign(self) -> str | None:
        model = self._target(0)
        for number in (_EXTERNAL_BUFFER_GROUPS, _EXTERNAL_BUFFERS):
            if self._vector(model, number)[1]:
                return "data that is kept in another file"
        codes = list(self._tables(model, _OPERATOR_CODES))
        for code in codes:
            name = self._custom_name(code)
            if name is not None:
                whose = "TensorFlow" if name.startswith(_FLEX) else "custom"
                return f"the {whose} operator {name[:60]!r}"
        buffers = sum(self._data_inside(buffer) for buffer in self._tables(model, _BUFFERS))
        tensors = [self._check_subgraph(graph, len(codes), buffers) for graph in self._tables(model, _SUBGRAPHS)]
        for signature in self._tables(model, _SIGNATURES):
            self._check_signature(signature, tensors)
        return None

    def _custom_name(self, code: int) -> str | None:
        """The name of a custom operator, or ``None`` for the engine's own."""
        number = max(self._scalar(code, _DEPRECATED_CODE, "<b"), self._scalar(code, _CODE, "<i"))
        return self._string(code, _CUSTOM_NAME) if number == _CUSTOM else None

    def _data_inside(self, buffer: int) -> bool:
        start, length = self._vector(buffer, _DATA, size=1)
        offset, size = self._scalar(buffer, _OFFSET, "<Q"), self._scalar(buffer, _SIZE, "<Q")
        if start + length > len(self._content) or (offset > 1 and offset + size > len(self._content)):
            raise _BrokenError("a buffer")
        return True

    def _check_subgraph(self, graph: int, codes: int, buffers: int) -> int:
        """The number of its tensors."""
        tensors = 0
        for tensor in self._tables(graph, _TENSORS):
            tensors += 1
            self._below(self._scalar(tensor, _BUFFER, "<I"), buffers, "a tensor's buffer")
            self._check_shape(tensor)
        for number in (_INPUTS, _OUTPUTS):
            self._check_tensors(graph, number, tensors)
        operators = list(self._tables(graph, _OPERATORS))
        for operator in operators:
            self._below(self._scalar(operator, _OPCODE, "<I"), codes, "an operator's code")
            for number in (_OP_INPUTS, _OP_OUTPUTS, _INTERMEDIATES):
                self._check_tensors(operator, number, tensors, optional=number != _OP_OUTPUTS)
        self._check_order(operators)
        return tensors

    def _check_order(self, operators: list[int]) -> None:
        """Operators run in the order of the file: what one of them makes, none before it reads."""
        to_come = {index for operator in operators for index in self._numbers(operator, _OP_OUTPUTS)}
        for operator in operators:
            if not to_come.isdisjoint(self._numbers(operator, _OP_INPUTS)):
                raise _BrokenError("an operator that reads what is not made yet")
            to_come.difference_update(self._numbers(operator, _OP_OUTPUTS))

    def _check_shape(self, tensor: int) -> None:
        elements = 1
        for size in self._numbers(tensor, _SHAPE):
            if size < 0:
                raise _BrokenError("a tensor's shape")
            elements *= size
        if elements > MAX_ELEMENTS:
            raise _BrokenError("a tensor's size")

    def _check_tensors(self, table: int, number: int, tensors: int, optional: bool = False) -> None:
        for index in self._numbers(table, number):
            if not (optional and index == _NONE):
                self._below(index, tensors, "a list of tensors")

    def _check_signature(self, signature: int, tensors: list[int]) -> None:
        subgraph = self._scalar(signature, _SIGNATURE_SUBGRAPH, "<I")
        self._below(subgraph, len(tensors), "a signature's graph")
        self._string(signature, _SIGNATURE_KEY)
        for number in (_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS):
            for tensor in self._tables(signature, number):
                self._string(tensor, _TENSOR_NAME)
                self._below(self._scalar(tensor, _TENSOR_INDEX, "<I"), tensors[subgraph], "a signature's tensor")

    def _below(self, index: int, count: int, what: str) -> None:
        if not 0 <= index < count:
            raise _BrokenError(what)

    def _tables(self, table: int, number: int) -> Iterator[int]:
        """Where the tables of the list in a field begin."""
        start, length = self._vector(table, number)
        return (self._target(start + 4 * index) for index in range(length))

    def _numbers(self, table: int, number: int) -> tuple[int, ...]:
        start, length = self._vector(table, number)
        return struct.unpack_from(f"<{length}i", self._content, start) if length else ()

    def _string(self, table: int, number: int) -> str:
        start, length = self._vector(table, number, size=1)
        return self._content[start : start + length].decode("utf-8", "replace")

    def _vector(self, table: int, number: int, size: int = 4) -> tuple[int, int]:
        """Where the items of ``size`` bytes in a field begin, and how many there are; of an absent field none."""
        where = self._field(table, number)
        if where is None:
            return 0, 0
        vector = self._target(where)
        length = self._number("<I", vector)
        if vector + 4 + size * length > len(self._content):
            raise _BrokenError("a list")
        self._items += length if size > 1 else 1
        if self._items > MAX_ITEMS:
            raise _BrokenError(f"more than {MAX_ITEMS:,} items")
        return vector + 4, length

    def _scalar(self, table: int, number: int, form: str) -> int:
        where = self._field(table, number)
        return 0 if where is None else self._number(form, where)

    def _field(self, table: int, number: int) -> int | None:
        """Where the field is, or ``None`` for one that the table does not have."""
        fields = table - self._number("<i", table)
        place = 4 + 2 * number
        if fields < 0:
            raise _BrokenError("a table")
        if place >= self._number("<H", fields):
            return None
        offset = self._number("<H", fields + place)
        return table + offset if offset else None

    def _target(self, where: int) -> int:
        return where + self._number("<I", where)

    def _number(self, form: str, where: int) -> int:
        number: int = struct.unpack_from(form, self._content, where)[0]
        return number

"""Whether the INT8 products of an ONNX graph are exact on every x86 processor.

Without VNNI, ONNX Runtime's fast kernels multiply unsigned activations by signed weights with VPMADDUBSW, which adds
two neighbouring products into 16 bits and cuts off what these do not hold: two weights of one sign that together are
beyond :data:`PAIR_LIMIT` can lose the sum. ``session.x64quantprecision`` has it take slower, exact kernels there for
every layer with a weight beyond 7 bits, and changes nothing elsewhere. A graph whose export kept all pairs within the
limit says so in its metadata, and is fast and exact without that option.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgecap.runtime.engines.onnx_scan import BYTES, VARINT, UnclearError, fields, varint
from edgecap.runtime.machine.facts import cpu_flags

PAIR_LIMIT = 128  # 255 * 128 fits into 16 bits, 255 * 129 does not
EXACT_PRODUCTS = ("session.x64quantprecision", "1")  # an entry of a session's configuration, since ONNX Runtime 1.12
RECORD = ("edgecap.saturation", "none")  # in the metadata of a graph that was exported without pairs beyond the limit

_INT8 = 3  # a TensorProto's data_type
_X86 = ("x86_64", "AMD64")
_VNNI = {"avx512_vnni", "avx_vnni"}
_HARMLESS = ("Gather", "DequantizeLinear")  # operators that do not multiply and add up the int8 constants they read


def session_entries(graph: bytes) -> dict[str, str]:
    """What a session of this graph's configuration needs, so that its INT8 products are exact on this processor."""
    if platform.machine() not in _X86:
        return {}
    # With VNNI the option changes nothing, and looking through the graph would take longer than reading it.
    if _VNNI & cpu_flags() or not keeps_pair_limit(graph):
        return dict([EXACT_PRODUCTS])
    return {}


def keeps_pair_limit(graph: bytes) -> bool:
    """Whether the graph's export recorded that no pair of its weights can saturate, and that is so."""
    try:
        read = _Graph.read(graph)
        return read.recorded and not beyond_limit(read)
    except (IndexError, ValueError, KeyError, UnclearError):
        return False  # another reader may understand it; here nothing was found safe


def can_saturate(graph: bytes) -> bool:
    """Whether some pair of weights in an INT8 graph is beyond the limit, whatever the graph says of itself.

    Raises ``ValueError`` for a graph that is not understood.
    """
    try:
        return beyond_limit(_Graph.read(graph))
    except (IndexError, KeyError, ValueError, UnclearError) as error:
        raise ValueError("its INT8 layers cannot be read") from error


def largest_pair(weight: NDArray[np.int8]) -> int:
    """The largest absolute sum of two weights whose products are added into 16 bits.

    ``weight`` is (O, C, kh, kw) of a convolution without groups, or (O, I) of a matrix product: neighbours are channels
    2 i and 2 i + 1 at one position of the kernel, as ONNX Runtime lays both out.
    """
    rows = np.moveaxis(weight, 1, -1).astype(np.int16)  # (O, kh, kw, C) or (O, I)
    if rows.shape[-1] % 2:
        rows = np.concatenate([rows, np.zeros_like(rows[..., :1])], axis=-1)
    return int(np.abs(rows[..., 0::2] + rows[..., 1::2]).max(initial=0))


@dataclass
class _Node:
    """An operator, with the attributes that say how its weight lies."""

    kind: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    group: int = 1
    transposed: bool = False


@dataclass
class _Graph:
    """What of an ONNX file concerns its INT8 products."""

    recorded: bool
    nodes: list[_Node]
    weights: dict[str, NDArray[np.int8]]  # constants

    @classmethod
    def read(cls, content: bytes) -> _Graph:
        """Raises ``IndexError`` or ``ValueError`` when torn, and ``UnclearError``."""
        found = cls(False, [], {})
        for number, wire, first, last in fields(content, 0, len(content)):
            if wire == BYTES and number == 14:  # metadata_props
                pair = {n: content[a:b] for n, w, a, b in fields(content, first, last) if w == BYTES}
                found.recorded |= (pair.get(1), pair.get(2)) == tuple(text.encode() for text in RECORD)
            elif wire == BYTES and number == 7:
                found._read_graph(content, first, last)
        return found

    def _read_graph(self, content: bytes, start: int, end: int) -> None:
        for number, wire, first, last in fields(content, start, end):
            if wire == BYTES and number == 1:
                self.nodes.append(_node(content, first, last))
            elif wire == BYTES and number == 5:
                self.weights.update(_int8_constant(content, first, last))


def beyond_limit(graph: _Graph) -> bool:
    """Whether a product of the graph can saturate; also where one is not understood."""
    constants = dict(graph.weights)
    for node in graph.nodes:
        if node.kind == "DequantizeLinear" and node.inputs[0] in graph.weights:
            constants[node.outputs[0]] = graph.weights[node.inputs[0]]
    return any(
        not _within_limit(node, position, constants[name])
        for node in graph.nodes
        for position, name in enumerate(node.inputs)
        if name in constants and node.kind not in _HARMLESS
    )


def _within_limit(node: _Node, position: int, weight: NDArray[np.int8]) -> bool:
    match node.kind, position, weight.ndim:
        case "Conv", 1, 4 if node.group == len(weight) and weight.shape[1] == 1:
            return True  # depthwise: its kernels widen each product before they add
        case "Conv", 1, 4 if node.group == 1:
            return largest_pair(weight) <= PAIR_LIMIT
        case (("MatMul" | "MatMulInteger" | "Gemm"), 1, 2):
            return largest_pair(weight if node.transposed else weight.T) <= PAIR_LIMIT
        case _, _, 0 | 1:
            return True  # a zero point or a bias
    return False


def _node(content: bytes, start: int, end: int) -> _Node:
    node = _Node()
    for number, wire, first, last in fields(content, start, end):
        if wire != BYTES:
            continue
        if number in (1, 2):
            (node.inputs if number == 1 else node.outputs).append(content[first:last].decode())
        elif number == 4:
            node.kind = content[first:last].decode()
        elif number == 5:
            name, value = _whole_attribute(content, first, last)
            node.group = value if name == b"group" else node.group
            node.transposed |= name == b"transB" and value == 1
            if name == b"transA" and value:
                node.kind = "Gemm of a transposed input"
    return node


def _whole_attribute(content: bytes, start: int, end: int) -> tuple[bytes, int]:
    """Name and whole number of an attribute; 0 where it is of another type."""
    name, value = b"", 0
    for number, wire, first, last in fields(content, start, end):
        if wire == BYTES and number == 1:
            name = content[first:last]
        elif wire == VARINT and number == 3:
            value, _ = varint(content, first)
    return name, value


def _int8_constant(content: bytes, start: int, end: int) -> Iterator[tuple[str, NDArray[np.int8]]]:
    """Name and values of a tensor of int8; nothing for others. Raises ``ValueError`` where they are not stored raw."""
    dims: list[int] = []
    kind, name, raw = 0, "", (0, 0)
    for number, wire, first, last in fields(content, start, end):
        if number == 1:
            dims += _whole_numbers(content, wire, first, last)
        elif number == 2 and wire == VARINT:
            kind, _ = varint(content, first)
        elif number == 8:
            name = content[first:last].decode()
        elif number == 9:
            raw = first, last
    if kind != _INT8:
        return
    values: NDArray[np.int8] = np.frombuffer(content, np.int8, raw[1] - raw[0], raw[0])
    yield name, values.reshape(dims) if len(dims) > 1 else values


def _whole_numbers(content: bytes, wire: int, first: int, last: int) -> Sequence[int]:
    """Of a repeated field, of which writers pack several into one."""
    found, position = [], first
    while position < last:
        value, position = varint(content, position)
        found.append(value)
    return found

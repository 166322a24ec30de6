"""The graphs of a set behind the protocols of ``engine``, whichever library runs them.

The tensors' names, types and sizes are those that the manifest lists (``bundle.tasks`` has the convention), and what a
graph gives is held against them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgecap.runtime.bundle.entries import GraphEntry, TensorSpec
from edgecap.runtime.bundle.tasks import ATTENTION, EMBEDDING, IMAGE, LOG_PROBS, MEMORY, NEXT, RGB, STATE, TOKEN
from edgecap.runtime.engines.engine import Arrays, Encoded, FloatArray, IntArray, Step
from edgecap.runtime.engines.graph_outputs import checked


class LoadedGraph(Protocol):
    """A graph in a library."""

    entry: GraphEntry

    @property
    def name(self) -> str:
        """Library and version."""
        ...

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs, by name. ``feeds`` has all inputs, of sizes that ``entry`` allows.

        Raises :class:`~edgecap.errors.EngineError`.
        """
        ...


class PhotoGraph:
    """A graph that takes photos, and whatever it makes of them."""

    def __init__(self, graph: LoadedGraph) -> None:
        self.graph = graph
        (image,) = graph.entry.inputs
        self._channels_last = image.shape[-1] == RGB

    def run(self, images: FloatArray) -> dict[str, NDArray[Any]]:
        """All outputs for preprocessed photos (N, 3, S, S), float32. Raises :class:`~edgecap.errors.EngineError`."""
        return _in_parts(self._run_part, self.graph.entry, {IMAGE: images})

    def _run_part(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        photos = feeds[IMAGE]  # (n, 3, S, S)
        shown = channels_last(photos) if self._channels_last else photos
        return _run(self.graph, {IMAGE: shown})


class GraphEmbedder:
    """Implements :class:`~edgecap.runtime.engines.engine.Embedder` on an encoder."""

    def __init__(self, graphs: Mapping[str, LoadedGraph]) -> None:
        self._encoder = PhotoGraph(graphs["encoder"])

    @property
    def name(self) -> str:
        return self._encoder.graph.name

    def embed(self, images: FloatArray) -> FloatArray:
        """Preprocessed photos (N, 3, S, S), float32, as (N, E). Raises :class:`~edgecap.errors.EngineError`."""
        return self._encoder.run(images)[EMBEDDING]


class GraphEngine:
    """Implements :class:`~edgecap.runtime.engines.engine.Engine` on an encoder and a decoder step."""

    def __init__(self, graphs: Mapping[str, LoadedGraph]) -> None:
        self._encoder, self._step = PhotoGraph(graphs["encoder"]), graphs["decoder_step"]
        made = {tensor.name for tensor in self._encoder.graph.entry.outputs}
        state = [tensor for tensor in self._step.entry.inputs if tensor.name.startswith(STATE)]
        self._blank = [tensor for tensor in state if tensor.name not in made]  # of the first state: zeros

    @property
    def name(self) -> str:
        return self._step.name

    def encode(self, images: FloatArray) -> Encoded:
        """Encode preprocessed photos (N, 3, S, S), float32. Raises :class:`~edgecap.errors.EngineError`."""
        made = self._encoder.run(images)
        blank = {tensor.name: _zeros(tensor, len(images)) for tensor in self._blank}
        return Encoded(memory=_without(MEMORY, made), state=_without(STATE, made | blank))

    def step(self, token: IntArray, state: Arrays, memory: Arrays) -> Step:
        """Advance by one word: token (N, K) int64, each state (N, K, ...), each memory (N, ...)."""
        feeds: Arrays = {TOKEN: token, **_with(STATE, state), **_with(MEMORY, memory)}
        made = _in_parts(lambda part: _run(self._step, part), self._step.entry, feeds)
        return Step(made[LOG_PROBS], _without(NEXT, made), made.get(ATTENTION))


def _run(graph: LoadedGraph, feeds: Arrays) -> dict[str, NDArray[Any]]:
    """The outputs, found to be those that the manifest lists."""
    sizes: dict[str, int] = {}
    for tensor in graph.entry.inputs:
        sizes |= {str(axis): size for axis, size in zip(tensor.shape, feeds[tensor.name].shape, strict=False)}
    return checked(graph.run(feeds), graph.entry.outputs, sizes)


def _in_parts(
    run: Callable[[Arrays], dict[str, NDArray[Any]]], entry: GraphEntry, feeds: Arrays
) -> dict[str, NDArray[Any]]:
    """What ``run`` makes of the feeds; photo by photo, where the graph takes one at a time."""
    photos = len(next(iter(feeds.values())))
    if photos == 1 or entry.inputs[0].shape[0] != 1:
        return run(feeds)
    parts = [run({name: value[n : n + 1] for name, value in feeds.items()}) for n in range(photos)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _zeros(tensor: TensorSpec, photos: int) -> NDArray[Any]:
    """A first state (N, ...) of a step's input (N, K, ...)."""
    return np.zeros((photos, *map(int, tensor.shape[2:])), tensor.dtype)


def _with(prefix: str, arrays: Arrays) -> Arrays:
    return {prefix + name: value for name, value in arrays.items()}


def _without(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def channels_last(images: FloatArray) -> FloatArray:
    """(N, 3, S, S) -> (N, S, S, 3). Channel by channel, which numpy copies faster than a transposed view."""
    ordered = np.empty((len(images), *images.shape[2:], images.shape[1]), images.dtype)
    for channel in range(images.shape[1]):
        ordered[..., channel] = images[:, channel]
    return ordered

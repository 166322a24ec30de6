"""A graph set in its engine: each graph loaded into the library, behind what the search or a labeller calls."""

from __future__ import annotations

from collections.abc import Mapping

from edgecap.errors import Source
from edgecap.runtime.bundle.bundle import Graph
from edgecap.runtime.engines.engine import Embedder, Engine
from edgecap.runtime.engines.graph_engine import GraphEmbedder, GraphEngine, LoadedGraph
from edgecap.runtime.engines.process_engine import ProcessEmbedder, ProcessEngine


def start(graphs: Mapping[str, Graph], threads: int, source: Source) -> Engine:
    """The graphs of a captioner's set, by role, each in the library of its engine.

    ``source`` names the bundle in errors, which are those of the library's class; ``threads`` are the encoder's. A
    process that is forked later has an engine of its own, once it needs one.
    """
    return ProcessEngine(lambda: GraphEngine(_all_loaded(graphs, threads, source)))


def start_embedder(graphs: Mapping[str, Graph], threads: int, source: Source) -> Embedder:
    """As :func:`start`, the graph of a labeller's set."""
    return ProcessEmbedder(lambda: GraphEmbedder(_all_loaded(graphs, threads, source)))


def _all_loaded(graphs: Mapping[str, Graph], threads: int, source: Source) -> dict[str, LoadedGraph]:
    return {role: _loaded(role, graph, threads, source) for role, graph in graphs.items()}


def _loaded(role: str, graph: Graph, threads: int, source: Source) -> LoadedGraph:
    """Raises :class:`~edgecap.errors.UnsupportedGraphError`, ``MissingExtraError`` or ``EngineError``."""
    where = f"{source}: {role}"
    if graph.entry.engine == "onnx":
        from edgecap.runtime.engines.onnx_engine import OnnxGraph

        return OnnxGraph(graph.content, graph.entry, threads, where)
    from edgecap.runtime.engines.litert_engine import LiteRtGraph

    # A step is so short that more threads are no faster, and where the cores are busy they wait for each other many
    # times as long as they compute.
    return LiteRtGraph(graph.content, graph.entry, threads if role == "encoder" else 1, where)

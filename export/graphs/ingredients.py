"""What the graph sets of a bundle are made from: the fp32 graphs, and what they are measured on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgecap.architectures.graph_spec import GraphSpec
from edgecap.export.compress.calibration import CalibrationSet
from edgecap.export.compress.layer_inputs import Feeds, Moments, input_moments
from edgecap.export.graphs.interface import graph_interface
from edgecap.runtime.bundle.bundle import Graph
from edgecap.runtime.bundle.entries import GraphEntry
from edgecap.runtime.bundle.tasks import IMAGE, MEMORY, STATE, TOKEN
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.engines.engine import Arrays, Engine, IntArray, Step
from edgecap.runtime.engines.starting import start
from edgecap.runtime.machine.threads import default_threads
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.runtime.search.decoding import DecodingOptions, decode

DECODED_TOGETHER = 25  # photos that are captioned at a time for the step's inputs


@dataclass(frozen=True)
class Ingredients:
    """Made once for all variants: each is computed when it is first asked for."""

    specs: Sequence[GraphSpec]
    fp32: Mapping[str, Path]  # ONNX graphs by role
    calibration: CalibrationSet | None
    preprocess: PreprocessConfig
    vocabulary: Vocabulary
    options: DecodingOptions  # of the search whose steps are measured
    measured_photos: int  # of the calibration, on which graphs of photos are measured; steps see all of them

    def calibration_samples(self, spec: GraphSpec) -> Iterator[Feeds]:
        """Inputs of a graph on all calibration photos, to find ranges with."""
        return self._photos(self._photo_set) if spec.samples == "photos" else self.decoding_samples()

    def samples(self, spec: GraphSpec) -> Iterator[Feeds]:
        """Inputs of a graph, as many as it is measured on."""
        if spec.samples == "photos":
            return self._photos(self._photo_set.first(self.measured_photos))
        return self.decoding_samples()

    @property
    def _photo_set(self) -> CalibrationSet:
        assert self.calibration is not None  # export_bundle asks for one where there is INT8
        return self.calibration

    def _photos(self, photos: CalibrationSet) -> Iterator[Feeds]:
        return ({IMAGE: tensor} for tensor in photos.tensors(self.preprocess))

    def decoding_samples(self) -> Iterator[Feeds]:
        """Inputs of a decoder step: what the default search of the calibration photos gives it, in fp32."""
        graphs = {role: Graph(path.read_bytes(), graph_entry(path, "onnx", "fp32")) for role, path in self.fp32.items()}
        recorder = _Recorder(start(graphs, default_threads(), "the fp32 graphs"))
        for images in self._photo_set.batches(self.preprocess, DECODED_TOGETHER):
            decode(recorder, recorder.engine.encode(images), self.vocabulary, self.options)
            yield from recorder.feeds
            recorder.feeds.clear()

    @cached_property
    def moments(self) -> dict[str, dict[str, Moments]]:
        """Of each graph, by role, those of its layers' inputs. Raises ``ImageError``."""
        return {spec.role: input_moments(self.fp32[spec.role], self.samples(spec)) for spec in self.specs}


def graph_entry(path: Path, engine: str, precision: str) -> GraphEntry:
    """What the manifest says of a graph."""
    return GraphEntry(engine=engine, precision=precision, **graph_interface(path))


class _Recorder:
    """An engine that keeps what its steps are given."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name = engine, engine.name
        self.encode = engine.encode
        self.feeds: list[Feeds] = []

    def step(self, token: IntArray, state: Arrays, memory: Arrays) -> Step:
        """As the engine's."""
        prefixed = {MEMORY: memory, STATE: state}
        named = {prefix + name: value for prefix, arrays in prefixed.items() for name, value in arrays.items()}
        self.feeds.append({TOKEN: token, **named})
        return self.engine.step(token, state, memory)

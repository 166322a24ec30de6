"""Where the time of a caption goes: from file to tensor, in the encoder, in each decoder step, and between steps."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgecap.bench.statistics import Summary, summarize
from edgecap.runtime.caption import milliseconds_since
from edgecap.runtime.captioner import Captioner
from edgecap.runtime.engines.engine import Arrays, Encoded, Engine, FloatArray, IntArray, Step

WARM_UP = 3


@dataclass(frozen=True)
class Latency:
    """Milliseconds of captions made one by one; ``step`` is of one decoder step, the others are of one caption."""

    preprocess: Summary  # reading, decoding, resizing
    encoder: Summary
    step: Summary
    search: Summary  # beam bookkeeping: all that happens around the steps of a caption
    total: Summary  # from file to text
    steps_per_caption: float
    hypotheses_per_caption: float  # words that were computed: of each step, one for every live hypothesis
    images_per_second: float


class TimedEngine:
    """An engine whose calls are timed, in milliseconds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.encodes: list[float] = []
        self.steps: list[float] = []
        self.hypotheses = 0

    @property
    def name(self) -> str:
        """The engine's."""
        return self._engine.name

    def encode(self, images: FloatArray) -> Encoded:
        """As the engine does."""
        start = time.perf_counter()
        encoded = self._engine.encode(images)
        self.encodes.append(milliseconds_since(start))
        return encoded

    def step(self, token: IntArray, state: Arrays, memory: Arrays) -> Step:
        """As the engine does."""
        start = time.perf_counter()
        step = self._engine.step(token, state, memory)
        self.steps.append(milliseconds_since(start))
        self.hypotheses += token.size
        return step


@dataclass
class _Samples:
    preprocess: list[float] = field(default_factory=list)
    encoder: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    search: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)


def measure(
    captioner: Captioner,
    photos: Sequence[Path],
    count: int,
    beam: int | None = None,
    advance: Callable[[], object] = lambda: None,
) -> Latency:
    """Caption ``count`` times, the photos in turn, after a warm-up. Raises ``ImageError`` for an unreadable photo."""
    timed = TimedEngine(captioner.loaded)
    watched = Captioner(captioner.bundle, captioner.graph_set, timed, captioner.threads)
    samples = _Samples()
    turns = itertools.cycle(photos)
    for photo in itertools.islice(turns, WARM_UP):
        watched.caption(photo, beam=beam)
    timed.hypotheses = 0
    began = time.perf_counter()
    for photo in itertools.islice(turns, count):
        timed.encodes.clear()
        timed.steps.clear()
        start = time.perf_counter()
        caption = watched.caption(photo, beam=beam)
        total = milliseconds_since(start)
        samples.preprocess.append(caption.timings.preprocess_ms)
        samples.encoder += timed.encodes
        samples.step += timed.steps
        samples.search.append(caption.timings.steps_ms - sum(timed.steps))
        samples.total.append(total)
        advance()
    seconds = time.perf_counter() - began
    summaries = {name: summarize(values) for name, values in vars(samples).items()}
    return Latency(
        **summaries,
        steps_per_caption=len(samples.step) / count,
        hypotheses_per_caption=timed.hypotheses / count,
        images_per_second=count / seconds,
    )

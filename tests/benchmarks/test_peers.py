"""The comparison with other engines and captioners: all are given the same, and what is written was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from exported import ENGINES, MARK
from PIL import Image

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.architectures.defaults import preprocess_config
from edgecap.benchmarks import contest
from edgecap.benchmarks.captioners import own, plain_torch
from edgecap.benchmarks.contest import WARM_UP, Contestant, medians
from edgecap.benchmarks.encoders import FP32, INT8, Encoders, noise_db
from edgecap.benchmarks.graph_sets import GraphSets
from edgecap.benchmarks.peers import Target
from edgecap.export.compress.calibration import from_folder
from edgecap.export.recipe import ExportRecipe
from edgecap.runtime import load
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS
from edgecap.runtime.photo.preprocess import to_tensor

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_contestants_take_turns_and_the_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, turns = [0.0], []
    monkeypatch.setattr(contest.time, "perf_counter", lambda: clock[0])

    def taking(name: str, seconds: Callable[[int], float]) -> Contestant:
        def run() -> None:
            clock[0] += seconds(turns.count(name))
            turns.append(name)

        return Contestant(name, "", run)

    slow_once = taking("a", lambda turn: 9.0 if turn == WARM_UP + 1 else 0.25)
    steady = taking("b", lambda turn: 0.5)
    assert medians([slow_once, steady], rounds=3, seconds=1.0) == [250, 500]
    warm, timed = turns[: 2 * WARM_UP], turns[2 * WARM_UP :]
    assert warm == ["a"] * WARM_UP + ["b"] * WARM_UP
    assert "".join(timed).replace("aaaa", "A").replace("aa", "A").replace("bb", "B") == "ABABAB"


@pytest.mark.parametrize(
    ("target", "row"),
    [
        (Target("x / y", 0.5, 0.65), "| x / y | 0.50 | at most 0.65 | met |"),
        (Target("x / y", 0.7, 0.65), "| x / y | 0.70 | at most 0.65 | **missed** |"),
        (Target("times", 99.0, 100, at_least=True), "| times | 99.00 | at least 100 | **missed** |"),
        (Target("memory", 120.0, 150, unit=" MB"), "| memory | 120.00 MB | at most 150 MB | met |"),
    ],
)
def test_a_target_says_whether_it_is_met(target: Target, row: str) -> None:
    assert target.row() == row


@pytest.fixture
def encoders(checkpoint: Path, photos: Path, tmp_path: Path, graphs_at_hand: None) -> Encoders:
    """Of the exported checkpoint, whose graphs are at hand."""
    loaded, recipe = load_checkpoint(checkpoint), ExportRecipe(calibration_photos=16)
    sets = GraphSets(loaded, from_folder(photos, recipe), tmp_path)
    return Encoders(sets, to_tensor(next(photos.iterdir()), preprocess_config(loaded.dims)))


@pytest.mark.parametrize(
    ("engine", "libraries"),
    [("own", []), ("openvino", ["openvino", "nncf"]), ("mnn", ["MNN"]), ("ncnn", ["ncnn", "pnnx"])],
)
def test_every_engine_gives_the_features_of_the_model(engine: str, libraries: list[str], encoders: Encoders) -> None:
    for library in libraries:
        pytest.importorskip(library, reason=f"{library} is of the extra peers")
    if engine == "own" and "tflite" not in ENGINES:
        pytest.skip("edgecap's own engines are both compared")
    exact, seen = encoders.features(), set()
    contestants: Iterator[Contestant] = getattr(encoders, engine)()
    for contestant in contestants:
        seen.add((contestant.name, contestant.kind))
        noise = noise_db(contestant.run(), exact)
        if engine == "mnn" and contestant.kind == INT8:
            continue  # what its quantizer makes of 16 photos of one colour is its own affair
        assert noise > (35 if contestant.kind == FP32 else 5), contestant.name
    assert len(seen) == (1 if engine == "ncnn" else 4)


def test_the_plain_pipeline_says_what_the_runtime_says(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    loaded, size = load_checkpoint(checkpoint), load_checkpoint(checkpoint).dims.image_size
    photo = tmp_path / "photo.png"
    Image.radial_gradient("L").resize((size, size)).convert("RGB").save(photo)
    model, vocabulary = loaded.model().eval(), loaded.vocabulary
    never = [vocabulary.ids[MARK], *range(len(SPECIAL_TOKENS))]  # nor the end: one of them goes on where the other ends
    with torch.no_grad():
        model.decoder.output.bias[never] = -1e9
    plain = plain_torch(model, vocabulary, preprocess_config(loaded.dims), photo).run()
    with load(bundle, precision="fp32", threads=1) as captioner:
        caption = own(captioner, photo).run()
    assert vocabulary.words(plain)[: len(caption.tokens)] == caption.tokens and len(caption.tokens) > 0

"""The schedule of a stage, what learns in it, and the log of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecap.architectures.defaults import preprocess_config
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.data.karpathy import CaptionDataset
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.training.config import Distillation, Language, SelfCritical, Stage, TrainConfig
from edgecap.training.plan import plan
from edgecap.training.report.log import LogRow, TrainingLog
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.stages.losses import caption_terms
from edgecap.training.stages.stage import TrainingStage

pytestmark = pytest.mark.usefixtures("one_torch_thread")
VOCABULARY = Vocabulary((*SPECIAL_TOKENS, "a", "dog", "runs"))


def stages_of(model: CaptionModel, dataset: CaptionDataset, **options: Any) -> dict[str, TrainingStage]:
    train, val = dataset.split("train"), dataset.split("val")
    training_data = TrainingData(train, val, VOCABULARY, preprocess_config(model.dims))
    stages = plan(TrainConfig(batch_size=3, **options), model, training_data).stages
    return {stage.name: stage for stage in stages}


def test_the_rate_rises_linearly_and_falls_as_a_cosine(small_model: CaptionModel, dataset: CaptionDataset) -> None:
    stage = stages_of(small_model, dataset, frozen=Stage(2, 1e-3, warmup=1 / 3))["frozen"]  # 16 photos, batches of 3
    assert stage.steps() == 12
    factors = [stage.rate_factor(step) for step in range(12)]
    cosine = [1, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, *cosine], abs=1e-6)


@given(st.integers(1, 50), st.floats(0, 1))
def test_the_rate_is_positive_and_never_above_its_peak(
    small_model: CaptionModel, dataset: CaptionDataset, epochs: int, warmup: float
) -> None:
    stage = stages_of(small_model, dataset, frozen=Stage(epochs, 1e-3, warmup=warmup))["frozen"]
    factors = [stage.rate_factor(step) for step in range(6 * epochs)]
    assert min(factors) > 0 and max(factors) == 1
    peak = factors.index(1)
    assert factors[peak:] == sorted(factors[peak:], reverse=True) and factors[:peak] == sorted(factors[:peak])


def test_which_parameters_learn_at_which_rate(
    small_model: CaptionModel, dataset: CaptionDataset, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("A dog runs.")
    stages = stages_of(
        small_model,
        dataset,
        teacher="efficientnet-lite0",
        distillation=Distillation(1, 1e-3, 1e-4),
        language=Language(1, 1e-3, text=str(tmp_path / "text")),
        frozen=Stage(1, 1e-3),
        end_to_end=Stage(1, 1e-3, 1e-5),
        self_critical=SelfCritical(1, 1e-3),
    )
    decoder, backbone = set(small_model.decoder.parameters()), set(small_model.encoder.backbone.parameters())
    projection = set(small_model.parameters()) - decoder - backbone
    found = {}
    for name, stage in stages.items():
        groups = stage.parameter_groups()
        found[name] = [(set(group["params"]) & set(small_model.parameters()), group["peak"]) for group in groups]
    assert found == {
        "distillation": [(projection, 1e-3), (backbone, 1e-4)],
        "language": [(decoder, 1e-3)],
        "frozen": [(decoder | projection, 1e-3)],
        "end_to_end": [(decoder | projection, 1e-3), (backbone, 1e-5)],
        "self_critical": [(decoder | projection, 1e-3)],
    }


def test_photos_with_one_caption_and_with_several_weigh_by_their_words(
    small_model: CaptionModel, dataset: CaptionDataset, tmp_path: Path
) -> None:
    stage = stages_of(small_model, dataset, frozen=Stage(1, 1e-3), dropout=0.0)["frozen"]
    stage.prepare(tmp_path)
    batch = next(stage.batches(stage.order(0)))
    fewer = batch.captions.clone()
    fewer[0, 1:] = 0
    words = small_model.forced_words(stage.source.views.features(batch.inputs), fewer)  # type: ignore[attr-defined]
    (padded,) = caption_terms(words)
    (term,) = stage.loss(replace(batch, captions=fewer), 0.0)
    assert term.over == padded.over < int((batch.captions[..., 1:] != 0).sum())
    assert term.total.item() == pytest.approx(padded.total.item(), rel=1e-5)


def test_the_log_keeps_what_is_behind_the_run(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log = TrainingLog(path, step=0, validated=True)
    for step in (1, 2, 3):
        log.append(LogRow("frozen", 1, step, loss=1 / 3))
        if step == 2:
            log.append(LogRow("frozen", 1, step, val_cider_d=0.0))
    assert log.curve("loss") == ([1, 2, 3], [0.333333] * 3) and log.curve("val_cider_d") == ([2], [0.0])
    assert len(TrainingLog(path, step=3, validated=False).rows()) == 4
    assert len(TrainingLog(path, step=2, validated=True).rows()) == 3
    assert len(TrainingLog(path, step=2, validated=False).rows()) == 2
    assert TrainingLog(path, step=0, validated=True).rows() == []

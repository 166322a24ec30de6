"""Batches of one shape, whose steps a graphics card may take as one graph, and blocks that are kept from learning."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_runs import PLAIN

from edgecap.architectures.backbones.efficientnet import EfficientNetLite, SideBySide
from edgecap.architectures.backbones.shufflenet import ShuffleNetV2
from edgecap.architectures.backbones.still import still_blocks
from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.registry import preset_dims
from edgecap.data.karpathy import CaptionDataset
from edgecap.errors import ConfigError
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.training.machine.captured import CapturedPass
from edgecap.training.run import train_run
from edgecap.training.sources.batches import Batch, EpochOrder
from edgecap.training.sources.captions import pad_captions
from edgecap.training.stages.losses import caption_terms, loss_of

pytestmark = pytest.mark.usefixtures("one_torch_thread")
VOCABULARY = Vocabulary((*SPECIAL_TOKENS, "a", "dog", "runs", "red"))
WORDS = st.lists(st.sampled_from(["a", "dog", "runs", "red", "unknown"]), min_size=1, max_size=9)
PHOTOS = st.lists(st.lists(WORDS, min_size=1, max_size=4), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def model() -> CaptionModel:
    torch.manual_seed(0)
    dims = preset_dims("base", len(VOCABULARY), attention_dim=6, hidden_dim=6, embedding_dim=6)
    return CaptionModel(dims).eval()


@given(st.integers(0, 50), st.integers(1, 9), st.integers(0, 5))
def test_whole_batches_are_all_of_one_size(count: int, size: int, first: int) -> None:
    order = EpochOrder(1, 0, 0, size, count, first, whole=True)
    batches = list(order)
    assert len(order) == count // size and len(batches) == max(0, len(order) - first)
    assert all(len(batch) == size for batch in batches)
    every = list(replace(order, first=0, whole=False))
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in every[first : count // size]]


@settings(max_examples=30, deadline=None)
@given(PHOTOS)
def test_captions_of_one_shape_have_the_same_loss(model: CaptionModel, photos: list[list[list[str]]]) -> None:
    """Padding to the longest captions that there may be, and taking all places, changes nothing."""
    features = torch.randn(len(photos), 49, model.dims.feature_dim, generator=torch.Generator().manual_seed(1))
    few, all_of_them = (pad_captions(photos, VOCABULARY, 7, least=least) for least in (0, 5))
    assert all_of_them.shape == (len(photos), 5, 9)
    with torch.inference_mode():
        compact = model.forced_words(features, few)
        memory, first = model.begin(features)
        everywhere = model._everywhere(memory, first, all_of_them)
    real = everywhere.target != 0
    assert int(everywhere.words) == int(real.sum()) == compact.words
    for one, other in zip(caption_terms(compact, smoothing=0.1), caption_terms(everywhere, smoothing=0.1), strict=True):
        torch.testing.assert_close(one.total, other.total, rtol=1e-4, atol=1e-4)
        assert float(one.over) == float(other.over) and one.weight == other.weight


@pytest.mark.parametrize(
    ("backbone", "modules"),
    [(EfficientNetLite("lite0"), 1), (SideBySide("lite0", "lite1"), 2), (ShuffleNetV2(), 1)],
    ids=["lite", "side by side", "shufflenet"],
)
def test_the_first_blocks_are_kept_from_learning(backbone: torch.nn.Module, modules: int) -> None:
    assert still_blocks(backbone, 0) == []
    still_blocks(backbone, 0.5)
    learning = [parameter.requires_grad for parameter in backbone.parameters()]
    assert learning.count(True) > 20 and learning.count(False) > 20
    assert sum(not one and other for one, other in pairwise(learning)) == modules  # first ones
    out = backbone(torch.rand(1, 3, 64, 64)).sum()
    out.backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in backbone.parameters())


def test_a_backbone_without_blocks_cannot_keep_some() -> None:
    with pytest.raises(ConfigError, match="frozen_blocks is for backbones that are made of blocks"):
        still_blocks(torch.nn.Linear(1, 1), 0.5)


def test_blocks_that_do_not_learn_stay_as_they_were(
    dataset: CaptionDataset, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Their weights and their BatchNorm's statistics, through distillation's absence, captions and rewards."""
    folder = tmp_path_factory.mktemp("still")
    overrides = {**PLAIN, "preset": "base", "frozen.epochs": 0, "end_to_end.epochs": 1, "backbone_weights": "none"}
    begun, free = ({**overrides, "frozen_blocks": share} for share in (0.5, 0.0))
    weights = []
    for name, options in (("still", begun), ("free", free)):
        train_run(dataset, folder / name, overrides=options, say=lambda line: None)
        weights.append(load_checkpoint(folder / name / "last.safetensors").weights)
    torch.manual_seed(1)
    kept, moved = (
        {name: tensor for name, tensor in of.items() if name.startswith("encoder.backbone.conv1.")} for of in weights
    )
    norm = next(name for name in kept if name.endswith("running_mean"))
    assert not kept[norm].any() and moved[norm].any()  # as it was made, and as photos made it
    last = "encoder.backbone.conv5.0.weight"
    assert not torch.equal(weights[0][last], weights[1][last])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a pass is captured on graphics cards only")
def test_a_captured_pass_has_the_gradients_of_a_step(model: CaptionModel) -> None:
    network = model.cuda()
    batches = []
    for seed in (1, 2, 3):
        generator = torch.Generator().manual_seed(seed)
        captions = torch.randint(4, 8, (2, 3, 6), generator=generator)
        captions[..., 0] = VOCABULARY.start_id
        captions[0, 2, 3:] = 0
        images = torch.randn(2, 3, 224, 224, generator=generator).cuda()
        batches.append(Batch(torch.arange(2).numpy(), images, captions))

    def terms(batch: Batch) -> list:  # type: ignore[type-arg]
        return caption_terms(network.forced_words(network.encoder(batch.inputs), batch.captions))

    captured = CapturedPass(terms, batches[0], [network])
    for batch in batches:
        mean = captured(batch).item()
        found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
        expected_terms = terms(replace(batch, captions=batch.captions.cuda()))
        loss = loss_of(expected_terms, [term.over for term in expected_terms])
        expected = torch.autograd.grad(loss, [dict(network.named_parameters())[name] for name in found])
        for gradient, other in zip(found.values(), expected, strict=True):
            torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-4)
        assert mean == pytest.approx(loss.item(), rel=1e-4)

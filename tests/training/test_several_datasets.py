"""Several datasets in one training, by the command: weights, figures of each, words of all, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from conftest import edgecap_here
from hypothesis import given
from hypothesis import strategies as st
from tiny_dataset import write_tiny_dataset
from training_runs import assert_same_run, log_rows

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.data.mixture import drawn
from edgecap.runtime.wording import human_bytes
from edgecap.training.report.forecast import hours_line
from edgecap.training.sources.batches import EpochOrder

pytestmark = pytest.mark.usefixtures("one_torch_thread")
OPTIONS = ("--preset", "plus", "--frozen-epochs", 2, "--epochs", 0, "--batch-size", 4)
SETTINGS = ("--set", "views=1", "--set", "min_count=1", "--set", "precision=fp32", "--set", "backbone_weights=none")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Datasets with the same file names, of which the second knows buses and no squares."""
    folder = tmp_path_factory.mktemp("two")
    shapes, buses = write_tiny_dataset(folder / "shapes", 8, 4), write_tiny_dataset(folder / "buses", 8, 2)
    source = buses / "dataset_tiny.json"
    text = source.read_text().replace('"dataset": "tiny"', '"dataset": "buses"')
    source.write_text(text.replace('"square"', '"bus"').replace('"circle"', '"bus"'))
    for photo in (buses / "images").iterdir():  # of the same size, and yet another
        content = bytearray(photo.read_bytes())
        content[-3] ^= 1
        photo.write_bytes(content)
    return shapes, buses


@pytest.fixture(scope="module")
def trained(two: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run on both, half of the second in each epoch, and what it said."""
    run = tmp_path_factory.mktemp("trained") / "run"
    data = ("--data", two[0], "--data", f"{two[1]},weight=0.5")
    code, _, err = edgecap_here("train", *data, "-o", run, *OPTIONS, *SETTINGS)
    assert code == 0, err
    return run, err


def test_each_dataset_has_its_figures_and_the_mean_chooses(trained: tuple[Path, list[str]]) -> None:
    run, err = trained
    steps = [row for row in log_rows(run) if row["loss"]]
    validations = [row for row in log_rows(run) if row["val_cider_d"]]
    assert len(steps) == 2 * 3 and len(validations) == 2  # 8 photos and 4 of 8, in batches of 4
    for row in validations:
        name, figure, other, another = row["val_datasets"].split()
        assert (name, other) == ("tiny", "buses")
        assert float(row["val_cider_d"]) == pytest.approx((float(figure) + float(another)) / 2, abs=0.01)
    assert any("; tiny CIDEr-D " in line and "; buses CIDEr-D " in line for line in err)
    best = load_checkpoint(run / "best.safetensors")
    means = [figures["CIDEr-D"] for figures in best.metrics["datasets"].values()]
    assert best.metrics["CIDEr-D"] == pytest.approx(sum(means) / 2, abs=1e-3)
    assert {"bus", "square"} <= set(best.vocabulary.tokens)


def test_a_run_says_its_plan_before_it_starts(trained: tuple[Path, list[str]]) -> None:
    run, err = trained
    begin = err.index("learns from tiny (8 photos), buses (8 photos, weight 0.5); 17 words; judged on 6 photos of val")
    grids = 22 * 49 * 1280 * 2  # 22 photos of 7 x 7 locations, in two bytes
    assert sum(path.stat().st_size - 128 for path in (run / "cache").glob("*.npy")) == grids
    plan = f"frozen: 2 epochs of 12 photos, 6 steps; features of {human_bytes(grids)} in {run / 'cache'}, where "
    assert re.fullmatch(re.escape(plan) + r"[\d.]+ GB are free", err[begin + 1])


def test_hours_are_those_of_steps_that_change_nothing(two: tuple[Path, Path], tmp_path: Path) -> None:
    options = ("train", "--data", two[0], *OPTIONS, *SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgecap.training.trainer.WORTH_IT", 2)
        code, _, err = edgecap_here(*options, "-o", tmp_path / "told")
    (line,) = [line for line in err if "photos a second" in line]
    assert code == 0 and re.fullmatch(r"frozen: [\d.]+ [a-z]+ at \d+ photos a second, without validations", line)
    code, _, err = edgecap_here(*options, "-o", tmp_path / "untold")  # of so few steps nothing is told
    assert code == 0 and not any("photos a second" in line for line in err)
    assert_same_run(tmp_path / "told", tmp_path / "untold")


def test_a_run_goes_on_with_its_own_datasets_alone(
    two: tuple[Path, Path], trained: tuple[Path, list[str]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    code, out, err = edgecap_here("train", "--data", two[0], "--data", two[1], "-o", run, "--resume")
    assert (code, out) == (1, [])
    assert err[-1].endswith(
        "last.safetensors: was trained on tiny (8 photos), buses (8 photos, weight 0.5), and not on tiny (8 photos), "
        "buses (8 photos): name its own datasets"
    )
    code, _, err = edgecap_here("train", "--data", two[0], "--data", f"{two[1]},weight=0.5", "-o", run, "--resume")
    assert code == 0
    assert_same_run(run, trained[0])


def test_features_are_shared_between_runs(
    two: tuple[Path, Path], trained: tuple[Path, list[str]], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(trained[0] / "cache", cache)
    before = {path.name: path.stat().st_mtime_ns for path in cache.glob("*.npy")}
    assert len(before) == 4  # train and val of each
    run = tmp_path / "run"
    code, _, _ = edgecap_here("train", "--data", two[1], "-o", run, "--cache", cache, *OPTIONS, *SETTINGS)
    assert code == 0 and {path.name: path.stat().st_mtime_ns for path in cache.glob("*.npy")} == before
    assert not (run / "cache").exists()


def test_a_dataset_without_val_is_learnt_and_not_judged_by(two: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(two[1], tmp_path / "buses")
    source = tmp_path / "buses" / "dataset_tiny.json"
    document = json.loads(source.read_text())
    document["images"] = [image for image in document["images"] if image["split"] == "train"]
    source.write_text(json.dumps(document))
    (tmp_path / "run.toml").write_text(
        f'data = ["{two[0]}", {{path = "{source.parent}", weight = 0.5}}]\npreset = "plus"\nfrozen.epochs = 1\n'
        'end_to_end.epochs = 0\nviews = 1\nmin_count = 1\nprecision = "fp32"\nbackbone_weights = "none"\n'
    )
    code, _, err = edgecap_here("train", "--config", tmp_path / "run.toml", "-o", tmp_path / "run")
    assert code == 0 and "buses has no photos in split 'val': the others choose the checkpoint" in err
    assert "bus" in load_checkpoint(tmp_path / "run" / "best.safetensors").vocabulary.tokens


def test_what_is_wrong_with_one_of_them_is_said_before_anything_is_made(two: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for data, code, problem in (
        (f"{broken},photos={two[0] / 'images'}", 1, f"{broken}: is not readable JSON"),
        (f"{two[1]},weight=0", 2, "weight must be above 0"),
        (two[0] / "dataset_tiny.json", 1, "is named twice"),
        (tmp_path / "none", 1, "no such captions file or dataset folder"),
    ):
        found, out, err = edgecap_here("train", "--data", two[0], "--data", data, "-o", tmp_path / "run", *OPTIONS)
        assert (found, out) == (code, []) and problem in err[-1] and not (tmp_path / "run").exists()


def test_a_trained_captioner_learns_on(two: tuple[Path, Path], tmp_path: Path) -> None:
    first, more = tmp_path / "first", tmp_path / "more"
    preset = ("--preset", "base", *OPTIONS[2:])
    code, _, err = edgecap_here("train", "--data", two[0], "-o", first, *preset, *SETTINGS)
    assert code == 0, err
    start = load_checkpoint(first / "best.safetensors")
    begin = ("train", "--data", two[1], "-o", more, "--start-from", first / "best.safetensors")
    code, _, err = edgecap_here(*begin, *OPTIONS[2:], *SETTINGS)  # of the preset that it has
    assert code == 0 and f"starting from {first / 'best.safetensors'}" in err
    best = load_checkpoint(more / "best.safetensors")
    assert best.dims.preset == "base" and best.vocabulary.tokens[: len(start.vocabulary)] == start.vocabulary.tokens
    assert set(best.vocabulary.tokens) - set(start.vocabulary.tokens) == {"bus"}
    shutil.rmtree(first)  # a run that has begun does not need it any more
    code, _, err = edgecap_here("train", "--data", two[1], "-o", more, "--resume")
    assert code == 0, err
    code, out, err = edgecap_here("train", "--data", two[1], "-o", tmp_path / "x", "--start-from", tmp_path / "none")
    assert (code, out) == (1, []) and "no such checkpoint file" in err[-1]


def test_a_decoder_may_be_another_models(
    trained: tuple[Path, list[str]], two: tuple[Path, Path], tmp_path: Path
) -> None:
    plus, base, tiny = trained[0] / "best.safetensors", tmp_path / "base", tmp_path / "tiny"
    settings = (*SETTINGS, "--set", "ema=0")
    for preset, run in (("base", base), ("tiny", tiny)):
        code, _, err = edgecap_here("train", "--data", two[0], "-o", run, "--preset", preset, *OPTIONS[2:], *settings)
        assert code == 0, err
    start = ("train", "--data", two[1], *OPTIONS[2:], *settings, "--set", f"decoder_from={plus}")
    still = ("--set", "frozen.learning_rate=0")
    begin = (*start, *still, "--start-from", base / "best.safetensors", "-o", tmp_path / "more")
    code, _, err = edgecap_here(*begin)
    assert code == 0, err
    assert f"starting from {base / 'best.safetensors'}, with the decoder of {plus}" in err
    made, own, theirs = (
        load_checkpoint(path) for path in (tmp_path / "more/best.safetensors", base / "best.safetensors", plus)
    )
    assert made.vocabulary.tokens == theirs.vocabulary.tokens != own.vocabulary.tokens
    for name, tensor in made.weights.items():
        source = theirs if name.startswith("decoder.") else own
        assert tensor.equal(source.weights[name]), name
    code, _, err = edgecap_here(*start, "--start-from", tiny / "best.safetensors", "-o", tmp_path / "x")
    assert (code, err[-1]) == (1, f"edgecap: {plus}: its decoder has another shape than that of the preset tiny")
    code, _, err = edgecap_here(*start, "--preset", "base", "-o", tmp_path / "x")
    assert code == 2 and err[-1].endswith("training configuration: decoder_from needs start_from")


def test_a_vocabulary_may_be_limited(two: tuple[Path, Path], tmp_path: Path) -> None:
    code, _, _ = edgecap_here(
        "train", "--data", two[0], "-o", tmp_path / "run", *OPTIONS, *SETTINGS, "--set", "max_vocabulary=9"
    )
    tokens = load_checkpoint(tmp_path / "run" / "best.safetensors").vocabulary.tokens
    assert code == 0 and len(tokens) == 9 and "a" in tokens


PART = st.tuples(st.integers(1, 30), st.floats(0.1, 3))
PARTS = st.lists(PART, min_size=1, max_size=3).filter(lambda parts: drawn(parts) > 0)


@given(PARTS, st.integers(0, 5))
def test_weights_say_how_often_a_photo_is_shown(parts: list[tuple[int, float]], epoch: int) -> None:
    count = sum(number for number, _ in parts)
    order = EpochOrder(1, 0, epoch, 4, count, parts=tuple(parts))
    shown = Counter(int(index) for batch in order for index in batch)
    assert sum(shown.values()) == order.shown == drawn(parts)
    first = 0
    for number, weight in parts:
        own = [shown[index] for index in range(first, first + number)]
        whole = drawn([(number, weight)]) // number
        assert set(own) <= {whole, whole + 1} and sum(own) == drawn([(number, weight)])
        first += number


@given(st.lists(st.integers(1, 30), min_size=1, max_size=3), st.integers(0, 5))
def test_datasets_of_weight_one_are_as_one_dataset(counts: list[int], epoch: int) -> None:
    whole = EpochOrder(1, 0, epoch, 4, sum(counts))
    several = EpochOrder(1, 0, epoch, 4, sum(counts), parts=tuple((count, 1.0) for count in counts))
    assert [batch.tolist() for batch in several] == [batch.tolist() for batch in whole]


def test_hours_are_told_of_epochs_of_a_single_batch() -> None:
    class Stage:
        name, unit = "frozen", "photo"

        def order(self, epoch: int) -> EpochOrder:
            return EpochOrder(1, 0, epoch, 8, 8)

        def batches(self, order: EpochOrder) -> list[str]:
            return ["a batch"]

    learnt: list[object] = []
    line = hours_line(Stage(), 500, learnt.append)  # type: ignore[arg-type]
    assert learnt == ["a batch"] and line.startswith("frozen: ") and line.endswith(" a second, without validations")

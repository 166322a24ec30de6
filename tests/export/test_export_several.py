"""A bundle that is measured on several datasets: ``eval.json`` and card have the figures of each, and their mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import edgecap_here
from tiny_dataset import write_tiny_dataset

from edgecap.data.mixture import DataSource, load_mixture
from edgecap.errors import DataError
from edgecap.export.compress.calibration import from_datasets, from_ids
from edgecap.export.recipe import ExportRecipe


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Datasets with the same file names, of which the second calls its circles buses."""
    folder = tmp_path_factory.mktemp("two")
    shapes, buses = write_tiny_dataset(folder / "shapes", 10, 4), write_tiny_dataset(folder / "buses", 20, 2)
    source = buses / "dataset_tiny.json"
    text = source.read_text().replace('"dataset": "tiny"', '"dataset": "buses"')
    source.write_text(text.replace('"circle"', '"bus"'))
    for photo in (buses / "images").iterdir():  # of the same size, and yet another
        content = bytearray(photo.read_bytes())
        content[-3] ^= 1
        photo.write_bytes(content)
    return shapes, buses


def test_each_dataset_has_its_figures_and_the_mean_is_the_bundles(
    checkpoint: Path, two: tuple[Path, Path], tmp_path: Path
) -> None:
    made = tmp_path / "made"
    data = ("--data", two[0], "--data", two[1])
    code, _, err = edgecap_here("export", checkpoint, "-o", made, "--onnx", "--fp32", *data)
    assert code == 0 and "captions of 6 val photos, by torch and 1 set of graphs" in err
    evaluation = json.loads((made / "eval.json").read_text())
    assert (evaluation["protocol"]["dataset"], evaluation["protocol"]["photos"]) == ("tiny, buses", 6)
    card = (made / "MODEL_CARD.md").read_text()
    assert "These are means of tiny and buses. Of each:" in card
    for name, result in evaluation["results"].items():
        own = result["datasets"]
        assert list(own) == ["tiny", "buses"]
        for figure in ("BLEU-1", "CIDEr-D"):
            assert result[figure] == pytest.approx((own["tiny"][figure] + own["buses"][figure]) / 2, abs=1e-3)
        for dataset, figures in own.items():
            assert f"| {dataset} | {name} | {figures['BLEU-1']:.2f} |" in card
            share = figures["quality"]["distinct captions"]
            assert share["of"] == {"tiny": 4, "buses": 2}[dataset]
            assert f"| {name}, {dataset} | {share['count']} of {share['of']}" in card
        assert result["quality"]["distinct captions"]["of"] == 6
    code, out, _ = edgecap_here("inspect", made, "--json")
    assert code == 0 and json.loads(out[0])["evaluation"]["results"].keys() == evaluation["results"].keys()


def test_calibration_draws_from_all_datasets(two: tuple[Path, Path]) -> None:
    mixture = load_mixture([DataSource(path) for path in two])
    drawn = from_datasets(mixture, ExportRecipe(calibration_photos=24))
    of = [name.partition("/")[0] for name in drawn.ids]
    assert drawn.source == "tiny, buses" and len(drawn.ids) == len(set(drawn.paths)) == 24
    assert of.count("tiny") >= 4 and of.count("buses") >= 14  # of 10 and 20
    assert from_ids(mixture, drawn.ids) == drawn
    with pytest.raises(DataError, match=r"photo 'buses/020\.jpg' is of val"):
        from_ids(mixture, [next(photo.id for photo in mixture.listed("val") if photo.dataset == "buses")])

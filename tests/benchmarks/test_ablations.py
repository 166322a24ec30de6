"""The table of what training options give: from its logs, and from trainings that can be had."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny_dataset import write_tiny_dataset
from training_runs import PLAIN

from edgecap.benchmarks import ablations
from edgecap.benchmarks.ablations import ABLATIONS, Ablation, main, table
from edgecap.training.config import TrainConfig, load_config

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def config(ablation: Ablation) -> TrainConfig:
    return load_config(None, {**ablation.options, **{name: f"{flag}-file" for name, flag in ablation.files.items()}})


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {name for name in one if one[name] != other[name]}


def test_each_training_differs_in_one_option_from_what_it_is_held_against() -> None:
    by_name = {ablation.name: ablation for ablation in ABLATIONS}
    assert len(by_name) == len(ABLATIONS)
    for ablation in ABLATIONS:
        if ablation.against and not ablation.until:
            ours, theirs = config(ablation).to_json(), config(by_name[ablation.against]).to_json()
            assert len(differences(ours, theirs)) == 1, ablation.name


def test_the_committed_table_is_that_of_the_committed_logs() -> None:
    if not ablations.REPORT.exists():
        pytest.skip("no table is committed")
    assert "\n".join(table()) in ablations.REPORT.read_text()
    for log in ablations.LOGS.glob("*.json"):
        (known,) = (ablation for ablation in ABLATIONS if ablation.name == log.stem)
        assert json.loads(log.read_bytes())["options"] == known.options


def test_a_table_is_made_by_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_tiny_dataset(tmp_path / "tiny", train=8, val=4)
    monkeypatch.setattr(ablations, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(ablations, "REPORT", tmp_path / "table.md")
    short = {**PLAIN, "frozen.epochs": 1}
    baseline = Ablation("baseline", "as it is", short, files={})
    smooth = Ablation("smooth", "smooth labels", {**short, "label_smoothing": 0.1}, "baseline", {})
    language = Ablation("language", "with words", short, "baseline", {"language.text": "text"})
    monkeypatch.setattr(ablations, "ABLATIONS", (baseline, smooth, language))
    arguments = ["--data", str(data), "-o", str(tmp_path / "runs")]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "language: left out, for nothing is given as text" in result.output
    log = json.loads((tmp_path / "logs" / "baseline.json").read_bytes())
    (validation,) = log["validations"]
    rows = (tmp_path / "table.md").read_text().splitlines()
    score = float(validation["val_cider_d"])
    assert f"| as it is | {score:.2f} | {float(validation['val_bleu_4']):.2f} | - | - |" in rows
    assert any(row.startswith("| smooth labels | ") and row.endswith(" | baseline |") for row in rows)
    # Both are made, so nothing is trained any more; and features were computed once for both.
    assert len(list((tmp_path / "runs" / "cache").glob("*.npy"))) == 2
    monkeypatch.setattr(ablations, "train_run", None)
    again = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert again.exit_code == 0 and (tmp_path / "table.md").read_text().splitlines() == rows


def test_without_data_it_says_so() -> None:
    result = CliRunner(env={"EDGECAP_DATA": None}).invoke(main, [])
    assert result.exit_code == 2 and "name the --data" in result.output

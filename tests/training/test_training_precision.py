"""The precision that a training takes by itself: by the instructions of the CPU, or by the graphics card."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_runs import PLAIN, log_without_speed

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.data.karpathy import CaptionDataset
from edgecap.training.machine import precision
from edgecap.training.machine.precision import cpu_precision, resolved_precision
from edgecap.training.run import train_run

WITHOUT = frozenset({"sse2", "avx2", "fma", "avx512f", "avx512_vnni", "amx_int8"})


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"avx512_bf16"}, "precision: bf16, for which this CPU has AVX-512 BF16"),
        ({"avx512_bf16", "amx_bf16"}, "precision: bf16, for which this CPU has AVX-512 BF16 and AMX"),
        ({"asimd", "i8mm", "bf16"}, "precision: bf16, for which this CPU has Arm's bf16"),
        (WITHOUT, "precision: fp32, as this CPU has no bf16 instructions (AVX-512 BF16, AMX, Arm's bf16)"),
        (set(), "precision: fp32, as this CPU has no bf16 instructions (AVX-512 BF16, AMX, Arm's bf16)"),
    ],
)
def test_auto_takes_bf16_only_where_the_cpu_has_it(flags: set[str], line: str) -> None:
    assert cpu_precision("auto", flags).line == line


def test_what_is_asked_for_is_taken_and_what_is_slow_is_said() -> None:
    for flags in ({"amx_bf16"}, WITHOUT):
        assert cpu_precision("fp32", flags).line == "precision: fp32, as the configuration says"
    assert cpu_precision("bf16", {"amx_bf16"}).line == "precision: bf16, as the configuration says"
    slow = cpu_precision("bf16", WITHOUT)
    assert slow.name == "bf16" and slow.line.endswith("and fp32 would be faster")


@pytest.mark.parametrize(("has", "name"), [(True, "bf16"), (False, "fp32")])
def test_a_graphics_card_is_asked(monkeypatch: pytest.MonkeyPatch, has: bool, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    monkeypatch.setattr(precision, "cpu_flags", lambda: WITHOUT)
    card = torch.device("cuda")
    assert [resolved_precision(asked, card).name for asked in ("auto", "bf16", "fp32")] == [name, "bf16", "fp32"]


@pytest.mark.usefixtures("one_torch_thread")
@pytest.mark.parametrize(("flags", "name"), [(frozenset({"avx512_bf16"}), "bf16"), (WITHOUT, "fp32")])
def test_a_run_is_that_of_the_precision_by_name_and_shares_its_cache(
    dataset: CaptionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: frozenset[str], name: str
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    said: list[str] = []
    for run, asked in (("named", name), ("auto", "auto")):
        train_run(dataset, tmp_path / run, overrides={**PLAIN, "precision": asked}, say=said.append)
    auto, named = tmp_path / "auto", tmp_path / "named"
    assert [line.split(",")[0] for line in said if line.startswith("precision")] == [f"precision: {name}"] * 2
    assert log_without_speed(auto) == log_without_speed(named)
    names = [sorted(path.name for path in (run / "cache").iterdir()) for run in (auto, named)]
    assert names[0] == names[1] != []
    assert load_checkpoint(auto / "last.safetensors").config["precision"] == "auto"


@pytest.mark.usefixtures("one_torch_thread")
def test_auto_goes_on_elsewhere_and_says_what_it_comes_to_there(
    dataset: CaptionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    overrides, said = {**PLAIN, "precision": "auto"}, list[str]()
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr("edgecap.training.trainer.plot_curve", stop)
        train_run(dataset, tmp_path, overrides=overrides, say=said.append)
    monkeypatch.setattr(precision, "cpu_flags", lambda: WITHOUT)
    train_run(dataset, tmp_path, resume=True, say=said.append)
    assert [line.split(",")[0] for line in said if line.startswith("precision")] == [
        "precision: bf16",
        "precision: fp32",
    ]

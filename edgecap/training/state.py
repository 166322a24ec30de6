"""What a run needs, beside its weights, to go on as if it had never stopped: position, optimizer, random numbers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from edgecap.runtime.bundle.typed import read_options

DATASETS = "datasets"  # beside the position in a checkpoint: what the run learns from


@dataclass(frozen=True)
class Position:
    """Where a run stands. The next batch is number ``batch`` of ``epoch`` of ``stage``."""

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0  # batches of the whole run
    best_cider_d: float = -1.0  # of the best validation yet, x 100
    best_loss: float | None = None  # of the same; not known of runs that began before it was kept

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Position:
        """Of a checkpoint's ``training``. Raises ``ValueError``."""
        where = {name: value for name, value in document.items() if name != DATASETS}
        position = read_options(cls, where, "position")
        if min(position.stage, position.epoch, position.batch, position.step) < 0:
            raise ValueError("its position must be whole numbers, from 0 on")
        if not all(map(math.isfinite, (position.best_cider_d, position.best_loss or 0.0))):
            raise ValueError("its best figures must be finite numbers")
        return position

    def improved(self, cider_d: float, loss: float) -> Position | None:
        """With the figures of a better validation; of equal CIDEr-D that with the lower loss. ``None`` for others."""
        tied = cider_d == self.best_cider_d and self.best_loss is not None and loss < self.best_loss
        if not (cider_d > self.best_cider_d or tied):
            return None
        return replace(self, best_cider_d=cider_d, best_loss=loss if math.isfinite(loss) else None)


def pack_state(
    position: Position, datasets: str, optimizer: Optimizer, **parts: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON part and the tensor part of a resumable checkpoint; ``parts`` are tensors of whatever else learns.

    ``datasets`` says in words what is learnt from.
    """
    tensors = {"rng.torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
    for part, values in parts.items():
        tensors |= {f"{part}.{name}": tensor.cpu() for name, tensor in values.items()}
    return {**asdict(position), DATASETS: datasets}, tensors


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors by part: rng, optimizer and the parts that :func:`pack_state` was given; absent ones are empty."""
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        parts[part][name] = tensor
    return parts


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give ``optimizer`` its moments; none leave it fresh, as at the start of a stage.

    Raises ``ValueError`` for moments that are not of its parameters.
    """
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in tensors.items():
        index, name = key.split(".")
        state[int(index)][name] = tensor
    learning = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, values in state.items():
        shape = learning[number].shape if number < len(learning) else None
        if any(tensor.ndim and tensor.shape != shape for tensor in values.values()):
            raise ValueError(f"the optimizer's tensors of parameter {number} have another shape")
    if state:
        optimizer.load_state_dict({"state": dict(state), "param_groups": optimizer.state_dict()["param_groups"]})


def restore_random_numbers(tensors: Mapping[str, Tensor]) -> None:
    """Continue the random numbers of the run that wrote ``tensors``."""
    torch.set_rng_state(tensors["torch"])
    if torch.cuda.is_available() and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"])

"""Photos a second that the backbones train with on this machine, and where the time goes.

python -m edgecap.benchmarks.training_speed --profile

A step is forward, backward and AdamW, on random images. Contestants take turns. ``tests/avx2/run`` before the command
stands in for a CPU with nothing newer than AVX2.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from statistics import median

import click
import torch
from torch import nn

from edgecap.architectures.backbones.efficientnet import EfficientNetLite
from edgecap.architectures.backbones.shufflenet import ShuffleNetV2
from edgecap.training.machine.memory import keep_freed_memory
from edgecap.training.machine.precision import resolved_precision

BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "ShuffleNetV2": ShuffleNetV2,
    "EfficientNet-Lite0": EfficientNetLite,
}
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
OPERATORS = 12  # of a profile
CPU = torch.device("cpu")


@dataclass
class Training:
    """A backbone that trains in a precision and a memory layout, and the seconds of its steps."""

    backbone: str
    precision: str
    layout: str
    batch: int
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)  # of all threads

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.network = BACKBONES[self.backbone]().train()
        self.network.to(memory_format=LAYOUTS[self.layout])  # type: ignore[call-overload]
        self.images = torch.randn(self.batch, 3, 224, 224).contiguous(memory_format=LAYOUTS[self.layout])
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        self.step()

    def step(self) -> None:
        """Learn one batch."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            features = self.network(self.images)  # (N, C, 7, 7)
        self.optimizer.zero_grad(set_to_none=True)
        features.float().square().mean().backward()
        self.optimizer.step()

    def time(self) -> None:
        """Take the time of one step."""
        wall, processor = time.perf_counter(), time.process_time()
        self.step()
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)

    @property
    def row(self) -> str:
        """A line of the table: by the clock, and by the processor's time, which other programs disturb less."""
        speeds = [self.batch / median(times) for times in (self.wall, self.processor)]
        speeds.append(self.batch / min(self.processor))
        told = f"{self.backbone:20}{self.precision:6}{self.layout:15}"
        return told + "".join(f"{speed:11.1f}" for speed in speeds)

    def profile(self) -> str:
        """The operators that take the most time of a step."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            self.step()
        return profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=OPERATORS)  # type: ignore[no-any-return]


@click.command(help=__doc__)
@click.option("--backbone", "backbones", multiple=True, type=click.Choice(list(BACKBONES)), default=list(BACKBONES))
@click.option("--precision", "precisions", multiple=True, type=click.Choice(["auto", "bf16", "fp32"]), default=["auto"])
@click.option("--layout", "layouts", multiple=True, type=click.Choice(list(LAYOUTS)), default=["channels_last"])
@click.option("--batch", type=click.IntRange(1), default=32, help="Photos in a step.")
@click.option("--rounds", type=click.IntRange(1), default=7, help="Steps of each that are timed.")
@click.option("--threads", type=click.IntRange(1), help="Of torch; else as many as it takes by itself.")
@click.option("--give-memory-back", is_flag=True, help="Leave freed memory to malloc, as edgecap train does not.")
@click.option("--profile", is_flag=True, help="Also print the operators that take the most time.")
def main(
    backbones: tuple[str, ...],
    precisions: tuple[str, ...],
    layouts: tuple[str, ...],
    batch: int,
    rounds: int,
    threads: int | None,
    give_memory_back: bool,
    profile: bool,
) -> None:
    if not give_memory_back:
        keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    resolved = [resolved_precision(asked, CPU) for asked in precisions]
    for each in resolved:
        click.echo(each.line, err=True)
    names = [each.name for each in resolved]
    trainings = [Training(*of, batch) for of in product(backbones, names, layouts)]
    for _ in range(rounds):
        for training in trainings:
            training.time()
    click.echo(f"{'photos a second':41}     median  a CPU second: median  best")
    for training in trainings:
        click.echo(training.row)
        if profile:
            click.echo(training.profile())


if __name__ == "__main__":
    main()

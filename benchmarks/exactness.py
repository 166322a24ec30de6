"""What it costs that INT8 is exact on every kind of x86 processor: encoders of one checkpoint, timed in turns.

python -m edgecap.benchmarks.exactness models/plus/checkpoint.safetensors --data flickr8k/

Each kind of processor has its section in the report; those of other kinds stay.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import click
import numpy as np
import onnxruntime

from edgecap.benchmarks.quantization import Campaign
from edgecap.benchmarks.report import write_section
from edgecap.data.karpathy import load_dataset
from edgecap.export.proof.parity import decibels
from edgecap.export.variant import Compression
from edgecap.metrics.split import image_tensor
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.engines.saturation import EXACT_PRODUCTS

REPORT = Path(__file__).with_name("EXACTNESS.md")
TITLE = "INT8 encoders that are exact on every CPU"
PROTOCOL = (
    "`python -m edgecap.benchmarks.exactness models/plus/checkpoint.safetensors --data flickr8k/`; for a processor "
    "without VNNI where there is none, the same behind `tests/avx2/run`."
)
PHOTOS, WARM_UP = 8, 5

Encode = Callable[[FloatArray], FloatArray]  # (1, 3, S, S) -> features (1, L, D)


def encoders(campaign: Campaign) -> Iterator[tuple[str, Encode]]:
    """What is compared, by name; of each a session or an engine with one thread."""
    sets, int8 = campaign.sets, campaign.sets.recipe.int8
    freely = replace(int8, pair_limit=False)
    free = sets.make("onnx", freely, freely)["encoder"]
    yield "INT8 rounded freely, kernels that saturate", session(free, exact=False)
    yield "INT8 rounded freely, exact kernels", session(free, exact=True)
    for engine, library in (("onnx", "ONNX Runtime"), ("tflite", "LiteRT")):
        for how, name in ((int8, "INT8 of the recipe"), (Compression(), "fp32")):
            yield f"{name}, {library}", loaded(campaign, engine, how)


def session(graph: Path, *, exact: bool) -> Encode:
    """ONNX Runtime as it is by itself, or with exact products everywhere."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if exact:
        options.add_session_config_entry(*EXACT_PRODUCTS)
    made = onnxruntime.InferenceSession(graph.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda image: made.run(["memory.features"], {"image": image})[0]


def loaded(campaign: Campaign, engine: str, how: Compression) -> Encode:
    """As the runtime loads it."""
    made = campaign.sets.start(engine, campaign.sets.make(engine, how, how), threads=1)
    return lambda image: made.encode(image).memory["features"]


def rows(measured: dict[str, Encode], images: FloatArray, rounds: int) -> Iterator[str]:
    """Lines of the table: medians of processor time in milliseconds, and noise against fp32 in ONNX Runtime."""
    times: dict[str, list[float]] = {name: [] for name in measured}
    for turn in range(WARM_UP + rounds):
        for name, encode in measured.items():
            start = time.process_time()
            encode(images[turn % len(images)][None])
            if turn >= WARM_UP:
                times[name].append(1e3 * (time.process_time() - start))
    made = {name: np.concatenate([encode(image[None]) for image in images]) for name, encode in measured.items()}
    reference, first = made["fp32, ONNX Runtime"].astype(np.float64), np.median(next(iter(times.values())))
    for name, found in times.items():
        noise = decibels(float((reference**2).mean()), float(((made[name] - reference) ** 2).mean()))
        shown = "-" if noise is None or name.startswith("fp32") else f"{noise:.1f}"
        yield f"| {name} | {np.median(found):.2f} | {np.median(found) / first:.2f} | {shown} |"


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGECAP_DATA", required=True)
@click.option("--output", type=click.Path(path_type=Path), default=REPORT, help="Where the tables are.")
@click.option("--rounds", type=click.IntRange(min=5), default=60, show_default=True)
def main(checkpoint: Path, data: Path, output: Path, rounds: int) -> None:
    """Time the encoders of CHECKPOINT in turns on one thread, and write this kind of processor's table."""
    with tempfile.TemporaryDirectory(prefix="edgecap-") as folder:
        campaign = Campaign(checkpoint, load_dataset(data), Path(folder))
        images = image_tensor([photo.path for photo in campaign.photos[:PHOTOS]], campaign.preprocess)
        table = list(rows(dict(encoders(campaign)), images, rounds))
    version = onnxruntime.__version__
    made = f"{date.today()}, onnxruntime {version}, one thread, medians of {rounds} turns of processor time."
    header = f"| encoder of `{checkpoint.resolve().parent.name}` | ms | against the first | noise, dB |"
    write_section(output, TITLE, PROTOCOL, [made, "", header, "|---|---|---|---|", *table])


if __name__ == "__main__":
    main()

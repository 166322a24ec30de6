"""edgecap beside its peers, in one run: ``python -m edgecap.benchmarks.peers --data flickr8k/`` (extra ``peers``).

Encoders of one checkpoint in every engine, whole captioners, and the costs of edgecap's own that have a target. All on
one thread, unless it says otherwise. The tables are written into RESULTS.md.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession, SessionOptions

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.architectures.defaults import preprocess_config
from edgecap.bench.cold_start import cold_start
from edgecap.bench.latency import measure
from edgecap.benchmarks.captioners import blip_base, own, plain_torch, vit_distilgpt2
from edgecap.benchmarks.contest import Contestant, medians
from edgecap.benchmarks.encoders import FP32, INT8, KINDS, Encoders, noise_db
from edgecap.benchmarks.graph_sets import GraphSets
from edgecap.benchmarks.photos import sample_photo
from edgecap.benchmarks.report import say, write_section
from edgecap.data.karpathy import load_dataset
from edgecap.data.mixture import Mixture
from edgecap.errors import EdgecapError
from edgecap.export.compress.calibration import from_datasets
from edgecap.export.graphs.cost import graph_facts
from edgecap.export.recipe import ExportRecipe
from edgecap.runtime import Captioner, load
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.entries import ENGINES
from edgecap.runtime.machine.facts import machine
from edgecap.runtime.photo.preprocess import load_image, to_tensor

REPORT = Path(__file__).with_name("RESULTS.md")
ROUNDS, SECONDS = 7, 0.5
PACKAGES = ("onnxruntime", "ai-edge-litert", "openvino", "nncf", "MNN", "ncnn", "pnnx", "torch", "transformers")
MATRIX = 1024
BATCH = 32
PHOTOS = {"1-megapixel": (1152, 864), "12-megapixel": (4000, 3000)}


@dataclass(frozen=True)
class Target:
    """A ratio or cost that is to stay below its limit, or above it."""

    what: str
    measured: float
    limit: float
    at_least: bool = False
    unit: str = ""

    def row(self) -> str:
        """Of the table."""
        met = self.measured >= self.limit if self.at_least else self.measured <= self.limit
        limit = f"{'at least' if self.at_least else 'at most'} {self.limit:g}{self.unit}"
        return f"| {self.what} | {self.measured:.2f}{self.unit} | {limit} | {'met' if met else '**missed**'} |"


class Peers:
    """One checkpoint, its bundle, and the photos that all are timed on."""

    def __init__(
        self, checkpoint: Path, bundle: Path, tiny: Path | None, data: Path, folder: Path, rounds: int
    ) -> None:
        self.checkpoint, self.bundle, self.tiny, self.folder, self.rounds = checkpoint, bundle, tiny, folder, rounds
        self.loaded = load_checkpoint(checkpoint)
        self.vocabulary, self.preprocess = self.loaded.vocabulary, preprocess_config(self.loaded.dims)
        self.data = data
        self.small, self.large = (sample_photo(folder / f"{name}.jpg", *size) for name, size in PHOTOS.items())
        self.targets: list[Target] = []

    def encoders(self) -> list[str]:
        """The table of encoders."""
        calibration = from_datasets(Mixture.of(load_dataset(self.data)), ExportRecipe())
        say("graphs")
        sets = GraphSets(self.loaded, calibration, self.folder)
        encoders = Encoders(sets, to_tensor(self.small, self.preprocess))
        groups = [
            list(make()) for make in (encoders.own, encoders.naive, encoders.openvino, encoders.mnn, encoders.ncnn)
        ]
        contestants = [one for group in groups for one in group]
        exact = encoders.features()
        noise = [noise_db(one.run(), exact) for one in contestants]
        products = list(_matrix_products())
        say(f"timing {len(contestants)} encoders")
        times = medians([*contestants, *products], self.rounds, SECONDS)
        limit = graph_facts(sets.ingredients.fp32["encoder"])["macs"] / MATRIX**3 * min(times[len(contestants) :])
        found = {(one.name, one.kind): time for one, time in zip(contestants, times, strict=False)}
        own, naive = ({one.name for one in group} for group in groups[:2])
        self._encoder_targets(found, own, naive, limit)
        rows = ["| encoder | fp32 ms | INT8 ms | noise of INT8, dB |", "|---|---|---|---|"]
        for name in dict.fromkeys(one.name for one in contestants):
            cells = [f"{found[name, kind]:.2f}" if (name, kind) in found else "-" for kind in KINDS]
            heard = [
                f"{db:.1f}" for one, db in zip(contestants, noise, strict=True) if (one.name, one.kind) == (name, INT8)
            ]
            rows.append(f"| {name} | {' | '.join(cells)} | {heard[0] if heard else '-'} |")
        rows.append(f"| as long as its products would take in the fastest int8 matrix product | - | {limit:.2f} | - |")
        return rows

    def _encoder_targets(
        self, found: dict[tuple[str, str], float], own: set[str], naive: set[str], limit: float
    ) -> None:
        def best(kind: str, names: set[str]) -> float:
            return min(time for (name, of), time in found.items() if of == kind and name in names)

        peers = {name for name, _ in found} - own - naive
        int8, (onnx, _) = best(INT8, own), sorted(own, reverse=True)
        qdq = {name.rpartition("ONNX Runtime, ")[2]: found[name, INT8] for name in sorted(naive) if "QDQ" in name}
        self.targets += [
            Target(
                "encoder INT8, better engine / naive onnx2tf",
                int8 / best(INT8, {n for n in naive if "LiteRT" in n}),
                0.65,
            ),
            Target("encoder INT8, better engine / best INT8 peer", int8 / best(INT8, peers), 0.5),
            Target("encoder INT8, better engine / its matrix products alone", int8 / limit, 1.7),
            *(
                Target(f"encoder INT8, ONNX Runtime / naive QDQ, {name}", found[onnx, INT8] / time, 0.65)
                for name, time in qdq.items()
            ),
            Target("encoder fp32, better engine / best fp32 peer", best(FP32, own) / best(FP32, peers), 1.0),
        ]

    def captioners(self) -> list[str]:
        """The table of whole captioners, on a photo of a megapixel."""
        with load(self.bundle, threads=1) as captioner:
            tokens = len(captioner.caption(self.small, beam=1).tokens) + 1  # with its end
        engines = [engine for engine in ENGINES if _has(self.bundle, engine)]
        opened = [load(self.bundle, engine=engine, threads=1) for engine in engines]
        contestants = [own(captioner, self.small) for captioner in opened]
        contestants.append(plain_torch(self.loaded.model().eval(), self.vocabulary, self.preprocess, self.small))
        contestants += [make(self.small, tokens) for make in (vit_distilgpt2, blip_base)]
        say(f"timing {len(contestants)} captioners")
        times = medians(contestants, self.rounds, SECONDS)
        ours = min(times[: len(opened)])
        by_name = dict(zip((one.name for one in contestants), times, strict=True))
        vit = next(time for name, time in by_name.items() if name.startswith("ViT"))
        self.targets.append(Target("ViT + distilGPT2 / edgecap, a caption", vit / ours, 100, at_least=True))
        rows = [f"| captioner, greedy, {tokens} tokens | ms a caption | times edgecap's |", "|---|---|---|"]
        return rows + [f"| {name} | {time:.1f} | {time / ours:.1f} |" for name, time in by_name.items()]

    def costs(self) -> None:
        """What has a target beside the encoder."""
        with load(self.bundle, threads=1) as captioner:
            self._large_photo(captioner)
            self._beam(captioner)
            if self.tiny is not None:
                self._tiny(captioner, self.tiny)
        with load(self.bundle, threads=2) as captioner:
            self._batch(captioner)
        self._start()

    def _large_photo(self, captioner: Captioner) -> None:
        greedy = measure(captioner, [self.large], 60, beam=1)
        images = Contestant("", "", lambda: load_image(self.large, self.preprocess))
        (cheapest,) = medians([images], self.rounds, SECONDS)
        engine = greedy.encoder.p50 + greedy.steps_per_caption * greedy.step.p50
        ratio = greedy.total.p50 / (cheapest + engine)
        self.targets.append(Target("12 megapixels to text / (decode + encoder + steps)", ratio, 1.3))

    def _beam(self, captioner: Captioner) -> None:
        one = Contestant("", "", lambda: captioner.caption(self.small, beam=1))
        five = Contestant("", "", lambda: captioner.caption(self.small, beam=5))
        times = medians([one, five], self.rounds, SECONDS)
        self.targets.append(Target("beam 5 / greedy, a caption of 1 megapixel", times[1] / times[0], 1.8))

    def _tiny(self, captioner: Captioner, bundle: Path) -> None:
        with load(bundle, threads=1) as tiny:
            times = medians([own(tiny, self.small), own(captioner, self.small)], self.rounds, SECONDS)
        self.targets.append(Target("tiny / base, file to text, greedy", times[0] / times[1], 0.6))

    def _batch(self, captioner: Captioner) -> None:
        photos = [self.small] * BATCH
        single = Contestant("", "", lambda: [captioner.caption(photo) for photo in photos])
        batch = Contestant("", "", lambda: captioner.caption_batch(photos))
        times = medians([single, batch], self.rounds, SECONDS)
        what = f"{BATCH} photos one by one / as a batch, two threads"
        self.targets.append(Target(what, times[0] / times[1], 1.5, at_least=True))

    def _start(self) -> None:
        starts = [
            cold_start(self.small, bundle=self.bundle, engine="auto", precision="auto", threads=1, beam=None)
            for _ in range(self.rounds)
        ]
        seconds = float(np.median([start.total_ms for start in starts])) / 1e3
        memory = max(start.peak_rss_bytes or 0 for start in starts) / 1e6
        self.targets.append(Target("from the start of Python to the first caption", seconds, 0.6, unit=" s"))
        self.targets.append(Target("peak memory", memory, 150, unit=" MB"))


def _has(bundle: Path, engine: str) -> bool:
    return bool(Bundle.open(bundle).precisions(engine))


def _matrix_products() -> Iterator[Contestant]:
    """Large int8 products, of two libraries: the faster one is the machine's limit."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-100, 100, (MATRIX, MATRIX), np.int8) for _ in range(2))
    left, right = torch.from_numpy(a), torch.from_numpy(b)
    yield Contestant("torch", "product", lambda: torch._int_mm(left, right))
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    inputs = [helper.make_tensor_value_info("a", TensorProto.UINT8, a.shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT32, a.shape)]
    graph = helper.make_graph([node], "product", inputs, outputs, [numpy_helper.from_array(b, "b")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = SessionOptions()
    options.intra_op_num_threads = 1
    session = InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"a": a.view(np.uint8)}
    yield Contestant("ONNX Runtime", "product", lambda: session.run(None, feeds))


def _versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGECAP_DATA", required=True, help="To calibrate on.")
@click.option("--model", default="models/base", type=click.Path(path_type=Path), show_default=True)
@click.option("--tiny", default="models/tiny", type=click.Path(path_type=Path), show_default=True)
@click.option("--rounds", default=ROUNDS, show_default=True)
@click.option("-o", "--output", default=REPORT, type=click.Path(path_type=Path), help="Where the tables go.")
def main(data: Path, model: Path, tiny: Path, rounds: int, output: Path) -> None:
    """Time edgecap beside its peers, and write the tables."""
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="edgecap-") as folder:
            other = tiny / "bundle" if tiny.exists() else None
            peers = Peers(model / "checkpoint.safetensors", model / "bundle", other, data, Path(folder), rounds)
            encoders, captioners = peers.encoders(), peers.captioners()
            peers.costs()
    except EdgecapError as error:
        raise click.ClickException(str(error)) from error
    except ImportError as error:
        raise click.ClickException(
            f"{error.name} is missing: pip install 'edgecap[peers,export,onnx,tflite]'"
        ) from error
    here = machine()
    made = (
        f"{date.today()}, {here.cores} cores ({', '.join(here.features)}), one thread, medians of {rounds} rounds in "
        f"turns. {_versions()}, Python {platform.python_version()}."
    )
    tables = [
        made,
        "",
        *encoders,
        "",
        "A photo of one megapixel:",
        "",
        *captioners,
        "",
        "| what | measured | target | |",
        "|---|---|---|---|",
        *(target.row() for target in peers.targets),
    ]
    protocol = (
        "`python -m edgecap.benchmarks.peers --data flickr8k/`, a section for each machine; for a processor without "
        "VNNI where there is none, the same behind `tests/avx2/run`."
    )
    write_section(output, "edgecap beside its peers", protocol, tables)


if __name__ == "__main__":
    main()

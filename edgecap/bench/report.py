"""``edgecap bench``'s document: what was measured, on what, by which versions. Its schema is ``bench.schema.json``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import edgecap
from edgecap.bench.cold_start import ColdStart, cold_start
from edgecap.bench.energy.caption_energy import CaptionEnergy, arithmetic_only_floor, caption_energy
from edgecap.bench.energy.meter import EnergySource
from edgecap.bench.latency import Latency, measure
from edgecap.bench.others import OthersWatch
from edgecap.errors import EnergyError
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.documents import read_graph_facts
from edgecap.runtime.captioner import Captioner
from edgecap.runtime.loading import load
from edgecap.runtime.machine.facts import condition, machine

SCHEMA_VERSION = 1
COLD_CAPTIONS = 10
IDLE_SECONDS = 3.0  # of a look at the idle machine


@dataclass(frozen=True)
class Setting:
    """What one row of the report is of."""

    engine: str
    precision: str
    threads: int
    beam: int


@dataclass(frozen=True)
class Row:
    """What was measured with one setting. Without ``energy``, ``energy_problem`` says why."""

    setting: Setting
    library: str  # that ran the graphs, and its version
    latency: Latency
    cold_start: ColdStart
    energy: CaptionEnergy | None
    energy_problem: str | None
    arithmetic_only_floor: float | None  # J a caption
    others_cores: float | None  # that others kept busy meanwhile, on average; None: the machine does not say

    def to_json(self) -> dict[str, Any]:
        """As the schema has it."""
        return {
            **asdict(self.setting),
            "library": self.library,
            "latency": asdict(self.latency),
            "cold_start": asdict(self.cold_start),
            "energy": self.energy and self.energy.to_json(),
            "energy_problem": self.energy_problem,
            "arithmetic_only_floor_J": self.arithmetic_only_floor,
            "others_cores": self.others_cores,
        }


def measure_row(
    bundle: Path,
    photos: Sequence[Path],
    captions: int,
    setting: Setting,
    source: EnergySource,
    advance: Callable[[], object],
) -> Row:
    """Latency, first caption and energy with one setting; ``advance`` is called after every caption."""
    others = OthersWatch()
    cold = cold_start(
        photos[0],
        bundle=bundle,
        engine=setting.engine,
        precision=setting.precision,
        threads=setting.threads,
        beam=setting.beam,
        captions=COLD_CAPTIONS,
    )
    with load(bundle, engine=setting.engine, precision=setting.precision, threads=setting.threads) as captioner:
        latency = measure(captioner, photos, captions, setting.beam, advance)

        def caption() -> int:
            for number in range(captions):
                captioner.caption(photos[number % len(photos)], beam=setting.beam)
                advance()
            return captions

        energy, problem = None, None
        try:
            energy = caption_energy(source, caption, IDLE_SECONDS)
        except EnergyError as error:
            problem = str(error)
        floor = _floor(captioner, latency)
        return Row(setting, captioner.loaded.name, latency, cold, energy, problem, floor, others.cores())


def _floor(captioner: Captioner, latency: Latency) -> float | None:
    """Where the bundle counts the multiplications of both graphs; every hypothesis takes all of a step's."""
    facts = read_graph_facts(captioner.bundle)
    graphs = captioner.graph_set.graphs
    encoder, step = (facts.get(graphs[role], {}).get("macs", 0) for role in ("encoder", "decoder_step"))
    if not (encoder and step):
        return None
    return arithmetic_only_floor(encoder + round(latency.hypotheses_per_caption * step))


def report(
    bundle: Bundle, photos: Sequence[Path], captions: int, rows: Callable[[], list[Row]]
) -> tuple[list[Row], dict[str, Any]]:
    """The rows and the document; ``rows`` measures, between two looks at the machine."""
    before = condition()
    measured = rows()
    after = condition()
    document = {
        "schema_version": SCHEMA_VERSION,
        "edgecap": edgecap.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine()),
        "before": asdict(before),
        "after": asdict(after),
        "bundle": {
            "label": bundle.manifest.label,
            "name": bundle.manifest.name,
            "id": bundle.manifest.bundle_id,
            "bytes": sum(entry.bytes for entry in bundle.manifest.files),
        },
        "photos": len(photos),
        "captions": captions,
        "runs": [row.to_json() for row in measured],
    }
    return measured, document

"""Whether the committed models say of val what they said before a change, photo by photo.

python -m edgecap.benchmarks.same_captions --data flickr8k/

``same_captions.json`` has a digest of every caption, greedy and with a beam of 5; ``--record`` writes it anew, which is
for the models' own changes. Captions of INT8 graphs may differ between kinds of processors by a few in a thousand:
docs/cpus.md tells.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import click

from edgecap.data.karpathy import load_dataset
from edgecap.runtime import load

RECORD = Path(__file__).with_name("same_captions.json")
MODELS, BEAMS = ("plus", "base", "tiny"), (1, 5)
DIGITS = 8  # of each digest: one in four thousand million that another caption has it too


def digests(model: Path, photos: list[Path], beam: int) -> list[str]:
    """Of the caption of each photo."""
    with load(model) as captioner:
        captions = [captioner.caption(photo, beam=beam).text for photo in photos]
    return [hashlib.sha256(text.encode()).hexdigest()[:DIGITS] for text in captions]


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGECAP_DATA", required=True)
@click.option("--models", type=click.Path(path_type=Path), default=Path("models"), show_default=True)
@click.option("--record", is_flag=True, help="Write what they say now.")
def main(data: Path, models: Path, record: bool) -> None:
    """Caption val by each model; exit status 1 where a caption is another one."""
    photos = [photo.path for photo in load_dataset(data).split("val")]
    said = {f"{name}, beam {beam}": digests(models / name, photos, beam) for name in MODELS for beam in BEAMS}
    if record:
        RECORD.write_text(json.dumps(said) + "\n", encoding="utf-8")
        return
    before, others = json.loads(RECORD.read_bytes()), 0
    for name, found in said.items():
        differing = sum(one != other for one, other in zip(found, before[name], strict=True))
        click.echo(f"{name}: {differing} of {len(found)} captions differ")
        others += differing
    raise SystemExit(bool(others))


if __name__ == "__main__":
    main()

"""What one CPU makes of photos, in one process, as one JSON object a line: tests/cpus/run has each CPU's Python run it.

python captions.py --bundle NAME-OR-FOLDER=N ... PHOTO ...       N: only the first N photos
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from edgecap.runtime import load
from edgecap.runtime.bundle.bundle import Bundle, find_bundle
from edgecap.runtime.photo.preprocess import to_tensor
from edgecap.runtime.verify.record import tensor_digest

BEAMS = (1, 5)


def main() -> None:
    """Of every photo the digest of its tensor, and its captions by every graph set of the bundles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", action="append", required=True)
    parser.add_argument("photos", nargs="+", type=Path)
    arguments = parser.parse_args()
    for text in arguments.bundle:
        name, _, number = text.rpartition("=")
        photos = arguments.photos[: int(number)]
        bundle = Bundle.open(find_bundle(name))
        label = bundle.manifest.label
        for photo in photos:
            digest = tensor_digest(to_tensor(photo, bundle.preprocess))
            write(bundle=label, photo=photo.name, tensor=digest)
        for graphs in bundle.manifest.graph_sets:
            with load(name, engine=graphs.engine, precision=graphs.precision, threads=1) as captioner:
                for beam in BEAMS:
                    for photo in photos:
                        caption = captioner.caption(photo, beam=beam)
                        said = {"caption": caption.text, "log_prob": caption.log_prob}
                        write(
                            bundle=label,
                            graphs=f"{graphs.engine} {graphs.precision}",
                            beam=beam,
                            photo=photo.name,
                            **said,
                        )
    write(seconds=round(time.process_time()))


def write(**record: object) -> None:
    """One line."""
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()

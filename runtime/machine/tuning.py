"""What ``edgecap bench --sweep`` measured on this machine, so that what is left to ``auto`` is the fastest.

A file in the user's configuration holds, for each bundle, the median of every setting that was tried. It is believed
while machine and engines are those that it was measured with; whatever is wrong with it, captioning goes on without.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecap.errors import OptionError, TuningError
from edgecap.runtime.bundle.fields import Fields
from edgecap.runtime.bundle.json_document import parse_json
from edgecap.runtime.bundle.regular_file import read_regular
from edgecap.runtime.engines import libraries
from edgecap.runtime.machine.atomic_write import write_atomically
from edgecap.runtime.machine.user_files import in_user_configuration

MAX_BYTES = 2**20
VARIABLE = "EDGECAP_TUNING"  # names another file


@dataclass(frozen=True)
class Measurement:
    """The median caption of one setting."""

    engine: str
    precision: str
    threads: int
    milliseconds: float


def tuning_file() -> Path:
    """``tuning.json`` in ``edgecap/`` of the user's configuration (XDG), or what ``EDGECAP_TUNING`` names."""
    return in_user_configuration("tuning.json", VARIABLE)


def fastest(
    bundle_id: str, engine: str | None = None, precision: str | None = None, threads: int | None = None
) -> Measurement | None:
    """The fastest setting measured here among those that have what is given; ``None`` where there is none."""
    try:
        measured = remembered(bundle_id)
    except TuningError:
        return None
    fitting = [
        one
        for one in measured
        if engine in (None, one.engine) and precision in (None, one.precision) and threads in (None, one.threads)
    ]
    return min(fitting, key=lambda one: one.milliseconds, default=None)


def remembered(bundle_id: str) -> list[Measurement]:
    """What was measured of a bundle; empty where nothing was. Raises :class:`TuningError` where it is not believed."""
    try:
        file = tuning_file()
    except RuntimeError:  # no home, so nothing in it
        return []
    document = _read(file)
    if bundle_id not in document:
        return []
    try:
        entry = Fields(document[bundle_id], bundle_id)
        measured_under = entry.object("conditions")
        measured = [_measurement(value) for value in entry.items("measured")]
        identity = measured_under.get("machine", str)
    except (ValueError, OverflowError) as error:  # JSON has whole numbers that no float holds
        raise TuningError(file, f"is wrong: {error}") from error
    now = conditions()
    if identity != now["machine"]:
        raise TuningError(file, "holds measurements of another machine")
    if document[bundle_id]["conditions"] != now:
        raise TuningError(file, "holds measurements with other versions of the engines")
    return measured


def _read(file: Path) -> dict[str, Any]:
    """The document in a file, empty where there is none. Raises :class:`TuningError`."""
    if is_nothing(file):
        return {}
    try:
        content = read_regular(file, MAX_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise TuningError(file, f"cannot be read: {error.strerror}") from error
    try:
        document = parse_json(content)
    except ValueError as error:
        raise TuningError(file, "is not JSON: torn or edited") from error
    if not isinstance(document, dict):
        raise TuningError(file, "is no JSON object: edited")
    return document


def unreadable() -> str | None:
    """What is wrong with the file itself, in a line; ``None`` where there is none, or it can be read."""
    try:
        _read(tuning_file())
    except TuningError as error:
        return str(error)
    except RuntimeError:  # no home, so nothing in it
        pass
    return None


def is_nothing(file: Path) -> bool:
    """Whether it is ``/dev/null``, which stands for no file, and keeps nothing."""
    return str(file) == os.devnull


def check_place() -> None:
    """Raise :class:`OptionError` where measurements could not be kept: a device or pipe would be replaced by a file."""
    file = tuning_file()
    if not is_nothing(file) and file.exists() and not file.is_file():
        raise OptionError(f"{VARIABLE} names {file}, which is no file: nothing can be kept there")


def remember(bundle_id: str, measured: Sequence[Measurement]) -> Path:
    """Keep the measurements of a bundle, in the place of older ones; returns the file.

    Raises ``OSError``, and :class:`OptionError` as :func:`check_place`.
    """
    check_place()
    file = tuning_file()
    if is_nothing(file):
        return file
    try:
        document = _read(file)
    except TuningError:
        document = {}
    document[bundle_id] = {"conditions": conditions(), "measured": [asdict(one) for one in measured]}
    file.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(file) as partial:
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return file


def conditions() -> dict[str, Any]:
    """What measurements depend on beside the bundle: the machine, and the engines' versions."""
    return {"machine": machine_id(), "engines": _versions()}


def machine_id() -> str:
    """A hash of what this machine computes with: its processor, the instructions that count for kernels, its cores."""
    from edgecap.runtime.machine.facts import machine  # not for those who never tuned

    here = machine()
    identity = [here.cpu, here.architecture, *here.features, str(here.cores)]
    return hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and seldom needed

    found = {}
    for package in libraries.PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _measurement(value: object) -> Measurement:
    entry = Fields(value, "measured")
    return Measurement(
        engine=entry.get("engine", str),
        precision=entry.get("precision", str),
        threads=entry.get("threads", int),
        milliseconds=entry.get("milliseconds", float),
    )

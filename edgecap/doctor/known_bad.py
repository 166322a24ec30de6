"""Versions of libraries that do not work somewhere, or can be harmed: as their maintainers say, or as was measured."""

from __future__ import annotations

from dataclasses import dataclass

from edgecap.doctor.patient import Patient
from edgecap.doctor.report import Status
from edgecap.doctor.trial import Trial
from edgecap.runtime.bundle.versions import version_numbers


@dataclass(frozen=True)
class KnownBad:
    """A fault of some versions of a package, and whom it concerns."""

    package: str
    status: Status
    reason: str
    advice: str
    first: str = "0"  # the first bad version
    fixed: str | None = None  # the first good one after it
    architecture: str | None = None
    has: str | None = None  # an instruction of the processor
    lacks: str | None = None
    numpy: str | None = None  # this and newer

    def concerns(self, engine: Trial, patient: Patient) -> bool:
        """Whether this library has the fault on this machine; not where a version or the processor is unknown."""
        if engine.package != self.package or self.architecture not in (None, patient.platform.architecture):
            return False
        if not _between(engine.version, self.first, self.fixed):
            return False
        if self.has is not None and self.has not in patient.flags:
            return False
        if self.lacks is not None and (not patient.flags or self.lacks in patient.flags):
            return False
        return self.numpy is None or _between(patient.numpy.version, self.numpy, None)


def _between(version: str, first: str, end: str | None) -> bool:
    try:
        numbers = version_numbers(version)
    except ValueError:
        return False
    return version_numbers(first) <= numbers and (end is None or numbers < version_numbers(end))


KNOWN_BAD = (
    # microsoft/onnxruntime issue 23957, also 24112 and 24512. In an emulated Cortex-A53 and -A72 1.21.0 dies on import;
    # 1.20.1 and 1.21.1 do not, nor does 1.21.0 in a Cortex-A76.
    KnownBad(
        package="onnxruntime",
        first="1.21.0",
        fixed="1.21.1",
        architecture="aarch64",
        lacks="atomics",
        status="problem",
        reason="1.21.0 was built with instructions that this processor lacks, and is killed on import",
        advice="pip install --upgrade onnxruntime",
    ),
    # microsoft/onnxruntime issue 26324, repaired by pull request 27671. Measured: right in 1.20, wrong from 1.21 to
    # 1.24.4 in products of 32 rows or more whose columns mod 32 are 17 to 31, right from 1.25 on.
    KnownBad(
        package="onnxruntime",
        first="1.21",
        fixed="1.25",
        architecture="x86_64",
        has="amx_int8",
        status="warning",
        reason="1.21 to 1.24 compute some int8 products wrongly on processors with AMX; edgecap's bundles avoid them",
        advice="pip install 'onnxruntime>=1.25', for the sake of other models",
    ),
    # The releases' notes: 1.28.3 of 2026-10-02 and 1.30.1 of 2026-10-29 repair what any graph could do that an earlier
    # one loads, such as pull requests 32609, 32610, 32611 and 32679. Many more such repairs stand in 1.25 to 1.28.
    *(
        KnownBad(
            package="onnxruntime",
            first=first,
            fixed=fixed,
            status="warning",
            reason="a graph that is made to harm can have this release read and write where it must not",
            advice="pip install --upgrade onnxruntime, or load no bundles of strangers",
        )
        for first, fixed in (("0", "1.28.3"), ("1.29", "1.30.1"))
    ),
    # Measured: a JPEG of 265 kB whose EXIF directory claims the same bytes over and over takes 5.5 GB in 11 and 12.
    # edgecap itself keeps a JPEG's EXIF data from Pillow, but not that of other formats.
    KnownBad(
        package="pillow",
        fixed="13",
        status="warning",
        reason="a small photo that is made to harm can have releases before 13 take gigabytes of memory",
        advice="pip install --upgrade pillow",
    ),
    # microsoft/onnxruntime issue 21063
    KnownBad(
        package="onnxruntime",
        fixed="1.19",
        numpy="2",
        status="problem",
        reason="releases before 1.19 do not work with numpy 2",
        advice="pip install --upgrade onnxruntime",
    ),
    # Seen here: it imports, and fails when it is given a graph. pip lets it be installed so.
    KnownBad(
        package="tflite-runtime",
        numpy="2",
        status="problem",
        reason="it does not work with numpy 2, and has no newer release",
        advice="pip install ai-edge-litert, or pip install 'numpy<2'",
    ),
    # tensorflow/tensorflow issue 19584; 2.19.0 dies on import in an emulated processor without AVX.
    KnownBad(
        package="tensorflow",
        architecture="x86_64",
        lacks="avx",
        status="problem",
        reason="its wheels use AVX, which this processor lacks",
        advice="pip install ai-edge-litert",
    ),
)


def known_faults(engine: Trial, patient: Patient) -> list[KnownBad]:
    """What is known of this library here."""
    return [fault for fault in KNOWN_BAD if fault.concerns(engine, patient)]

"""METEOR and SPICE, by their authors' Java programs out of the package ``pycocoevalcap`` (extra ``eval-java``).

METEOR 1.5: Denkowski, Lavie, "Meteor Universal", 2014. SPICE 1.0: Anderson et al., "SPICE: Semantic Propositional Image
Caption Evaluation", 2016. The programs are run here rather than through the package's wrappers, to the same figures: a
wrapper waits without end for an answer that does not come, downloads 400 MB on the way, writes beside the package's own
files, and prints on our stdout.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from edgecap.errors import MetricError, MissingExtraError
from edgecap.metrics.java_process import conversation, java, java_version, run
from edgecap.metrics.pairs import Hypotheses, References, check_pairs

TIMEOUT_S = 1800.0
METEOR_JAR = Path("meteor", "meteor-1.5.jar")
SPICE_JAR = Path("spice", "spice-1.0.jar")
CORENLP_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
SPICE_NEWEST_JAVA = 14  # it writes its scores through the JavaScript engine that Java 15 dropped (JEP 372)


def meteor(hypotheses: Hypotheses, references: References, *, timeout: float = TIMEOUT_S) -> float:
    """METEOR of the corpus (its own aggregate, not the mean of the photos), as a fraction of one."""
    check_pairs(hypotheses, references)
    jar = meteor_jar()
    arguments = ["-Xmx2G", "-jar", jar.name, "-", "-", "-stdio", "-l", "en", "-norm"]
    with conversation("METEOR", arguments, jar.parent, timeout) as (say, hear):
        statistics = []
        for photo, tokens in hypotheses.items():
            say(" ||| ".join(["SCORE", *map(_line, references[photo]), _line(tokens)]))
            statistics.append(hear())
        say(" ||| ".join(["EVAL", *statistics]))
        answers = [hear() for _ in range(len(statistics) + 1)]  # every photo's score, then the corpus's
    try:
        return float(answers[-1])
    except ValueError:
        raise MetricError(f"METEOR answered {answers[-1]!r}, not a number") from None


def spice(hypotheses: Hypotheses, references: References, *, timeout: float = TIMEOUT_S) -> float:
    """SPICE, the mean F-score over the photos, as a fraction of one."""
    check_pairs(hypotheses, references)
    jar = spice_jar()
    items = [
        {"image_id": index, "test": _line(tokens), "refs": [_line(reference) for reference in references[photo]]}
        for index, (photo, tokens) in enumerate(hypotheses.items())
    ]
    with tempfile.TemporaryDirectory(prefix="edgecap-spice-") as folder:
        source, target = Path(folder, "captions.json"), Path(folder, "scores.json")
        source.write_text(json.dumps(items), encoding="ascii")
        # Without -cache: that one needs native code of x86-64, and a place to write beside the package
        run("SPICE", ["-Xmx8G", "-jar", jar.name, str(source), "-out", str(target), "-silent"], jar.parent, timeout)
        try:
            scores = [float(item["scores"]["All"]["f"]) for item in json.loads(target.read_text(encoding="utf-8"))]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MetricError(f"SPICE wrote no readable scores: {error!r}") from error
    if len(scores) != len(items):
        raise MetricError(f"SPICE scored {len(scores)} of {len(items)} photos")
    return sum(scores) / len(scores)


def meteor_jar() -> Path:
    """METEOR's program, once all it needs is found; otherwise the error that says what to install."""
    jar = _package_file(METEOR_JAR)
    java()
    return jar


def spice_jar() -> Path:
    """SPICE's program, once all it needs is found; otherwise the error that says what to install."""
    jar = _package_file(SPICE_JAR)
    java()
    if missing := [name for name in CORENLP_JARS if not (jar.parent / "lib" / name).is_file()]:
        raise MetricError(
            f"SPICE needs Stanford CoreNLP 3.6.0 ({' and '.join(missing)} not in {jar.parent / 'lib'}): "
            "run  python -m pycocoevalcap.spice.get_stanford_models  once, where there is a network (400 MB)"
        )
    if (version := java_version()) > SPICE_NEWEST_JAVA:
        raise MetricError(f"SPICE runs on Java 8 to {SPICE_NEWEST_JAVA}, and the java on PATH is {version}")
    return jar


def _package_file(name: Path) -> Path:
    spec = find_spec("pycocoevalcap")  # a namespace package: it has places, no file
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (found := Path(place, name).absolute()).is_file():
            return found
    raise MissingExtraError("pycocoevalcap", "eval-java")


def _line(tokens: Sequence[str]) -> str:
    """Tokens as the programs read them: on one line, without the mark that parts sentences."""
    return " ".join(" ".join(tokens).replace("|||", " ").split())

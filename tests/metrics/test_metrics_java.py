"""METEOR for real where Java and pycocoevalcap are; what goes wrong with it and with SPICE, on a pretended java."""

from __future__ import annotations

import json
import os
import shutil
import time
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest
from places import FIXTURES

from edgecap.errors import MetricError, MissingExtraError
from edgecap.metrics import meteor, score, spice

METRICS = FIXTURES / "metrics"
HYPOTHESES = {"p1": ["a", "dog"]}
REFERENCES = {"p1": [["a", "dog", "runs"], ["dog"]]}

needs_meteor = pytest.mark.skipif(
    shutil.which("java") is None or find_spec("pycocoevalcap") is None,
    reason="METEOR needs java on PATH and pycocoevalcap (extra eval-java)",
)
pretended = pytest.mark.skipif(os.name != "posix", reason="the pretended java is a shell script")


@needs_meteor
def test_meteor_equals_the_committed_figure_in_any_locale(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-Duser.language=tr")  # decimal commas, and I is not a capital i
    made = json.loads((METRICS / "captions.json").read_text(encoding="utf-8"))
    expected = json.loads((METRICS / "expected.json").read_text(encoding="utf-8"))["meteor"]
    hypotheses = {photo: item["hypothesis"] for photo, item in made.items()}
    references = {photo: item["references"] for photo, item in made.items()}
    assert meteor(hypotheses, references) == pytest.approx(expected, rel=0, abs=1e-6)
    assert capfd.readouterr().out == ""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed pycocoevalcap with CoreNLP, of empty files."""
    place = tmp_path / "pycocoevalcap"
    names = ["meteor/meteor-1.5.jar", "spice/spice-1.0.jar"]
    names += [f"spice/lib/stanford-corenlp-3.6.0{end}.jar" for end in ("", "-models")]
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    spec = ModuleSpec("pycocoevalcap", None, is_package=True)
    spec.submodule_search_locations = [str(place)]
    monkeypatch.setattr("edgecap.metrics.java.find_spec", lambda name: spec if name == "pycocoevalcap" else None)
    return place


def pretend_java(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, version: str = "11.0.2") -> Path:
    """Put a ``java`` on PATH that tells ``version`` and otherwise runs ``script``; its pid is in the file returned."""
    folder = folder / "bin"
    folder.mkdir()
    java, pid = folder / "java", folder / "pid"
    told = f'if [ "$1" = -version ]; then echo \'openjdk version "{version}" 2020-01-01\' >&2; exit 0; fi'
    java.write_text(f"#!/bin/sh\n{told}\necho $$ > '{pid}'\n{script}\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return pid


def assert_dead(pid: Path) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


# One photo: a line of statistics, then after EVAL its score and the corpus's
METEOR_ANSWERS = "read -r line; echo 1.0 2.0; read -r line; echo 0.25; echo 0.5; cat > /dev/null"


@pretended
def test_meteor_is_the_last_answer_and_its_program_is_ended(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = pretend_java(tmp_path, monkeypatch, METEOR_ANSWERS)
    assert meteor(HYPOTHESES, REFERENCES) == 0.5
    assert_dead(pid)


@pretended
def test_meteor_that_complains_at_length_is_not_blocked(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_java(tmp_path, monkeypatch, "head -c 1000000 /dev/zero >&2; " + METEOR_ANSWERS)
    assert meteor(HYPOTHESES, REFERENCES, timeout=30) == 0.5


@pretended
def test_meteor_gets_one_line_a_photo_whatever_the_tokens(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = tmp_path / "heard"
    pretend_java(
        tmp_path, monkeypatch, f"read -r line; echo \"$line\" > '{heard}'; echo 1; read -r line; echo 0; echo 0"
    )
    assert meteor({"p1": ["a", "x\ny", "|||", "é"]}, {"p1": [["b"], ["c", "|||"]]}) == 0.0
    assert heard.read_text(encoding="utf-8") == "SCORE ||| b ||| c ||| a x y é\n"


@pretended
def test_meteor_that_never_answers_is_stopped(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = pretend_java(tmp_path, monkeypatch, "exec sleep 60")
    started = time.monotonic()
    with pytest.raises(MetricError, match="METEOR did not finish in 2 s and was stopped"):
        meteor(HYPOTHESES, REFERENCES, timeout=2)
    assert time.monotonic() - started < 30
    assert_dead(pid)


@pretended
@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo 'Could not reserve enough space' >&2; exit 1",
            "METEOR stopped before .*: Could not reserve enough space",
        ),
        (
            "echo note >&2; echo '  java.lang.SomeError: x' >&2; exit 1",
            "METEOR stopped before .*: java.lang.SomeError: x",
        ),
        ("exit 0", "METEOR stopped before it had answered: it said nothing"),
        ("while read -r line; do echo what; echo what; done", "METEOR answered 'what', not a number"),
    ],
)
def test_meteor_that_fails_is_one_line(
    script: str, message: str, tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = pretend_java(tmp_path, monkeypatch, script)
    with pytest.raises(MetricError, match=message) as caught:
        meteor(HYPOTHESES, REFERENCES, timeout=30)
    assert "\n" not in str(caught.value)
    assert_dead(pid)


def spice_writing(scores: str) -> str:
    """A program that prints, and writes ``scores`` to the file after -out."""
    return f"""echo 'SPICE evaluation took: 1 s'
while [ "$1" != -out ]; do shift; done
echo '{scores}' > "$2" """


@pretended
def test_spice_is_the_mean_of_the_photos(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = json.dumps([{"image_id": i, "scores": {"All": {"f": f}}} for i, f in enumerate([0.25, 0.75])])
    pretend_java(tmp_path, monkeypatch, spice_writing(answer))
    hypotheses, references = {**HYPOTHESES, "p2": ["é"]}, {**REFERENCES, "p2": [["é"]]}
    assert spice(hypotheses, references) == 0.5
    assert capfd.readouterr().out == ""


@pretended
@pytest.mark.parametrize(
    ("script", "message"),
    [
        (spice_writing("[]"), "SPICE scored 0 of 1 photos"),
        (spice_writing("nonsense"), "SPICE wrote no readable scores"),
        (spice_writing('[{"scores": {}}]'), "SPICE wrote no readable scores"),
        ("exit 0", "SPICE wrote no readable scores"),
        ("echo 'java.io.IOException: y' >&2; exit 3", "SPICE failed with status 3: java.io.IOException: y"),
        ("exec sleep 60", "SPICE did not finish in 2 s and was stopped"),
    ],
)
def test_spice_that_fails_is_one_line(
    script: str, message: str, tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = pretend_java(tmp_path, monkeypatch, script)
    with pytest.raises(MetricError, match=message) as caught:
        spice(HYPOTHESES, REFERENCES, timeout=2 if "sleep" in script else 30)
    assert "\n" not in str(caught.value)
    assert_dead(pid)


@pretended
@pytest.mark.parametrize(
    ("version", "runs"), [("1.8.0_312", True), ("14.0.1", True), ("15", False), ("17.0.15", False)]
)
def test_spice_refuses_a_java_that_lacks_its_javascript(
    version: str, runs: bool, tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_java(tmp_path, monkeypatch, spice_writing('[{"scores": {"All": {"f": 1}}}]'), version)
    if runs:
        assert spice(HYPOTHESES, REFERENCES) == 1.0
    else:
        with pytest.raises(MetricError, match=r"SPICE runs on Java 8 to 14, and the java on PATH is 1[57]"):
            spice(HYPOTHESES, REFERENCES)


@pretended
def test_score_with_java_looks_for_everything_first(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = pretend_java(tmp_path, monkeypatch, METEOR_ANSWERS)
    (package / "spice" / "lib" / "stanford-corenlp-3.6.0-models.jar").unlink()
    with pytest.raises(
        MetricError, match=r"SPICE needs .*\(stanford-corenlp-3.6.0-models.jar not in .*get_stanford_models"
    ):
        score(HYPOTHESES, REFERENCES, extra=["SPICE"])
    assert not pid.exists()  # METEOR was not run for nothing


@pytest.mark.parametrize("metric", [meteor, spice])
def test_no_java_is_said(metric: object, tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(metric)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MetricError, match="no java is on PATH: install a Java runtime"):
        metric(HYPOTHESES, REFERENCES)


@pytest.mark.parametrize("metric", [meteor, spice])
def test_no_pycocoevalcap_is_said(metric: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(metric)
    monkeypatch.setattr("edgecap.metrics.java.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pycocoevalcap is not installed: .*edgecap\[eval-java\]"):
        metric(HYPOTHESES, REFERENCES)

"""One captioner in many threads and processes, closed in the midst of it, idle, and busy for long."""

from __future__ import annotations

import inspect
import json
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, ROOT, encoded
from tiny_bundle import write_tiny_bundle

import edgecap.errors
from edgecap.errors import BundleError, EdgecapError, EngineError
from edgecap.runtime import Captioner, load

Photo = Callable[..., Path]
PLUS = ROOT / "models" / "plus" / "bundle"
COLOURS = ("red", "lime", "blue", "black", "white")
THREADS = 8
ENGINES = ("onnx", "tflite")

both_engines = pytest.mark.parametrize("engine", ENGINES)


def photos(count: int) -> list[bytes]:
    return [encoded(COLOURS[number % len(COLOURS)], (64 + number, 48)) for number in range(count)]


def assert_threads_change_nothing(captioner: Captioner, count: int) -> None:
    asked = [(content, beam, most) for content in photos(count) for beam in (1, 5) for most in (3, None)]

    def caption(request: tuple[bytes, int, int | None]) -> Any:
        content, beam, most = request
        return captioner.caption(content, beam=beam, max_length=most)

    alone = list(map(caption, asked))
    assert len(set(alone)) > 3
    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(caption, asked)) == alone


@both_engines
def test_threads_may_share_a_captioner(two_runtimes: Path, engine: str) -> None:
    with load(two_runtimes, engine=engine, threads=2) as captioner:
        assert_threads_change_nothing(captioner, 20)


def test_threads_may_share_the_model_of_the_package() -> None:
    with load(PLUS, engine="onnx", threads=2) as captioner:
        assert_threads_change_nothing(captioner, 5)


def processes(*arguments: object) -> dict[str, list[int | str]]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "tests/captioning_processes.py"]
    run = subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=900
    )
    assert (run.returncode, run.stderr) == (0, "")
    return dict(json.loads(run.stdout))


def test_forked_processes_may_use_it_and_end(two_runtimes: Path, photo: Photo) -> None:
    """Also one that never did, and one that closes it."""
    paths = [photo(f"{colour}.jpg", colour) for colour in COLOURS]
    found = processes("fork", two_runtimes, "onnx,tflite", *paths)
    assert found == {"onnx": [0] * 8, "tflite": [0] * 8}


def test_forked_processes_may_use_the_model_of_the_package() -> None:
    photo = PLUS / "golden" / "astronaut.png"
    assert processes("fork", PLUS, "onnx", photo, photo) == {"onnx": [0] * 8}


def test_spawned_processes_are_given_it_and_its_errors(two_runtimes: Path, photo: Photo) -> None:
    paths = [photo(f"{colour}.jpg", colour) for colour in COLOURS]
    assert processes("spawn", two_runtimes, "onnx,tflite", *paths) == {"onnx,tflite": [0] * 9}


def test_no_fork_falls_into_the_start_of_an_engine(two_runtimes: Path) -> None:
    """While LiteRT starts, others wait for their turn, and stderr is where it was."""
    code = (
        "import os, sys, threading; from edgecap.runtime import load; from edgecap.runtime.engines import quiet_start\n"
        "begun, going_on, held_back = threading.Event(), threading.Event(), quiet_start._held_back\n"
        "quiet_start._held_back = lambda: (begun.set(), going_on.wait(0.5), held_back())[-1]\n"
        "thread = threading.Thread(target=load, args=sys.argv[1:2], kwargs={'engine': 'tflite'})\n"
        "thread.start(); begun.wait(); here = os.readlink('/proc/self/fd/2'); child = os.fork()\n"
        "if child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "quiet_start._held_back = held_back\n"
        "assert os.readlink('/proc/self/fd/2') == here\n"
        "print(load(sys.argv[1], engine='tflite').engine)\n"
    )
    assert python(code, two_runtimes, remark="INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n") == "tflite\n"


def python(code: str, *arguments: object, remark: str = "") -> str:
    """What a process prints, which says nothing on stderr but a remark of the engine's where another thread runs."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, *map(str, arguments)]
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0 and run.stderr in ("", remark), run.stderr
    return run.stdout


def test_a_pickled_captioner_is_that_of_its_bundle(
    two_runtimes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(two_runtimes, tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    with load("bundle", engine="tflite", precision="fp32", threads=2) as captioner:
        pickled = pickle.dumps(captioner)
    assert len(pickled) < 1000
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    with pickle.loads(pickled) as again:
        assert (again.engine, again.precision, again.threads) == ("tflite", "fp32", 2)
        assert again.caption(encoded("red")).text == "A red photo."
    shutil.rmtree(tmp_path / "bundle")
    with pytest.raises(BundleError, match="is not a bundle"):
        pickle.loads(pickled)
    write_tiny_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"bundle: is not the bundle any more that the captioner was pickled with"):
        pickle.loads(pickled)


def made(kind: type[EdgecapError]) -> EdgecapError:
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return kind(*[one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD] or ["what went wrong"])


def test_every_error_arrives_in_another_process_as_it_is() -> None:
    kinds = [kind for _, kind in inspect.getmembers(edgecap.errors, inspect.isclass) if issubclass(kind, EdgecapError)]
    assert len(kinds) > 10
    for error in map(made, kinds):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error)) and str(again)


@both_engines
def test_after_close_everything_says_so(two_runtimes: Path, engine: str) -> None:
    with load(two_runtimes, engine=engine) as captioner:
        assert captioner.loaded.name
    captioner.close()
    uses: tuple[Callable[[], object], ...] = (
        lambda: captioner.caption(encoded("red")),
        lambda: captioner.caption("no.jpg"),
        lambda: captioner.caption_batch([]),
        lambda: captioner.loaded,
        lambda: pickle.dumps(captioner),
    )
    for use in uses:
        with pytest.raises(EngineError, match="the captioner is closed: load another"):
            use()


@both_engines
def test_closing_lets_other_threads_finish(two_runtimes: Path, engine: str) -> None:
    for _ in range(3):
        captioner = load(two_runtimes, engine=engine, threads=2)
        texts: list[str] = []
        ends: list[EngineError] = []
        busy = threading.Barrier(THREADS + 1)

        def caption(captioner: Captioner, texts: list[str], ends: list[EngineError], busy: threading.Barrier) -> None:
            texts.append(captioner.caption(encoded("red")).text)
            busy.wait()
            try:
                while True:
                    texts.append(captioner.caption(encoded("red")).text)
            except EngineError as error:
                ends.append(error)

        threads = [threading.Thread(target=caption, args=(captioner, texts, ends, busy)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        busy.wait()
        captioner.close()
        for thread in threads:
            thread.join(60)
        assert len(ends) == THREADS and {str(end) for end in ends} == {"the captioner is closed: load another"}
        assert set(texts) == {"A red photo."}


@both_engines
def test_an_engine_of_one_thread_starts_no_other(
    two_runtimes: Path, photo: Photo, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does ONNX Runtime start one to report to its maker."""
    monkeypatch.delitem(ENVIRONMENT, "ORT_DISABLE_TELEMETRY", raising=False)  # which this process has set
    code = (
        "import os, sys; from edgecap.runtime import load; before = len(os.listdir('/proc/self/task'))\n"
        "captioner = load(sys.argv[1], engine=sys.argv[2], threads=1); captioner.caption(sys.argv[3])\n"
        "print(len(os.listdir('/proc/self/task')) - before, os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    assert python(code, two_runtimes, engine, photo("red.png", "red")) == "0 1\n"


def test_who_wants_onnx_runtimes_reports_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "ORT_DISABLE_TELEMETRY", "0")
    assert python("import os, edgecap; print(os.environ['ORT_DISABLE_TELEMETRY'])") == "0\n"


def test_an_idle_captioner_takes_no_time(two_runtimes: Path) -> None:
    """Neither do its engine's threads; so little as in ten seconds 0.1 s."""
    code = (
        "import sys, time; from edgecap.runtime import load; plus, tiny, photo = sys.argv[1:]\n"
        "captioners = [load(plus, threads=2), load(tiny, engine='tflite', threads=2)]\n"
        "for captioner in captioners * 3: captioner.caption(photo)\n"
        "before = time.process_time(); time.sleep(3); print(time.process_time() - before)"
    )
    assert float(python(code, PLUS, two_runtimes, PLUS / "golden" / "astronaut.png")) < 0.03

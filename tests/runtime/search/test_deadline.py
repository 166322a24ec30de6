"""``--max-ms`` and ``max_ms``: what is there when the time is up, on clocks that only the tests move."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ENVIRONMENT, ROOT, edgecap, encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decoding import VOCABULARY, TableEngine, random_table
from tiny_bundle import CONFIDENCE, write_tiny_bundle

from edgecap.errors import OptionError
from edgecap.runtime import Captioner, Deadline, load
from edgecap.runtime.engines.engine import Arrays, Encoded, Engine, FloatArray, IntArray, Step
from edgecap.runtime.search.decoding import DecodingOptions, Hypothesis, decode

Photo = Callable[..., Path]
PLUS = ROOT / "models" / "plus" / "bundle"
TICK_MS = 1000 / 64  # the tests' clocks go by whole ticks, which floats add up exactly
STEPS = 6


class Clock:
    """Seconds that pass when it is told so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, ticks: int) -> None:
        self.now += ticks * TICK_MS / 1e3

    def deadline(self, ticks: int) -> Deadline:
        return Deadline(ticks * TICK_MS, clock=self)


class Slow:
    """An engine that takes so many ticks of the clock for the photos and each of its steps."""

    name = "slow"

    def __init__(self, engine: Engine, clock: Clock, steps: Sequence[int], encoder: int = 0) -> None:
        self._engine, self._clock, self._encoder, self._steps = engine, clock, encoder, iter(steps)

    def encode(self, images: FloatArray) -> Encoded:
        self._clock.pass_by(self._encoder)
        return self._engine.encode(images)

    def step(self, token: IntArray, state: Arrays, memory: Arrays) -> Step:
        self._clock.pass_by(next(self._steps))
        return self._engine.step(token, state, memory)


def steps_in_time(ticks: Sequence[int], most: int) -> int:
    """How many steps of so many ticks each are made within ``most``, each foreseen to be as long as the one before."""
    made = 1
    while made < len(ticks) and sum(ticks[:made]) + ticks[made - 1] <= most:
        made += 1
    return made


def results(found: list[list[Hypothesis]]) -> list[list[tuple[Any, ...]]]:
    """All of it but how many steps were made."""
    return [
        [(one.token_ids, one.log_prob, one.score, one.finished, one.attention.tolist()) for one in photo]
        for photo in found
    ]


@given(
    seed=st.integers(0, 10_000),
    ticks=st.lists(st.integers(0, 9), min_size=STEPS, max_size=STEPS),
    most=st.integers(1, 40),
    beam=st.sampled_from([1, 2, 5]),
    penalty=st.sampled_from([-0.5, 0.0, 0.7]),
    min_length=st.integers(1, STEPS),
    data=st.data(),
)
@settings(deadline=None, max_examples=100)
def test_a_deadline_gives_what_a_length_gives(
    seed: int, ticks: list[int], most: int, beam: int, penalty: float, min_length: int, data: st.DataObject
) -> None:
    """That of the steps made in time. So the captions of a greedy search are beginnings of the whole one."""
    table = random_table(seed, photos=2, steps=STEPS)
    n_best = data.draw(st.integers(1, beam))

    def found(max_length: int, deadline: Deadline | None, engine: Engine) -> list[list[Hypothesis]]:
        options = DecodingOptions(beam, penalty, min(min_length, max_length), max_length, n_best=n_best)
        return decode(engine, TableEngine(table).start([0, 1]), VOCABULARY, options, deadline)

    clock = Clock()
    cut = found(STEPS, clock.deadline(most), Slow(TableEngine(table), clock, ticks))
    steps = steps_in_time(ticks, most)
    whole, short = (found(length, None, TableEngine(table)) for length in (STEPS, steps))
    done = [photo[0].steps <= steps for photo in whole]  # a search that was over by then was not cut
    assert results(cut) == results([w if over else s for over, w, s in zip(done, whole, short, strict=True)])
    for photo, (first, *_) in zip(cut, whole, strict=True):
        assert 1 <= len(photo) <= n_best
        for one in photo:
            assert 1 <= len(one.token_ids) <= steps and one.steps <= steps
            assert len(VOCABULARY.words(one.token_ids)) == len(one.token_ids) == len(one.attention)  # nothing special
            assert one.finished or len(one.token_ids) == steps
        if beam == 1:
            assert first.token_ids[: len(photo[0].token_ids)] == photo[0].token_ids


@given(st.integers(0, 10_000), st.sampled_from([1, 3]), st.sampled_from([0.0, 0.7]))
@settings(deadline=None, max_examples=30)
def test_a_far_deadline_changes_nothing(seed: int, beam: int, penalty: float) -> None:
    engine = TableEngine(random_table(seed, photos=3))
    options = DecodingOptions(beam, penalty, max_length=4, n_best=beam)
    without = decode(engine, engine.start([0, 1, 2]), VOCABULARY, options)
    for deadline in (Deadline(1e300), Deadline(1.0, clock=Clock())):
        assert decode(engine, engine.start([0, 1, 2]), VOCABULARY, options, deadline) == without


def test_photos_that_are_done_by_then_keep_their_sentence() -> None:
    end, other = VOCABULARY.end_id, len(VOCABULARY) - 1
    table = np.full((2, STEPS, len(VOCABULARY), len(VOCABULARY)), -5.0, np.float32)
    table[0, 0, :, other] = table[0, 1, :, end] = table[1, ..., other] = -0.1
    table[1, ..., end] = -9.0
    clock = Clock()
    engine = Slow(TableEngine(table), clock, [1] * STEPS)
    options = DecodingOptions(beam=3, max_length=STEPS, n_best=1)
    (done,), (cut,) = decode(engine, TableEngine(table).start([0, 1]), VOCABULARY, options, deadline=clock.deadline(3))
    assert (done.token_ids, done.finished) == ((other,), True)
    assert (cut.token_ids, cut.finished) == ((other,) * 3, False)


def test_a_finished_sentence_may_be_better_than_those_that_are_cut() -> None:
    end, other = VOCABULARY.end_id, len(VOCABULARY) - 1
    table = np.full((1, STEPS, len(VOCABULARY), len(VOCABULARY)), -5.0, np.float32)
    table[0, :, :, other], table[0, 1:, :, end] = -0.9, -0.8
    clock = Clock()
    engine = Slow(TableEngine(table), clock, [1] * STEPS)
    options = DecodingOptions(beam=3, length_penalty=0.3, max_length=STEPS, n_best=3)
    (found,) = decode(engine, TableEngine(table).start([0]), VOCABULARY, options, deadline=clock.deadline(2))
    assert [(one.token_ids, one.finished) for one in found[:2]] == [((other,), True), ((other, other), False)]
    assert found[0].score > found[1].score


@pytest.mark.parametrize("max_ms", [0, -1, float("nan"), float("inf"), -float("inf")])
def test_a_deadline_that_cannot_work_is_refused(captioner: Captioner, max_ms: float) -> None:
    with pytest.raises(OptionError, match="max_ms must be a positive, finite number of milliseconds, not "):
        captioner.caption(encoded("red"), max_ms=max_ms)


@pytest.fixture(scope="module")
def plus() -> Iterator[Captioner]:
    with load(PLUS, engine="onnx", threads=1) as loaded:
        yield loaded


def slowed(captioner: Captioner, clock: Clock, steps: Sequence[int], encoder: int) -> Captioner:
    engine = Slow(captioner.loaded, clock, steps, encoder)
    return Captioner(captioner.bundle, captioner.graph_set, engine)


def test_the_model_of_the_package_says_what_it_has(plus: Captioner) -> None:
    """The photo takes 20 ticks to be read, the encoder 30, and steps 3: one for each word, and one for the end."""
    content = encoded("green")
    whole = plus.caption(content, beam=1)
    words = len(whole.tokens)
    assert words > 5 and not whole.truncated and whole.confidence is not None
    all_of_it = 20 + 30 + 3 * (words + 1)

    for most in (1, 52, 55, 56, 58, 59, all_of_it - 3, all_of_it - 1, all_of_it, 1000):
        clock = Clock()

        class Disk(io.BytesIO):
            def read(self, *arguments: Any, clock: Clock = clock) -> bytes:
                clock.now = max(clock.now, 20 * TICK_MS / 1e3)
                return super().read(*arguments)

        slow = slowed(plus, clock, [3] * 20, encoder=30)
        cut = slow.caption(Disk(content), beam=1, max_ms=clock.deadline(most))
        said = min(words, max(1, (most - 20 - 30) // 3))
        assert cut.tokens == whole.tokens[:said] and cut.truncated == (most < all_of_it)
        assert cut.attention.shape == (said, 7, 7)
        assert (cut.text, cut.reason is None) == ((cut.text, True) if said >= 3 else ("", False))
        assert said < 3 or cut.text.endswith(".")
        assert cut.confidence == (None if cut.truncated else whole.confidence)


def test_whatever_the_deadline_the_model_of_the_package_says_something(plus: Captioner) -> None:
    photos = [PLUS / "golden" / "astronaut.png", encoded("green")]
    whole = plus.caption_batch(photos)
    assert plus.caption_batch(photos, max_ms=1e9) == whole
    for max_ms in (1e-9, 1, 5, 25):
        for caption in plus.caption_batch(photos, max_ms=max_ms):
            assert caption.tokens and not set(caption.tokens) & {"<pad>", "<start>", "<end>", "<unk>"}


def test_the_cut_by_length_and_by_time_are_told_apart(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", confidence=CONFIDENCE)
    with load(bundle, precision="fp32", threads=1) as captioner:
        by_length = captioner.caption(encoded("red"), max_length=2)
        assert (len(by_length.tokens), by_length.truncated) == (2, True) and by_length.confidence is not None
        by_time = captioner.caption(encoded("red"), max_length=2, max_ms=1e-9)
        assert (len(by_time.tokens), by_time.truncated, by_time.confidence) == (1, True, None)
        assert by_length.text == "A red." and by_length.reason is None  # as was asked for
        assert by_time.text == "" and by_time.reason == "not sure: there was time for 1 word, 3 are the least"
        assert captioner.caption(encoded("red"), max_ms=1e9) == captioner.caption(encoded("red"))
        assert captioner.caption_batch([], max_ms=1) == []


@pytest.mark.parametrize("engine", ["onnx", "tflite"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_on_the_command_line_each_photo_gets_a_word(
    two_runtimes: Path, photo: Photo, engine: str, batch_size: int
) -> None:
    red, blue = photo("red.jpg", "red"), photo("blue.jpg", "blue")
    arguments = ("caption", red, "no.jpg", blue, "--bundle", two_runtimes, "--engine", engine)
    code, out, err = edgecap(*arguments, "--max-ms", 0.001, "--json", "--batch-size", batch_size)
    assert (code, err) == (1, ["edgecap: no.jpg: no such file"])
    first, _, last = map(json.loads, out)
    for record in (first, last):
        assert (record["tokens"], record["caption"]) == (["a"], None)
        assert record["reason"] == "not sure: there was time for 1 word, 3 are the least"
        assert record["truncated"] is True and record["confidence"] is None
    far = edgecap(*arguments, "--max-ms", 1e9, "--batch-size", batch_size)
    assert far == (1, [f"{red}: A red photo.", f"{blue}: A blue photo."], err)


def test_a_caption_that_the_deadline_cut_is_never_sure(tmp_path: Path, photo: Photo) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", confidence=CONFIDENCE)
    arguments = ("caption", photo("red.png", "red"), "--bundle", bundle, "--precision", "fp32", "--min-confidence", 0)
    assert edgecap(*arguments, "--max-ms", 1e9) == (0, ["A red photo."], [])
    assert edgecap(*arguments, "--max-ms", 0.001) == (0, ["not sure"], [])
    (line,) = edgecap(*arguments, "--max-ms", 0.001, "--json")[1]
    record = json.loads(line)
    assert (record["caption"], record["sure"], record["truncated"]) == (None, False, True)


@pytest.mark.parametrize("wrong", ["0", "-5", "nan", "inf", "1e999", "soon", ""])
def test_a_wrong_deadline_is_wrong_usage(tiny_bundle: Path, wrong: str) -> None:
    """Also when the photo is to come on stdin, for which nobody waits then."""
    code, out, err = edgecap("caption", "-", "--bundle", tiny_bundle, f"--max-ms={wrong}")
    assert (code, out) == (2, []) and ("--max-ms" in err[-1] or "max_ms" in err[-1])


def test_a_photo_that_comes_late_is_late_as_a_file_and_not_on_stdin(tiny_bundle: Path, tmp_path: Path) -> None:
    pipe, allowed, late = tmp_path / "pipe.jpg", 2.0, 2.1  # s
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "edgecap", "caption", "--json", "--threads", "1", "--bundle", str(tiny_bundle)]

    def feed() -> None:
        with pipe.open("wb") as file:  # waits until somebody opens it to read
            time.sleep(late)
            file.write(encoded("red"))

    thread = threading.Thread(target=feed)
    thread.start()
    with subprocess.Popen(
        [*command, f"--max-ms={allowed * 1e3}", str(pipe), "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        from_file = json.loads(process.stdout.readline())
        time.sleep(late)  # it waits for stdin since then
        process.stdin.write(encoded("red"))
        process.stdin.close()
        from_stdin = json.loads(process.stdout.readline())
    thread.join()
    assert (from_file["tokens"], from_file["truncated"]) == (["a"], True)
    assert (from_stdin["caption"], from_stdin["truncated"]) == ("A red photo.", False)

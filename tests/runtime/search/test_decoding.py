"""The decode loop against exhaustive search and a plain argmax loop, on a back end that is a table."""

from __future__ import annotations

import itertools
import math
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgecap.errors import EngineError, OptionError
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.runtime.engines.engine import Arrays, Encoded, FloatArray, IntArray, Step
from edgecap.runtime.search import decoding
from edgecap.runtime.search.decoding import DecodingOptions, Hypothesis, decode

WORDS = 3
V = len(SPECIAL_TOKENS) + WORDS
VOCABULARY = Vocabulary((*SPECIAL_TOKENS, *"xyz"))
END, LOCATIONS = VOCABULARY.end_id, 4
ALLOWED = (END, *range(len(SPECIAL_TOKENS), V))


class TableEngine:
    """Log-probabilities looked up by photo, step and last word. The state holds the photo's number and the step's."""

    name = "table"

    def __init__(self, table: FloatArray) -> None:  # (N, T, V, V)
        self.table = table
        self.batches: list[int] = []  # photos in each step

    def encode(self, images: FloatArray) -> Encoded:
        raise AssertionError("a search is given what is encoded")

    def start(self, photos: list[int]) -> Encoded:
        number = np.array(photos, np.float32)[:, None]  # (N, 1)
        return Encoded(memory={"photo": number}, state={"photo": number, "time": np.zeros_like(number)})

    def step(self, token: IntArray, state: Arrays, memory: Arrays) -> Step:
        photo, time = state["photo"][:, :, 0].astype(int), state["time"][:, :, 0].astype(int)
        assert (photo == memory["photo"]).all(), "a hypothesis was given another photo's memory"
        self.batches.append(len(token))
        attention = np.zeros((*token.shape, LOCATIONS), np.float32)
        attention[:, :, 0], attention[:, :, 1] = token, time
        return Step(self.table[photo, time, token], {**state, "time": state["time"] + 1}, attention)


def random_table(seed: int, photos: int = 1, steps: int = 4) -> FloatArray:
    logits = np.random.default_rng(seed).normal(scale=2, size=(photos, steps, V, V))
    table: FloatArray = (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32)
    return table


def search(table: FloatArray, **options: Any) -> list[list[Hypothesis]]:
    engine = TableEngine(table)
    choices = DecodingOptions(**{"max_length": table.shape[1], **options})
    return decode(engine, engine.start(list(range(len(table)))), VOCABULARY, choices)


def every_caption(table: FloatArray, length_penalty: float, min_length: int) -> list[tuple[float, tuple[int, ...]]]:
    """Score and ids of all captions of one photo (T, V, V), best first."""
    steps, scored = len(table), []
    for length in range(steps + 1):
        for words in itertools.product(ALLOWED[1:], repeat=length):
            sequence = words if length == steps else (*words, END)
            if length < min_length or not sequence:
                continue
            before = (VOCABULARY.start_id, *sequence)
            log_prob = sum(float(table[t, before[t], token]) for t, token in enumerate(sequence))
            scored.append((log_prob / len(sequence) ** length_penalty, words))
    return sorted(scored, reverse=True)


def greedy(table: FloatArray, min_length: int) -> tuple[int, ...]:
    words: list[int] = []
    for log_probs in table:
        allowed = ALLOWED if len(words) >= min_length else ALLOWED[1:]
        best = max(allowed, key=lambda token: log_probs[words[-1] if words else VOCABULARY.start_id, token])
        if best == END:
            break
        words.append(best)
    return tuple(words)


seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.sampled_from([-0.5, 0.0, 0.7, 1.0, 2.0]), st.integers(0, 2))
def test_a_beam_as_wide_as_the_tree_finds_the_best_captions(seed: int, length_penalty: float, min_length: int) -> None:
    table = random_table(seed, steps=3)
    options = {"beam": 81, "n_best": 5, "length_penalty": length_penalty, "min_length": min_length}
    found = search(table, **options)[0]
    wanted = every_caption(table[0], length_penalty, min_length)[:5]
    assert [hypothesis.token_ids for hypothesis in found] == [words for _, words in wanted]
    assert [hypothesis.score for hypothesis in found] == pytest.approx([score for score, _ in wanted], abs=1e-5)


@given(seeds, st.floats(-2, 2), st.integers(0, 4))
def test_a_beam_of_one_is_the_argmax_loop(seed: int, length_penalty: float, min_length: int) -> None:
    table = random_table(seed)
    (found,) = search(table, beam=1, length_penalty=length_penalty, min_length=min_length)[0]
    assert found.token_ids == greedy(table[0], min_length)
    assert found.finished == (len(found.token_ids) < 4)


@given(seeds, st.integers(1, 6), st.sampled_from([0.0, 0.7]))
def test_a_photo_gets_in_a_batch_what_it_gets_alone(seed: int, beam: int, length_penalty: float) -> None:
    table = random_table(seed, photos=4)
    engine = TableEngine(table)
    options = DecodingOptions(beam=beam, n_best=beam, max_length=4, length_penalty=length_penalty)
    together = decode(engine, engine.start([0, 1, 2, 3]), VOCABULARY, options)
    for photo in range(4):
        (alone,) = decode(engine, engine.start([photo]), VOCABULARY, options)
        assert alone == together[photo]
        for one, other in zip(alone, together[photo], strict=True):
            np.testing.assert_array_equal(one.attention, other.attention)


@given(seeds, st.integers(1, 6), st.sampled_from([-0.5, 0.0, 0.7]))
def test_stopping_early_keeps_the_best_caption(seed: int, beam: int, length_penalty: float) -> None:
    table = random_table(seed)
    (first,) = search(table, beam=beam, length_penalty=length_penalty)[0]
    best = search(table, beam=beam, length_penalty=length_penalty, n_best=beam)[0][0]
    assert first.token_ids == best.token_ids


@given(seeds, st.integers(1, 6))
def test_log_prob_and_attention_belong_to_the_words(seed: int, beam: int) -> None:
    table = random_table(seed)
    for found in search(table, beam=beam, n_best=beam, length_penalty=0.7)[0]:
        sequence = (*found.token_ids, END) if found.finished else found.token_ids
        before = (VOCABULARY.start_id, *sequence)
        total = sum(float(table[0, t, before[t], token]) for t, token in enumerate(sequence))
        assert found.log_prob == pytest.approx(total, abs=1e-5)
        assert found.score == pytest.approx(total / len(sequence) ** 0.7, abs=1e-5)
        words = len(found.token_ids)
        assert found.attention.shape == (words, LOCATIONS) and found.attention.dtype == np.float32
        assert found.attention[:, 0].tolist() == list(before[:words])  # the word that each slot had read
        assert found.attention[:, 1].tolist() == list(range(words))  # and its step


def test_hypotheses_come_best_first_and_special_tokens_never() -> None:
    table = random_table(1)
    table[:, :, :, [VOCABULARY.pad_id, VOCABULARY.start_id, VOCABULARY.unk_id, 5]] = 0.0
    found = search(table, beam=6, n_best=6, suppressed_ids=(5,))[0]
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    assert all(set(h.token_ids) <= {4, 6} for h in found)


@given(seeds, st.sampled_from([1, 3, 5]), st.sampled_from([0.0, 0.3]))
@example(148, 1, 0.0)  # the end is the likeliest first word
@settings(max_examples=30)
def test_among_many_words_the_same_are_found_as_by_sorting_all(seed: int, beam: int, step: float) -> None:
    """``step`` rounds log-probabilities, so that there are equals, and the forbidden words are the likeliest."""
    words, steps = 700, 4
    vocabulary = Vocabulary((*SPECIAL_TOKENS, *(f"w{number}" for number in range(words))))
    size = len(vocabulary)
    rng = np.random.default_rng(seed)
    rows = rng.normal(scale=3, size=(2, steps, size)).astype(np.float32)  # whatever the last word was
    rows = np.round(rows / step) * np.float32(step) if step else rows
    rows[..., [vocabulary.pad_id, vocabulary.unk_id]] += 9
    rows[..., vocabulary.end_id] += 2
    rows -= np.float32(64)  # no log-probability is positive
    table = np.broadcast_to(rows[:, :, np.newaxis], (2, steps, size, size))

    def found() -> list[list[Hypothesis]]:
        engine = TableEngine(table)
        options = DecodingOptions(beam=beam, n_best=beam, max_length=steps)
        return decode(engine, engine.start([0, 1]), vocabulary, options)

    by_groups = found()
    with patch.object(decoding, "_GROUPS", 2**30):
        assert found() == by_groups
    assert beam > 1 or [best.token_ids for (best,) in by_groups] == [argmax_words(photo, vocabulary) for photo in rows]


def argmax_words(rows: FloatArray, vocabulary: Vocabulary) -> tuple[int, ...]:
    words, best = range(len(SPECIAL_TOKENS), len(vocabulary)), []
    for row in rows:
        allowed = [vocabulary.end_id, *words] if best else words  # there is at least one word
        best.append(max(allowed, key=lambda token, row=row: (row[token], -token)))  # type: ignore[misc]
    return tuple(itertools.takewhile(lambda token: token != vocabulary.end_id, best))


def test_equal_candidates_are_taken_in_order_of_their_ids() -> None:
    table = np.full((1, 2, V, V), math.log(1 / V), np.float32)
    found = search(table, beam=4, n_best=4, min_length=2)[0]
    assert [h.token_ids for h in found] == [(4, 4), (4, 5), (4, 6), (5, 4)]


def test_photos_that_are_done_leave_the_batch() -> None:
    table = np.full((2, 4, V, V), -1.0, np.float32)
    table[..., END] = -9.0
    table[0, 1:, :, END] = table[1, 3:, :, END] = -0.01
    engine = TableEngine(table)
    results = decode(engine, engine.start([0, 1]), VOCABULARY, DecodingOptions(beam=2, max_length=4))
    assert engine.batches == [2, 2, 1, 1]
    assert [best.steps for (best,) in results] == [2, 4]


def test_a_caption_cut_at_max_length_says_so() -> None:
    table = np.full((1, 3, V, V), -1.0, np.float32)
    table[..., END] = -np.inf
    (found,) = search(table, beam=2)[0]
    assert len(found.token_ids) == 3 and not found.finished


def test_no_photos_no_captions() -> None:
    engine = TableEngine(random_table(0))
    assert decode(engine, engine.start([]), VOCABULARY, DecodingOptions()) == []


@pytest.mark.parametrize(
    ("value", "problem"),
    [(np.nan, "NaN"), (-np.inf, "no word"), (np.inf, "inf, and"), (3e38, r"3e\+38, and"), (0.01, r"0\.01, and")],
)
def test_an_engine_that_returns_nonsense_is_an_error(value: float, problem: str) -> None:
    with pytest.raises(EngineError, match=problem):
        search(np.full((1, 2, V, V), value, np.float32))
    one = random_table(0)
    one[0, 1, :, 5] = value  # of a single word; what cannot come is no nonsense then
    if value == -np.inf:
        assert all(5 not in best.token_ids[1:2] for best in search(one, beam=3, n_best=3)[0])
    else:
        with pytest.raises(EngineError, match=problem):
            search(one)


def test_what_rounding_leaves_above_a_certain_word_is_no_error() -> None:
    table = random_table(0)
    table[..., 5] = 1e-6
    assert search(table, max_length=2)[0][0].token_ids == (5, 5)


def test_a_step_of_another_vocabulary_is_an_error() -> None:
    for words in (0, 3, V + 1):
        with pytest.raises(EngineError, match=f"the decoder step knows {words} words, the bundle {V}"):
            search(np.full((1, 2, V, words), -1, np.float32))


@pytest.mark.parametrize(
    "options",
    [
        {"beam": 0},
        {"beam": 101},
        {"max_length": 0},
        {"max_length": 201},
        {"min_length": -1},
        {"min_length": 21},
        {"length_penalty": math.nan},
        {"length_penalty": math.inf},
        {"n_best": 6},
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        DecodingOptions(**options)

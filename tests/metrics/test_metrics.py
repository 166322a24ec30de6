"""BLEU, ROUGE-L and CIDEr-D: worked examples, pycocoevalcap's committed figures, and itself where it is installed."""

from __future__ import annotations

import json
import math
import runpy
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from places import FIXTURES

from edgecap.errors import MetricError
from edgecap.metrics import CiderD, Scores, bleu, cider_d, rouge_l, score
from edgecap.metrics.bleu import clipped_matches, closest_length
from edgecap.metrics.ngrams import ngram_counts
from edgecap.metrics.pairs import Hypotheses, References
from edgecap.metrics.rouge import common_subsequence_length, sentence_rouge_l

METRICS = FIXTURES / "metrics"

# References are not empty: pycocoevalcap's ROUGE-L gives an empty caption 1.0 for matching one
WORDS = st.sampled_from(["a", "dog", "runs", "on", "é", "犬"])
PHOTO = st.tuples(
    st.lists(WORDS, max_size=12), st.lists(st.lists(WORDS, min_size=1, max_size=12), min_size=1, max_size=5)
)
CORPUS = st.lists(PHOTO, min_size=1, max_size=8)


def fixture() -> tuple[dict[str, list[str]], dict[str, list[list[str]]]]:
    made = json.loads((METRICS / "captions.json").read_text(encoding="utf-8"))
    return {k: v["hypothesis"] for k, v in made.items()}, {k: v["references"] for k, v in made.items()}


def expected() -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((METRICS / "expected.json").read_text(encoding="utf-8"))
    return figures


def test_equals_the_committed_figures_without_pycocoevalcap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    scores, figures = score(*fixture()), expected()
    assert scores.bleu == pytest.approx(figures["bleu"], rel=0, abs=1e-6)
    assert scores.rouge_l == pytest.approx(figures["rouge_l"], rel=0, abs=1e-6)
    assert scores.cider_d == pytest.approx(figures["cider_d"], rel=0, abs=1e-6)
    assert scores.meteor is None and scores.spice is None


def test_cider_d_of_every_photo_equals_the_committed_one() -> None:
    hypotheses, references = fixture()
    mean, photos = CiderD(references).score(hypotheses)
    assert photos == pytest.approx(expected()["cider_d_photos"], rel=0, abs=1e-6)
    assert mean == pytest.approx(photos.mean())


def test_the_committed_captions_are_those_the_script_makes() -> None:
    made = runpy.run_path(str(METRICS / "make.py"))["captions"]()
    assert {k: v["hypothesis"] for k, v in made.items()} == fixture()[0]
    assert {k: v["references"] for k, v in made.items()} == fixture()[1]


@settings(max_examples=150, deadline=None)
@given(CORPUS)
@example([(["dog"], [["a", "dog"]])])  # no pairs of words at all
@example([([], [["a", "dog"]]), ([], [["runs"]])])
def test_equals_pycocoevalcap_live(corpus: list[tuple[list[str], list[list[str]]]]) -> None:
    bleu_module = pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pycocoevalcap is not installed")
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    hypotheses = {str(index): tokens for index, (tokens, _) in enumerate(corpus)}
    references = {str(index): sentences for index, (_, sentences) in enumerate(corpus)}
    theirs = (
        {photo: [" ".join(tokens) for tokens in sentences] for photo, sentences in references.items()},
        {photo: [" ".join(tokens)] for photo, tokens in hypotheses.items()},
    )
    scores = score(hypotheses, references)
    assert scores.bleu == pytest.approx(bleu_module.Bleu(4).compute_score(*theirs, verbose=0)[0], rel=0, abs=1e-6)
    assert scores.rouge_l == pytest.approx(Rouge().compute_score(*theirs)[0], rel=0, abs=1e-6)
    mean, photos = Cider().compute_score(*theirs)
    assert scores.cider_d == pytest.approx(mean, rel=0, abs=1e-6)
    assert CiderD(references).score(hypotheses)[1] == pytest.approx(photos, rel=0, abs=1e-6)


def test_ngram_counts() -> None:
    assert ngram_counts(["a", "b", "a"], 2) == {("a",): 2, ("b",): 1, ("a", "b"): 1, ("b", "a"): 1}
    assert ngram_counts([]) == {}


def test_bleu_clips_as_in_the_paper() -> None:
    # Papineni et al., section 2.1, example 2: modified unigram precision 2/7
    references = [["the", "cat", "is", "on", "the", "mat"], ["there", "is", "a", "cat", "on", "the", "mat"]]
    assert clipped_matches(["the"] * 7, references) == [2, 0, 0, 0]


def test_closest_length_breaks_a_tie_towards_the_shorter() -> None:
    assert closest_length(4, [["x"] * 6, ["x"] * 2, ["x"] * 9]) == 2
    assert closest_length(5, [["x"] * 6, ["x"] * 2, ["x"] * 9]) == 6


def test_bleu_pays_for_brevity() -> None:
    reference = ["a", "dog", "runs", "on", "the", "wet", "grass"]
    scores = bleu({"1": reference[:5]}, {"1": [reference]})
    assert scores == pytest.approx([math.exp(1 - 7 / 5)] * 4, abs=1e-6)


def test_bleu_is_of_the_corpus_not_the_mean_of_photos() -> None:
    hypotheses = {"1": ["a", "b", "c"], "2": ["x"]}
    references = {"1": [["a", "b", "c"]], "2": [["y"]]}
    assert bleu(hypotheses, references)[0] == pytest.approx(3 / 4, abs=1e-6)  # the mean would be 1/2


def test_rouge_l_takes_precision_and_recall_from_their_best_references() -> None:
    hypothesis, long, short = ["a", "b", "c", "d"], ["a", "b", "c", "d", "e", "f", "g", "h"], ["a", "b"]
    assert sentence_rouge_l(hypothesis, [long, short]) == pytest.approx(1.0)  # P 4/4 from long, R 2/2 from short
    precision, recall = 1.0, 0.5
    alone = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert sentence_rouge_l(hypothesis, [long]) == pytest.approx(alone)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=70), st.lists(WORDS, max_size=70))
def test_common_subsequence_equals_the_plain_table(first: list[str], second: list[str]) -> None:
    row = [0] * (len(second) + 1)
    for token in first:
        above = row
        row = [0]
        for column, other in enumerate(second):
            row.append(above[column] + 1 if token == other else max(above[column + 1], row[-1]))
    assert common_subsequence_length(first, second) == row[-1]


def test_cider_d_of_perfect_captions_is_ten() -> None:
    references = {"1": [["one", "grey", "goose", "sleeps"]], "2": [["two", "wet", "otters", "swim"]]}
    hypotheses = {photo: sentences[0] for photo, sentences in references.items()}
    assert cider_d(hypotheses, references) == pytest.approx(10.0)


def test_cider_d_takes_a_length_difference_through_the_gaussian_and_the_norm() -> None:
    references = {"1": [["goose"]], "2": [["otter"]]}
    mean, photos = CiderD(references).score({"1": ["goose"] * 3, "2": ["otter"]})
    clipped = 1 * 1 / (3 * 1)  # min(3, 1) * 1 over the norms, idf cancels; only one order of four is there
    assert photos == pytest.approx([10 * clipped * math.exp(-(2**2) / 72) / 4, 10 / 4])
    assert mean == pytest.approx(photos.mean())


def test_cider_d_of_one_photo_is_zero_because_no_word_tells_it_apart() -> None:
    assert cider_d({"1": ["goose"]}, {"1": [["goose"]]}) == 0.0


def test_cider_d_object_scores_some_photos_with_the_frequencies_of_all() -> None:
    hypotheses, references = fixture()
    scorer = CiderD(references)
    _, all_photos = scorer.score(hypotheses)
    some = list(hypotheses)[::-7]  # another order, too
    mean, photos = scorer.score({photo: hypotheses[photo] for photo in some})
    assert photos.tolist() == all_photos[::-7].tolist()
    assert mean == pytest.approx(photos.mean())
    assert mean != pytest.approx(cider_d({p: hypotheses[p] for p in some}, {p: references[p] for p in some}))


def test_an_empty_hypothesis_scores_zero() -> None:
    hypotheses: dict[str, list[str]] = {"1": [], "2": []}
    references = {"1": [["a", "dog"]], "2": [["a", "cat"], []]}
    scores = score(hypotheses, references)
    assert (*scores.bleu, scores.rouge_l, scores.cider_d) == pytest.approx([0.0] * 6, abs=1e-12)


def test_an_empty_hypothesis_beside_others_costs_only_its_own_share() -> None:
    references = {"1": [["a", "dog"]], "2": [["my", "cat"]]}
    assert rouge_l({"1": ["a", "dog"], "2": []}, references) == pytest.approx(0.5)


@pytest.mark.parametrize("metric", [bleu, rouge_l, cider_d, score])
@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ({"p1": ["a"], "p2": ["a"]}, {"p1": [["a"]]}, "photo p2: has a caption but no references"),
        ({"p1": ["a"]}, {"p1": [["a"]], "p2": [["a"]]}, "photo p2: has references but no caption"),
        ({"p1": ["a"], "p2": ["a"]}, {"p1": [["a"]], "p2": []}, "photo p2: no reference caption"),
        ({}, {}, "empty"),
        ({"p1": "a dog"}, {"p1": [["a"]]}, "photo p1: the caption is one string"),
        ({"p1": ["a"]}, {"p1": ["a dog"]}, "photo p1: a reference is one string"),
        ({"p1": ["a"]}, {"p1": "a dog"}, "photo p1: a reference is one string"),
    ],
)
def test_wrong_pairs_are_named(
    metric: Callable[[Hypotheses, References], object], hypotheses: Any, references: Any, message: str
) -> None:
    with pytest.raises(MetricError, match=message):
        metric(hypotheses, references)


def test_cider_d_object_names_what_it_cannot_score() -> None:
    with pytest.raises(MetricError, match="photo p2: has a caption but no references"):
        CiderD({"p1": [["a"]]}).score({"p2": ["a"]})
    with pytest.raises(MetricError, match="empty"):
        CiderD({"p1": [["a"]]}).score({})
    with pytest.raises(MetricError, match="empty"):
        CiderD({})


def test_scores_are_reported_times_a_hundred_without_what_is_missing() -> None:
    scores = Scores(bleu=(0.5, 0.4, 0.3, 0.19512346), rouge_l=0.45, cider_d=0.4534567)
    assert scores.to_json() == {
        "BLEU-1": 50.0,
        "BLEU-2": 40.0,
        "BLEU-3": 30.0,
        "BLEU-4": 19.5123,
        "ROUGE-L": 45.0,
        "CIDEr-D": 45.3457,
    }
    full = Scores(scores.bleu, 0.45, 0.45, meteor=0.2, spice=0.0).to_json()
    assert (full["METEOR"], full["SPICE"]) == (20.0, 0.0)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    score(*fixture())
    assert capfd.readouterr() == ("", "")

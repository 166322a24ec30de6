"""From encoded photos to word sequences: greedy and beam search in one loop, whatever the engine.

The photos of a batch share the decoder steps, and leave the batch when they are done; the search of a photo reads
nothing of the others. Axes as in :mod:`edgecap.runtime.engines.engine`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgecap.errors import EngineError
from edgecap.runtime.bundle.generation import DecodingOptions
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.engines.engine import Encoded, Engine, FloatArray, IntArray
from edgecap.runtime.search.deadline import Deadline

__all__ = ["DecodingOptions", "Hypothesis", "decode"]

_GROUPS = 256
# A log-probability above 0 is none. What rounding makes of a certain word is a millionth or two above it, in float32;
# this leaves room for engines that round more coarsely, and is still no more than a thousandth of the probability.
MAX_LOG_PROB = 1e-3


@dataclass(frozen=True)
class Hypothesis:
    """A word sequence for a photo."""

    token_ids: tuple[int, ...]  # without <start> and <end>
    log_prob: float  # natural logarithm, the sum over the words and <end>
    score: float  # log_prob / length ** length_penalty, by which hypotheses are ranked; <end> counts in length
    # (T, L): where each of the T words looked; None of an architecture that does not say
    attention: FloatArray | None = field(compare=False)
    finished: bool  # False: cut at max_length or by the deadline
    steps: int  # decoder steps that the search of this photo took

    @property
    def mean_log_prob(self) -> float:
        """``log_prob`` a token, ``<end>`` being one where the sentence was finished."""
        return self.log_prob / (len(self.token_ids) + self.finished)


def decode(
    engine: Engine,
    encoded: Encoded,
    vocabulary: Vocabulary,
    options: DecodingOptions,
    deadline: Deadline | None = None,
) -> list[list[Hypothesis]]:
    """For each of N photos its ``options.n_best`` hypotheses (or as many as exist), best first.

    No step but the first is made that would end after the ``deadline``, were it as long as the one before; searches
    that are not done by then end as they do at ``max_length``. Raises :class:`~edgecap.errors.EngineError` when the
    engine returns log-probabilities of another number of words, or such as are NaN or above 0 (by more than
    :data:`MAX_LOG_PROB`), or leaves no word to choose. ``-inf`` is that of a word that cannot come.
    """
    searches = [_PhotoSearch(options, vocabulary.end_id) for _ in range(len(encoded))]
    live = searches
    another = deadline.rounds() if deadline else None
    memory = encoded.memory  # (n, ...) each: n photos are not done yet
    state = {name: value[:, np.newaxis] for name, value in encoded.state.items()}  # (n, 1, ...) each: one hypothesis
    token = np.full((len(live), 1), vocabulary.start_id, np.int64)  # (n, 1)
    for length in range(1, options.max_length + 1):
        if not live:
            break
        step = engine.step(token, state, memory)
        if step.log_probs.shape[2] != len(vocabulary):
            raise EngineError(f"the decoder step knows {step.log_probs.shape[2]} words, the bundle {len(vocabulary)}")
        scores = _scores(step.log_probs, live, _forbidden(vocabulary, options, length))  # (n, k * V)
        count = min(2 * options.beam, scores.shape[1])
        cuts = _cuts(scores, count)  # (n,)
        rows = []
        for row, search in enumerate(live):
            search.advance(scores[row], cuts[row], count, None if step.attention is None else step.attention[row])
            if not search.done(length):
                rows.append(row)
        if len(rows) < len(live):
            memory = {name: value[rows] for name, value in memory.items()}
        live = [live[row] for row in rows]
        if live and another is not None and not another():
            for search in live:
                search.cut()
            break
        if live:
            token = np.stack([search.tokens[-1] for search in live])  # (n, K)
            parents = np.stack([search.parents[-1] for search in live])  # (n, K)
            which = np.asarray(rows)[:, np.newaxis]  # (n, 1)
            state = {name: value[which, parents] for name, value in step.state.items()}  # (n, K, ...) each
    return [search.hypotheses() for search in searches]


def _forbidden(vocabulary: Vocabulary, options: DecodingOptions, length: int) -> list[int]:
    """Ids that may not be chosen as the ``length``-th token."""
    ids = [vocabulary.pad_id, vocabulary.start_id, vocabulary.unk_id, *options.suppressed_ids]
    return [*ids, vocabulary.end_id] if length <= options.min_length else ids


def _scores(log_probs: FloatArray, live: list[_PhotoSearch], forbidden: list[int]) -> FloatArray:
    """Log-probabilities of all candidates (n, k * V), -inf for those not allowed, from a step's (n, k, V)."""
    largest = float(log_probs.max(initial=-np.inf))  # NaN where one of them is
    if not largest <= MAX_LOG_PROB:
        problem = "NaN" if np.isnan(largest) else f"{largest:.3g}, and they are not positive"
        raise EngineError(f"the decoder step returned log-probabilities that are none: {problem}")
    so_far = np.stack([search.log_probs for search in live])  # (n, k)
    scores: FloatArray = log_probs + so_far[:, :, np.newaxis]  # (n, k, V)
    scores[:, :, forbidden] = -np.inf
    return scores.reshape(len(live), -1)


def _cuts(scores: FloatArray, count: int) -> FloatArray:
    """For each row of scores (n, C) a limit that ``count`` of them reach, and hardly more: (n,).

    Of the best of each group of scores, the ``count``-th is reached by ``count`` scores: to look among these few
    takes a tenth of the time that it takes to look among all.
    """
    rows, candidates = scores.shape
    each = candidates // _GROUPS
    if each < 2 or count > _GROUPS // 4:
        return np.partition(scores, -count, axis=1)[:, -count]
    groups = scores[:, : each * _GROUPS].reshape(rows, each, _GROUPS)  # without those left over, which may reach it too
    return np.partition(groups.max(axis=1), -count, axis=1)[:, -count]


@dataclass(frozen=True)
class _End:
    """A hypothesis that left the search: its last word is in ``slot`` after ``words`` words."""

    score: float
    log_prob: float
    words: int
    slot: int
    finished: bool


class _PhotoSearch:
    """The search of one photo: K live hypotheses in slots, and back-pointers through all steps.

    A slot that no candidate is left for has the log-probability -inf; nothing grows from it.
    """

    def __init__(self, options: DecodingOptions, end_id: int) -> None:
        self._options = options
        self._end_id = end_id
        self.log_probs = np.zeros(1, np.float32)  # (k,) of the live hypotheses: 1 at the start, K after a step
        self.tokens: list[IntArray] = []  # per step (K,): the word of each slot
        self.parents: list[NDArray[np.intp]] = []  # per step (K,): the slot of the step before that it continues
        self._attention: list[FloatArray | None] = []  # per step (k, L): where the slots of the step before looked
        self._ended: list[_End] = []

    def advance(self, scores: FloatArray, cut: float, count: int, attention: FloatArray | None) -> None:
        """Choose among the candidates ``scores`` (k * V): the best ``count`` of those not below ``cut``."""
        beam = self._options.beam
        words = scores.size // len(self.log_probs)  # V
        # Ascending ids, then a stable sort: among equals the lower slot and id wins, on every machine.
        chosen = np.flatnonzero((scores >= cut) & (scores > -np.inf))
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")][:count]  # (<= count,)
        slots, tokens = chosen // words, chosen % words
        ends = tokens == self._end_id
        for rank in np.flatnonzero(ends[:beam]):  # an end that ranks lower is outside of the beam
            self._end(float(scores[chosen[rank]]), len(self.tokens), int(slots[rank]), finished=True)
        going_on = np.flatnonzero(~ends)[:beam]
        self.log_probs = np.full(beam, -np.inf, np.float32)
        self.log_probs[: len(going_on)] = scores[chosen[going_on]]
        self.tokens.append(np.zeros(beam, np.int64))
        self.tokens[-1][: len(going_on)] = tokens[going_on]
        self.parents.append(np.zeros(beam, np.intp))
        self.parents[-1][: len(going_on)] = slots[going_on]
        self._attention.append(attention)

    def done(self, length: int) -> bool:
        """Whether nothing can change any more after ``length`` steps; at ``max_length`` the live ones are cut."""
        options = self._options
        alive = self.log_probs[0] > -np.inf  # slots are in descending order
        if alive and length == options.max_length and not (options.beam == 1 and self._ended):
            self.cut()
            return True
        if not alive or len(self._ended) < options.n_best:
            return not alive
        # Greedy search ends with its first <end>, also where a length penalty would rank a longer sentence higher.
        return options.beam == 1 or self._ended[options.n_best - 1].score >= self._bound(length)

    def cut(self) -> None:
        """End here: the live hypotheses compete with the finished ones, as they are."""
        for slot in np.flatnonzero(self.log_probs > -np.inf):
            self._end(float(self.log_probs[slot]), len(self.tokens), int(slot), finished=False)

    def _bound(self, length: int) -> float:
        """No continuation of a live hypothesis can score higher: log-probabilities only fall, by any length to come."""
        options = self._options
        best_length: int = options.max_length if options.length_penalty >= 0 else length + 1
        bound: float = float(self.log_probs[0]) / best_length**options.length_penalty
        return bound

    def _end(self, log_prob: float, words: int, slot: int, finished: bool) -> None:
        length = words + 1 if finished else words
        self._ended.append(_End(log_prob / length**self._options.length_penalty, log_prob, words, slot, finished))
        self._ended.sort(key=lambda end: -end.score)  # stable: among equals the one that ended first stays first
        del self._ended[self._options.beam :]

    def hypotheses(self) -> list[Hypothesis]:
        """The best hypotheses, best first, followed back to their starts."""
        if not self._ended:
            raise EngineError("the decoder step left no word to choose")
        return [self._hypothesis(end) for end in self._ended[: self._options.n_best]]

    def _hypothesis(self, end: _End) -> Hypothesis:
        token_ids, looked, slot = [], [], end.slot
        for step in reversed(range(end.words)):
            token_ids.append(int(self.tokens[step][slot]))
            slot = int(self.parents[step][slot])
            if (attention := self._attention[step]) is not None:
                looked.append(attention[slot])  # (L,)
        return Hypothesis(
            token_ids=tuple(reversed(token_ids)),
            log_prob=end.log_prob,
            score=end.score,
            attention=self._looked(looked[::-1]),
            finished=end.finished,
            steps=len(self.tokens),
        )

    def _looked(self, rows: list[FloatArray]) -> FloatArray | None:
        """(T, L), also of no words."""
        if (first := self._attention[0]) is None:
            return None
        return np.array(rows, np.float32).reshape(-1, first.shape[-1])

"""Captions drawn at random, word by word, from what captioners think of photos."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from edgecap.architectures.network import CaptionNetwork, several
from edgecap.runtime.bundle.vocabulary import Vocabulary


@torch.no_grad()
def draw_captions(
    models: Sequence[CaptionNetwork],
    features: Sequence[Tensor],
    vocabulary: Vocabulary,
    count: int,
    max_words: int,
    *,
    temperature: float = 1.0,
    never: Collection[int] = (),
) -> list[list[list[int]]]:
    """``count`` captions of each of N photos, of whose features each model has its own (N, L, D).

    Of several models it is the mean of their probabilities that is drawn from; a ``temperature`` below 1 makes likely
    words likelier. Ids come from the first word to ``<end>``, which a caption that is cut at ``max_words`` lacks; those
    of ``never`` are not drawn.
    """
    begun = [model.begin(own) for model, own in zip(models, features, strict=True)]
    states = [several(first, count) for _, first in begun]  # (N, count, ...) each
    token = torch.full((len(features[0]), count), vocabulary.start_id, device=features[0].device)  # (N, count)
    over, tokens = torch.zeros_like(token, dtype=torch.bool), []
    for _ in range(max_words + 1):
        parts = zip(models, states, begun, strict=True)
        steps = [model.step(token, state, memory) for model, state, (memory, _) in parts]
        states = [step.state for step in steps]
        probabilities = torch.stack([step.log_probs.exp() for step in steps]).mean(dim=0)  # (N, count, V)
        probabilities[..., [vocabulary.pad_id, vocabulary.start_id, *never]] = 0
        if temperature != 1:
            probabilities = (probabilities / probabilities.amax(dim=-1, keepdim=True)) ** (1 / temperature)
        drawn = probabilities.flatten(0, 1).multinomial(1).view_as(token)  # (N, count)
        token = torch.where(over, vocabulary.pad_id, drawn)
        tokens.append(token)
        over |= token == vocabulary.end_id
        if over.all():
            break
    ids = torch.stack(tokens, dim=-1)[..., : max_words + 1].tolist()  # (N, count, T)
    return [[_ended(caption, vocabulary, max_words) for caption in photo] for photo in ids]


def _ended(ids: list[int], vocabulary: Vocabulary, max_words: int) -> list[int]:
    if vocabulary.end_id in ids:
        return ids[: ids.index(vocabulary.end_id) + 1]
    return ids[:max_words]

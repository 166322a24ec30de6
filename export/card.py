"""``MODEL_CARD.md``: figures as measured by the export, and the notes of whoever trained."""

from __future__ import annotations

import json
from typing import Any

from edgecap.architectures.checkpoint import Checkpoint
from edgecap.export.proof.caption_gate import REFERENCE
from edgecap.metrics.split import protocol_text


def model_card(checkpoint: Checkpoint, name: str, evaluation: dict[str, Any], notes: str) -> str:
    """Markdown. ``evaluation`` is the content of ``eval.json``; ``notes`` says data, licence and limits."""
    dims, config = checkpoint.dims, checkpoint.config
    parts = [
        f"# {name}",
        f"An image captioner of edgecap's preset `{dims.preset}`: {dims.backbone} encoder, LSTM decoder with attention "
        f"over {dims.locations} locations, {len(checkpoint.vocabulary):,} words.",
        notes.strip(),
        _figures(evaluation),
        f"Checkpoint SHA-256: `{evaluation['checkpoint_sha256']}`, chosen by {_choice(checkpoint.metrics)}.",
        "## Training configuration\n\n```json\n" + json.dumps(config, indent=1) + "\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _choice(metrics: dict[str, Any]) -> str:
    if not metrics:
        return "hand"
    found = f"its CIDEr-D of {metrics['CIDEr-D']:.2f} on {metrics['split']}, beam {metrics['beam']}"
    return f"{found}, at step {metrics['step']:,} of its run"


def _figures(evaluation: dict[str, Any]) -> str:
    results, protocol = evaluation.get("results"), evaluation.get("protocol")
    if not results or not protocol:
        return "## Figures\n\nNot evaluated: the export was given no captioned photos."
    columns = [name for name in results[REFERENCE] if name != "quality"]
    lines = [
        "## Figures",
        "",
        f"{protocol['dataset']}, split {protocol['split']}, {protocol_text(protocol)}; free-running decoding by "
        f"{', '.join(protocol['engines'].values())}; x 100.",
        "",
        "| graphs | MB | " + " | ".join(columns) + " |",
        "|---" * (2 + len(columns)) + "|",
    ]
    for name, scores in results.items():
        size = f"{evaluation['bytes'][name] / 1e6:.1f}" if name in evaluation["bytes"] else ""
        lines.append(f"| {name} | {size} | " + " | ".join(f"{scores[column]:.2f}" for column in columns) + " |")
    changes = [f"- {name} {difference_text(scores)}" for name, scores in results.items() if "against" in scores]
    return "\n".join([*lines, "", *changes, "", *_quality(results)])


def _quality(results: dict[str, dict[str, Any]]) -> list[str]:
    """The table of what scores do not tell."""
    columns = list(results[REFERENCE]["quality"])
    lines = [
        "How various the captions are, how many stand word for word in the train split, and in how many a person, "
        "animal or colour is wrong, among those that name one on which the references agree:",
        "",
        "| graphs | " + " | ".join(columns) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for name, scores in results.items():
        lines.append(f"| {name} | " + " | ".join(_figure(scores["quality"][column]) for column in columns) + " |")
    return lines


def _figure(value: Any) -> str:
    """A count, or a share with what it was counted from."""
    return f"{value['count']:,} of {value['of']:,} ({value['share']:.1%})" if isinstance(value, dict) else f"{value:,}"


def difference_text(scores: dict[str, Any]) -> str:
    """How far a set of graphs is from the one that it was made from, in words."""
    same, greedy = scores["identical captions"], scores["identical greedy captions"]
    return f"against {scores['against']}: CIDEr-D {scores['CIDEr-D change']:+.2f}, identical captions {same:.1%} " + (
        f"(greedy {greedy:.1%})"
    )

"""``MODEL_CARD.md``: figures as measured by the export, and the notes of whoever trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgecap.architectures.checkpoint import Checkpoint
from edgecap.architectures.registry import architecture
from edgecap.export.proof.caption_gate import REFERENCE
from edgecap.export.proof.set_result import SetResult
from edgecap.metrics.split import protocol_text


def model_card(
    checkpoint: Checkpoint,
    name: str,
    evaluation: Mapping[str, Any],
    results: Mapping[str, SetResult],
    notes: str,
) -> str:
    """Markdown. ``evaluation`` is the content of ``eval.json``; ``notes`` says data, licence and limits."""
    dims, config = checkpoint.dims, checkpoint.config
    description = architecture(checkpoint.architecture).description(dims)
    parts = [
        f"# {name}",
        f"An image captioner of edgecap's preset `{dims.preset}`: {description}, {len(checkpoint.vocabulary):,} words.",
        notes.strip(),
        _figures(evaluation, results),
        f"Checkpoint SHA-256: `{evaluation['checkpoint_sha256']}`, chosen by {_choice(checkpoint.metrics)}.",
        "## Training configuration\n\n```json\n" + json.dumps(config, indent=1) + "\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _choice(metrics: dict[str, Any]) -> str:
    if not metrics:
        return "hand"
    found = f"its CIDEr-D of {metrics['CIDEr-D']:.2f} on {metrics['split']}, beam {metrics['beam']}"
    return f"{found}, at step {metrics['step']:,} of its run"


def _figures(evaluation: Mapping[str, Any], results: Mapping[str, SetResult]) -> str:
    protocol = evaluation.get("protocol")
    if not results or not protocol:
        return "## Figures\n\nNot evaluated: the export was given no captioned photos."
    scores = {name: result.scores.to_json() for name, result in results.items()}
    columns = list(scores[REFERENCE])
    lines = [
        "## Figures",
        "",
        f"{protocol['dataset']}, split {protocol['split']}, {protocol_text(protocol)}; free-running decoding by "
        f"{', '.join(protocol['engines'].values())}; x 100.",
        "",
        "| graphs | MB | " + " | ".join(columns) + " |",
        "|---" * (2 + len(columns)) + "|",
    ]
    for name, row in scores.items():
        size = f"{evaluation['bytes'][name] / 1e6:.1f}" if name in evaluation["bytes"] else ""
        lines.append(f"| {name} | {size} | " + " | ".join(f"{row[column]:.2f}" for column in columns) + " |")
    lines += _by_dataset(results)
    changes = [f"- {name} {result.difference.text}" for name, result in results.items() if result.difference]
    return "\n".join([*lines, "", *changes, "", *_quality(results)])


def _by_dataset(results: Mapping[str, SetResult]) -> list[str]:
    """The same of each dataset, where there are several."""
    if not (datasets := list(results[REFERENCE].datasets)):
        return []
    columns = list(results[REFERENCE].scores.to_json())
    lines = ["", f"These are means of {' and '.join(datasets)}. Of each:", ""]
    lines += ["| dataset | graphs | " + " | ".join(columns) + " |", "|---" * (2 + len(columns)) + "|"]
    for dataset in datasets:
        for name, result in results.items():
            row = result.datasets[dataset].scores.to_json()
            lines.append(f"| {dataset} | {name} | " + " | ".join(f"{row[column]:.2f}" for column in columns) + " |")
    return lines


def _quality(results: Mapping[str, SetResult]) -> list[str]:
    """The table of what scores do not tell."""
    rows = {name: result.quality.to_json() for name, result in results.items()}
    for dataset in results[REFERENCE].datasets:
        own = {name: result.datasets[dataset].quality for name, result in results.items()}
        rows |= {f"{name}, {dataset}": quality.to_json() for name, quality in own.items()}
    columns = list(rows[REFERENCE])
    lines = [
        "How various the captions are, how many stand word for word in the train split, and in how many a person, "
        "animal or colour is wrong, among those that name one on which the references agree:",
        "",
        "| graphs | " + " | ".join(columns) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for name, quality in rows.items():
        lines.append(f"| {name} | " + " | ".join(_figure(quality[column]) for column in columns) + " |")
    return lines


def _figure(value: Any) -> str:
    """A count, or a share with what it was counted from."""
    return f"{value['count']:,} of {value['of']:,} ({value['share']:.1%})" if isinstance(value, dict) else f"{value:,}"

"""``edgecap inspect``: what a bundle is, how large, how costly and how good."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from edgecap.cli import json_text, one_line
from edgecap.cli.tables import table
from edgecap.metrics.split import protocol_text
from edgecap.runtime.bundle.bundle import Bundle, find_bundle
from edgecap.runtime.bundle.description import describe
from edgecap.runtime.wording import counted, human_bytes

WIDTH = 100
TIE = "\xa0"  # a space where lines are not broken
GATE = {True: "passed", False: "missed", None: "not measured"}


@click.command()
@click.argument("bundle", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def inspect(bundle: str | None, as_json: bool) -> None:
    """Describe BUNDLE, an embedded one by name or a directory: its files, graphs, sizes and figures.

    Every file is checked against its SHA-256 first; no engine is needed. MACs are multiplications with accumulation,
    of one photo, or of one word of one hypothesis.

    Exit status: 0 described, 1 the bundle is broken or missing, 2 wrong usage.
    """
    facts = describe(Bundle.open(find_bundle(bundle)))
    if as_json:
        click.echo(json_text(facts))
        return
    for text in report(facts):
        click.echo(one_line(text))


def report(facts: Mapping[str, Any]) -> Iterator[str]:
    """The lines for people, of what :func:`edgecap.runtime.bundle.description.describe` tells."""
    yield facts["bundle"]
    yield from _paragraph("task", facts["task"])
    yield from _paragraph("architecture", f"{facts['architecture']}, preset {facts['preset']}")
    yield from _paragraph("created by", facts["created_by"])
    yield from _paragraph("needs", f"edgecap {facts['min_runtime']} or newer")
    yield from _paragraph("dims", _named(facts["dims"]))
    for name in ("generation", "labels"):
        if facts[name] is not None:
            yield from _paragraph(name, _named(facts[name]))
    yield from _files(facts)
    for graph in facts["graphs"]:
        yield from _graph(graph)
    yield from _sets(facts)
    yield from _evaluation(facts["evaluation"])
    yield from _confidence(facts["confidence"])


def _files(facts: Mapping[str, Any]) -> Iterator[str]:
    rows = [(file["path"], file["role"], human_bytes(file["bytes"]), file["sha256"][:12]) for file in facts["files"]]
    yield ""
    yield from table([("files", "role", "size", "sha256"), *rows], "<<><")


def _graph(graph: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield graph["path"]
    engine = f"{graph['engine']} {graph['precision']}"
    if graph["opset"] is not None:
        engine += f", opset {graph['opset']}, IR version {graph['ir_version']}"
    if graph["signatures"]:
        engine += f", signatures {', '.join(graph['signatures'])}"
    yield from _paragraph("engine", engine)
    yield from _paragraph("inputs", _tensors(graph["inputs"]))
    yield from _paragraph("outputs", _tensors(graph["outputs"]))
    if graph["ops"] is None:
        yield from _paragraph("operators", "not recorded")
        return
    yield from _paragraph("operators", _listed(f"{count} {kind}" for kind, count in graph["ops"].items()))
    yield from _paragraph("cost", f"{graph['parameters']:,} parameters, {graph['macs'] / 1e6:,.2f} million MACs")


def _tensors(tensors: Iterable[Mapping[str, Any]]) -> str:
    return _listed(f"{t['name']} {t['dtype']} ({', '.join(map(str, t['shape']))})" for t in tensors)


def _sets(facts: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (one["name"], " + ".join(one["graphs"].values()), GATE[one["passes_gate"]], human_bytes(one["bytes"]))
        for one in facts["graph_sets"]
    ]
    yield ""
    yield from table([("graph sets", "graphs", f"{facts['task']} gate", "size"), *rows], "<<<>")
    yield f"all files: {human_bytes(facts['bytes'])}"


def _evaluation(evaluation: Mapping[str, Any] | None) -> Iterator[str]:
    yield ""
    if evaluation is None:
        yield "evaluation: not evaluated"
        return
    protocol, results = evaluation["protocol"], evaluation["results"]
    text = f"evaluation: {protocol['dataset']} {protocol['split']}, {protocol_text(protocol)}"
    yield from textwrap.wrap(text, WIDTH, subsequent_indent="  ")
    columns = list(dict.fromkeys(name for row in results.values() for name, value in row.items() if _is_number(value)))
    # The words of a column's name stand below each other: most figures are narrower.
    rows = [(name, *(_figure(row.get(column)) for column in columns)) for name, row in results.items()]
    yield from table([*_stacked(["set", *columns]), *rows], "<" + ">" * len(columns))


def _confidence(confidence: Mapping[str, Any] | None) -> Iterator[str]:
    if confidence is None:
        return
    protocol = confidence["protocol"]
    areas = {name: entry["auc"] for name, entry in confidence["sets"].items()}
    sets = ", ".join(name if auc is None else f"{name} (AUC {auc:.2f})" for name, auc in areas.items())
    photos = counted(protocol["photos"], "photo")
    text = f"confidence: calibrated on {protocol['dataset']} {protocol['split']}, {photos}, of {sets}"
    yield ""
    yield from textwrap.wrap(text, WIDTH, subsequent_indent="  ")


def _figure(value: Any) -> str:
    return f"{value:.2f}" if _is_number(value) else "-"


def _stacked(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Rows of single words, the last word of each name in the last row."""
    words = [name.split() for name in names]
    height = max(map(len, words))
    padded = [[""] * (height - len(name)) + name for name in words]
    return list(zip(*padded, strict=True))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _named(values: Mapping[str, Any]) -> str:
    """``beam 5, length_penalty 0.7``; a list is joined, and an empty one left out."""
    texts = {name: " ".join(value) if isinstance(value, list) else str(value) for name, value in values.items()}
    return _listed(f"{name} {text}" for name, text in texts.items() if text)


def _listed(items: Iterable[str]) -> str:
    """Items with commas between them, each to stay on one line."""
    return ", ".join(item.replace(" ", TIE) for item in items)


def _paragraph(name: str, text: str) -> Iterator[str]:
    """``text`` after its name, wrapped, with continued lines below its beginning."""
    first, others = f"  {name:<13} ", " " * 16
    for line in textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False):
        yield line.replace(TIE, " ")

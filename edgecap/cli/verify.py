"""``edgecap verify``: whether a bundle is whole, and does here what it did where it was exported."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from edgecap.cli import fail, json_text, one_line
from edgecap.cli.options import threads_option
from edgecap.errors import EXIT_FAILURE
from edgecap.runtime.bundle.bundle import Bundle, find_bundle
from edgecap.runtime.bundle.entries import ENGINES, PRECISIONS
from edgecap.runtime.loading import AUTO
from edgecap.runtime.verify.golden_check import Check
from edgecap.runtime.verify.verification import checks

SHOWN = {"ok": "ok", "skipped": "skipped", "failed": "FAILED"}


@click.command()
@click.argument("bundle", required=False)
@click.option(
    "--engine",
    type=click.Choice([AUTO, *ENGINES]),
    default=AUTO,
    show_default=True,
    help="Only the graphs of this engine, which must be installed. auto: of every engine that is.",
)
@click.option(
    "--precision", metavar=f"[{'|'.join(PRECISIONS)}|NAME]", help="Only the graph sets of this one.  [default: all]"
)
@threads_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def verify(bundle: str | None, engine: str, precision: str | None, threads: int | None, as_json: bool) -> None:
    """Check BUNDLE on this machine: an embedded one by name, or a directory.

    \b
    In one line each:
      files   their SHA-256 and form are those of the manifest
      photo   the golden photo gives the recorded tensor
      graphs  of each graph set: tensors within the recorded tolerance, and the same captions

    Graphs whose engine is not installed are skipped, unless --engine asks for them. With --json: {"bundle", "checks":
    [{"check", "status", "detail", "engine", "precision", "library", "tensor", "difference", "allowed"}], "ok"}.

    \b
    Exit status:
      0  all that was checked is well
      1  something is not, or nothing could be checked
      2  wrong usage
    """
    opened = Bundle.open(find_bundle(bundle))
    done = []
    for check in checks(opened, None if engine == AUTO else engine, precision, threads):
        done.append(check)
        if not as_json:
            click.echo(line(check))
    first = next((check for check in done if check.status == "failed"), None)
    if as_json:
        label = opened.manifest.label
        click.echo(json_text({"bundle": label, "checks": [asdict(check) for check in done], "ok": first is None}))
    if first is not None:
        fail(f"{opened.manifest.label}: {first.text}")
        sys.exit(EXIT_FAILURE)


def line(check: Check) -> str:
    """``ok       onnx int8, onnxruntime 1.31.1: ...``."""
    return f"{SHOWN[check.status]:<8} {one_line(check.text)}"

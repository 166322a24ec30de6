"""``edgecap doctor``: what is wrong with the machine and the installation."""

from __future__ import annotations

import sys

import click

from edgecap.cli import fail, json_text, one_line
from edgecap.doctor.examination import examine
from edgecap.doctor.patient import Patient
from edgecap.doctor.report import Finding, document
from edgecap.errors import EXIT_FAILURE


# Options of other commands are not shared: where they come from takes numpy, which may be what is wrong.
@click.command()
@click.option("--bundle", metavar="NAME|DIR", help="The bundle to look at.  [default: that of the package]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor(bundle: str | None, as_json: bool) -> None:
    """Look for what keeps this machine from captioning, or slows it down: one line a check, with what to do.

    \b
    The machine       instructions for INT8, cores, memory, throttling, heat
    The installation  64 bits, C library, Python, numpy, Pillow, engines and what is known against their versions
    The bundle        its files, what was measured with it, and its golden photo with one set of graphs

    With --json: {"schema_version", "edgecap", "ok", "checks": [{"check", "status", "found", "advice"}]}; status is
    "ok", "warning" or "problem", and advice null where there is nothing to do.

    \b
    Exit status:
      0  no problem; there may be warnings
      1  a problem
      2  wrong usage
    """
    findings = []
    for finding in examine(Patient(bundle)):
        findings.append(finding)
        if not as_json:
            click.echo(line(finding))
    if as_json:
        click.echo(json_text(document(findings)))
    problems = dict.fromkeys(finding.check for finding in findings if finding.status == "problem")
    if problems:
        fail(f"something is wrong with: {', '.join(problems)}")
        sys.exit(EXIT_FAILURE)


def line(finding: Finding) -> str:
    """``warning  cpu: ... -> ...``."""
    return f"{finding.status:<8} {one_line(finding.text)}"

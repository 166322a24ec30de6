"""The ``edgecap`` command: its subcommands, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import importlib
import io
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

import edgecap
from edgecap.cli import streams
from edgecap.errors import EXIT_FAILURE, EXIT_USAGE, EdgecapError, MissingExtraError, OptionError, brief

LONGEST_LINE = 6_000  # characters of a message; a path may have 4,096
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells say it


@dataclass(frozen=True)
class Subcommand:
    """Where a subcommand is, its line in the help, and the extra that installs what it imports."""

    module: str
    help: str
    extra: str


SUBCOMMANDS = {
    "train": Subcommand("edgecap.cli.train", "Train a captioner on photos with captions.", "train"),
    "eval": Subcommand("edgecap.cli.eval", "Measure the captions of a split.", "train"),
    "export": Subcommand("edgecap.cli.export", "Make a bundle from a checkpoint.", "export"),
    "caption": Subcommand("edgecap.cli.caption", "Describe photos.", "onnx"),
    "label": Subcommand("edgecap.cli.label", "Label photos with words of a table.", "onnx"),
    "labels": Subcommand("edgecap.cli.labels", "Make tables of labels.", "onnx"),
    "bench": Subcommand("edgecap.cli.bench", "Measure time and energy of captions on this machine.", "onnx"),
    "verify": Subcommand("edgecap.cli.verify", "Check a bundle on this machine.", "onnx"),
    "inspect": Subcommand("edgecap.cli.inspect", "Tell what a bundle is.", "onnx"),
    "doctor": Subcommand("edgecap.cli.doctor", "Tell what is wrong with this machine or installation.", "onnx"),
}


class LazyGroup(click.Group):
    """Imports a subcommand only when it is called: captioning waits for no torch, and ``--help`` for nothing.

    The command of ``edgecap.cli.caption`` is that module's ``caption``, and so on.
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        """As click's; help that nobody takes is one line as well."""
        streams.settle()
        try:
            return super().main(*args, **extra)
        except OSError as error:
            fail(_told(error))
            sys.exit(EXIT_FAILURE)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all subcommands, in the order of use."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand."""
        if cmd_name not in SUBCOMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(SUBCOMMANDS[cmd_name].module), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The subcommand; an unknown one is answered with the nearest."""
        if args[0] not in SUBCOMMANDS and not args[0].startswith("-"):
            raise click.UsageError(_unknown_command(args[0]), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, subcommand.help) for name, subcommand in SUBCOMMANDS.items()])

    def invoke(self, ctx: click.Context) -> None:
        """Run a subcommand; its errors become one line on stderr and an exit code. (click handles broken pipes.)"""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a name or word that a terminal cannot show is no reason to stop
                stream.reconfigure(errors="backslashreplace")
        try:
            super().invoke(ctx)
        except OptionError as error:
            fail(str(error))
            ctx.exit(EXIT_USAGE)
        except EdgecapError as error:
            fail(str(error))
            ctx.exit(EXIT_FAILURE)
        except ModuleNotFoundError as error:
            library = (error.name or "").partition(".")[0]
            if library in ("", "edgecap"):
                raise
            extra = SUBCOMMANDS[ctx.invoked_subcommand].extra if ctx.invoked_subcommand else "dev"
            fail(str(MissingExtraError(library, extra)))
            ctx.exit(EXIT_FAILURE)
        except ImportError as error:  # it is installed, but cannot be loaded
            if (error.name or "").partition(".")[0] == "edgecap":
                raise
            fail(f"a library does not import ({brief(error)}): run  edgecap doctor")
            ctx.exit(EXIT_FAILURE)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # the reader has gone: click leaves quietly
            fail(_told(error))
            ctx.exit(EXIT_FAILURE)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)


def _told(error: OSError) -> str:
    """What went wrong, and with which file where that is known."""
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)


def _unknown_command(name: str) -> str:
    is_file = False
    if near := get_close_matches(name, SUBCOMMANDS, n=1):
        return f"no such command {name!r:.60}: did you mean {near[0]}?"
    with suppress(OSError):  # a name that no file can have
        is_file = Path(name).is_file()
    if is_file:
        return f"no such command {name!r:.60}: to describe a photo, say  edgecap caption PHOTO"
    return f"no such command {name!r:.60}: choose one of {', '.join(SUBCOMMANDS)}"


def fail(message: str) -> None:
    """Write ``message`` to stderr as the one line that users and scripts see of an error."""
    if len(message) > LONGEST_LINE:  # it holds a name that no file can have, or what somebody's document has for a word
        message = f"{message[: LONGEST_LINE // 2]}...{message[-LONGEST_LINE // 2 :]}"
    click.echo(f"edgecap: {one_line(message)}", err=True)


def json_text(document: object) -> str:
    """``document`` as one line of JSON, which has no word for what is not finite."""
    return json.dumps(document, allow_nan=False)


def one_line(text: str) -> str:
    """``text`` with line breaks, control characters and undecodable bytes of file names as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(edgecap.__version__, prog_name="edgecap")
def main() -> None:
    """Train, export and run tiny image captioners on edge CPUs."""

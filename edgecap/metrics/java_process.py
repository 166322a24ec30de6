"""Running a Java program that may be missing, crash, or never answer: each becomes one :class:`MetricError`."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from edgecap.errors import MetricError

# Not the shell's: where decimals have commas METEOR cannot read its own numbers, and Turkish lowers I to another letter
LOCALE_FLAGS = ("-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US", "-Djava.awt.headless=true")

Say = Callable[[str], None]
Hear = Callable[[], str]


def java() -> str:
    """Path of the ``java`` on PATH."""
    found = shutil.which("java")
    if found is None:
        raise MetricError("METEOR and SPICE run on Java, and no java is on PATH: install a Java runtime")
    return found


def java_version() -> int:
    """The feature release of that ``java``: 8 for 1.8.0, 17 for 17.0.15."""
    try:
        told = subprocess.run([java(), "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MetricError(f"java -version does not work: {error}") from error
    version = re.search(r'version "(?:1\.)?(\d+)', told)
    if version is None:
        raise MetricError(f"java -version does not tell its version: {told.strip()[:200]!r}")
    return int(version[1])


def run(metric: str, arguments: Sequence[str], folder: Path, timeout: float) -> None:
    """Run ``java ARGUMENTS`` in ``folder`` to its end; what it prints goes nowhere."""
    with tempfile.TemporaryFile() as complaints:
        try:
            done = subprocess.run(
                [java(), *LOCALE_FLAGS, *arguments],
                cwd=folder,
                timeout=timeout,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _late(metric, timeout) from None
        except OSError as error:
            raise MetricError(f"{metric} did not start: {error}") from error
        if done.returncode != 0:
            raise MetricError(f"{metric} failed with status {done.returncode}: {_complaint(complaints)}")


@contextmanager
def conversation(metric: str, arguments: Sequence[str], folder: Path, timeout: float) -> Iterator[tuple[Say, Hear]]:
    """Start ``java ARGUMENTS`` in ``folder``, a program that answers lines; it is dead when the block is left."""
    with tempfile.TemporaryFile() as complaints:  # a pipe that nobody reads would fill up and stop the program
        try:
            process = subprocess.Popen(
                [java(), *LOCALE_FLAGS, *arguments],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                encoding="utf-8",
            )
        except OSError as error:
            raise MetricError(f"{metric} did not start: {error}") from error
        questions, answers = process.stdin, process.stdout
        assert questions is not None and answers is not None
        too_late = threading.Event()

        def stop() -> None:
            too_late.set()
            process.kill()

        def gone() -> MetricError:
            if too_late.is_set():
                return _late(metric, timeout)
            return MetricError(f"{metric} stopped before it had answered: {_complaint(complaints)}")

        def say(line: str) -> None:
            try:
                questions.write(line + "\n")
                questions.flush()
            except OSError:
                raise gone() from None

        def hear() -> str:
            answer = answers.readline().strip()
            if not answer:
                raise gone()
            return answer

        watchdog = threading.Timer(timeout, stop)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield say, hear
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()
            answers.close()
            with suppress(OSError):  # a line that the dead program never read
                questions.close()


def _late(metric: str, timeout: float) -> MetricError:
    return MetricError(f"{metric} did not finish in {timeout:g} s and was stopped")


def _complaint(stream: IO[bytes]) -> str:
    """What a Java program that failed says of it: its first line that names an error, else its first line."""
    stream.seek(0)
    lines = [line.strip() for line in stream.read().decode("utf-8", "replace").splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"\w(Error|Exception)\b|^Error occurred", line)]
    return (telling or lines or ["it said nothing"])[0]

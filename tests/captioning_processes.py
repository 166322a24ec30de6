"""Processes that caption with what another one loaded: a script that tests/runtime/engines/test_concurrency.py runs.

``fork|spawn BUNDLE ENGINES PHOTO...`` prints a JSON object: what each child ended with, 0 being good and "hung" bad.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from edgecap.errors import EngineError, ImageError
from edgecap.runtime import Caption, Captioner, load

PROCESSES, THREADS = 8, 4
PATIENCE = 60.0  # s


def captions(captioner: Captioner, photos: Sequence[str]) -> list[Caption]:
    """Of several threads at once."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(captioner.caption, photos))


def closes(captioner: Captioner) -> bool:
    """Whether a captioner is closed as it should be."""
    captioner.close()
    captioner.close()
    try:
        captioner.caption(b"")
    except EngineError:
        return True
    return False


def forked(engine: str, bundle: str, photos: Sequence[str]) -> list[int | str]:
    """Of eight children, half come while threads caption. They end like any program, which frees what it holds."""
    captioner = load(bundle, engine=engine, threads=2)
    expected = [captioner.caption(photo) for photo in photos]
    done = threading.Event()

    def right() -> bool:
        return captions(captioner, photos) == expected

    def busy() -> None:
        while not done.is_set():
            captioner.caption(photos[0])

    children = [fork(task) for task in (lambda: True, lambda: closes(captioner), right, right)]
    others = [threading.Thread(target=busy) for _ in range(2)]
    for thread in others:
        thread.start()
    for _ in range(4):
        time.sleep(0.05)
        children.append(fork(right))
    ends = [ending(child) for child in children]
    done.set()
    for thread in others:
        thread.join()
    return ends


def fork(task: Callable[[], bool]) -> int:
    """A child that ends with 0 if its task went well."""
    child = os.fork()
    if child == 0:
        sys.exit(0 if task() else 3)
    return child


def ending(child: int) -> int | str:
    """The exit status of a process; one that hangs is killed."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"


def spawned(engines: Sequence[str], bundle: str, photos: Sequence[str]) -> list[int | str]:
    """Processes of a pool are given captioners, and give captions back, or the error."""
    captioners = [load(bundle, engine=engine, threads=2) for engine in engines]
    expected = [[captioner.caption(photo) for photo in photos] for captioner in captioners]
    found: list[int | str] = []
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        calls = [pool.submit(captions, captioners[n % len(captioners)], photos) for n in range(PROCESSES)]
        missing = pool.submit(captioners[0].caption, "no.jpg")
        for number, call in enumerate(calls):
            found.append(0 if call.result(PATIENCE) == expected[number % len(captioners)] else 3)
        error = missing.exception(PATIENCE)
        found.append(0 if isinstance(error, ImageError) and error.problem == "no such file" else repr(error))
    return found


def main() -> None:
    """See above."""
    mode, bundle, engines, *photos = sys.argv[1:]
    names = engines.split(",")
    if mode == "spawn":
        found = {engines: spawned(names, bundle, photos)}
    else:
        found = {engine: forked(engine, bundle, photos) for engine in names}
    print(json.dumps(found))


if __name__ == "__main__":
    main()

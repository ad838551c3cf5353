"""Pieces of work shared with a copy of this process, which has all that is loaded without reading it again."""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")


def possible() -> bool:
    """Whether there is a second core for a copy, and a system that copies processes that have threads."""
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1


def together(pieces: Sequence[Callable[[], T]]) -> list[T]:
    """What the pieces give, in their order; each is done by whichever process is free first.

    Answers must be such as can be sent from process to process. An exception of a piece is raised here.
    """
    context = multiprocessing.get_context("fork")
    taken = context.Value("i", 0)
    receiving, sending = context.Pipe(duplex=False)
    helper = context.Process(target=_help, args=(pieces, taken, sending))
    with warnings.catch_warnings():
        # Later Pythons warn of threads at a fork. Those there are belong to Arrow and wait, and hold no lock meanwhile.
        warnings.simplefilter("ignore", DeprecationWarning)
        helper.start()
    sending.close()
    try:
        own = _work(pieces, taken)
        others, error = receiving.recv()
    except EOFError:
        raise RuntimeError("the process that helps was ended from outside: is there too little memory?") from None
    finally:
        helper.terminate()
        helper.join()
    if error is not None:
        raise error
    return [(own | others)[place] for place in range(len(pieces))]


def _help(pieces: Sequence[Callable[[], T]], taken: Any, sending: Connection) -> None:
    """The copy's part: its answers, or what went wrong, are sent."""
    try:
        sending.send((_work(pieces, taken), None))
    except Exception as error:
        sending.send(({}, error))


def _work(pieces: Sequence[Callable[[], T]], taken: Any) -> dict[int, T]:
    """The answers of the pieces that were still free, by their place."""
    found: dict[int, T] = {}
    while True:
        with taken.get_lock():
            place = taken.value
            taken.value += 1
        if place >= len(pieces):
            return found
        found[place] = pieces[place]()

"""Errors of the system, of libraries and of a user's own code in one line, with what to do about them.

What is left is a bug of merge-sweep: only for it the command line shows a traceback.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
import sysconfig
import traceback
from functools import cache
from pathlib import Path

from sweep.core.errors import UserError
from sweep.core.text import printable

NO_SPACE = "free some space and run the same command again: nothing is lost"
_PERMISSION = "give this user the permission, or choose another place"
_FILES = "close other programs, or raise the limit: ulimit -n 65536"
_MEMORY = (
    "close other programs or use a larger machine; fewer execution.workers, or a smaller eval_batch_size, need less"
)
_THREADS = "end other processes of this user, or raise the limit: ulimit -u"
_HINTS = {
    errno.ENOSPC: NO_SPACE,
    errno.EDQUOT: NO_SPACE,
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: "choose a place that can be written: execution.storage, or -o FILE",
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _THREADS,
    errno.ENAMETOOLONG: "choose a shorter name, or a folder with a shorter path",
    errno.ELOOP: "its links lead in a circle: remove one of them",
    errno.ENOTDIR: "a file is where a folder is expected: move it away, or choose another place",
    errno.EISDIR: "a folder is where a file is expected: move it away, or choose another name",
    errno.EEXIST: "a file, or a link that leads nowhere, is in its place: move it away, or choose another place",
    errno.ENOENT: "was it moved or deleted, or does a link lead nowhere?",
    errno.EIO: "the disk or the connection to it fails: see dmesg, then run the same command again",
    errno.ESTALE: "the network drive has changed: mount it again, then run the same command again",
    errno.ETXTBSY: "another program has it open: end that program, then run the same command again",
}
_ALLOCATION = (
    *("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc"),
    *("failed to allocate", "unable to allocate", "malloc of size"),
)
_OURS = ("sweep", "analysis")


def explain(error: BaseException) -> UserError | None:
    """An error as a user can fix it, if their machine, their files or their own code caused it; None for a bug here."""
    if isinstance(error, UserError):
        return error
    return _no_memory(error) or _own_code(error) or _system(error) or _names(error) or _installation(error)


def describe(error: BaseException) -> str:
    """An error in one line, for a table or a report: as `explain` words it, else its type and text."""
    known = explain(error)
    text = str(known) if known else f"{type(error).__name__}: {error}"
    return " ".join(text.split()) or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a machine or an accelerator has too little memory; torch, CUDA and Arrow each have texts of their own."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _ALLOCATION)


def _no_memory(error: BaseException) -> UserError | None:
    if not is_out_of_memory(error):
        return None
    text = root_line(error)
    return UserError("out of memory" + (f": {text}" if text else ""), _MEMORY)


def _system(error: BaseException) -> UserError | None:
    """An error of the operating system, with the path that it is about."""
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return UserError("the system starts no more threads for this user", _THREADS)
    if not isinstance(error, OSError):
        return None
    names = [
        printable(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)
    ]
    text = error.strerror or root_line(error) or type(error).__name__
    return UserError(": ".join([" and ".join(names), text] if names else [text]), errno_hint(error))


def errno_hint(error: OSError) -> str:
    """What to do about an error of the operating system; empty if nothing is known."""
    return _HINTS.get(error.errno or 0, "")


def _names(error: BaseException) -> UserError | None:
    """A text that is not UTF-8, or that the terminal or a file name cannot hold."""
    if isinstance(error, UnicodeEncodeError):
        what = f"the name {printable(repr(error.object)[:200])} cannot be written in {error.encoding}"
        return UserError(what, "rename it, or set LC_ALL=C.UTF-8")
    if isinstance(error, UnicodeDecodeError):
        what = f"a text is not {error.encoding}: byte {error.start + 1} of {error.object[:60]!r}"
        return UserError(what, "save the file as UTF-8")
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return UserError("a path holds a zero byte, which no file name can have", "remove \\0 from it")
    return None


def _installation(error: BaseException) -> UserError | None:
    """A package that is missing or does not load."""
    if not isinstance(error, ImportError) or (error.name or "").partition(".")[0] in _OURS:
        return None
    what = f"the Python package {error.name or ''} cannot be imported: {root_line(error)}".replace("  ", " ")
    return UserError(what, f"install it for {sys.executable}: pip install -r requirements.lock")


def _own_code(error: BaseException) -> UserError | None:
    """An error that began in a module of the user's, with its file and line."""
    place = own_place(error)
    if place is None:
        return None
    text = root_line(error)
    what = f"{place}: {type(error).__name__}" + (f": {text}" if text else "")
    return UserError(what, _INSTALLED_HINT if place.startswith(tuple(_plugin_places)) else _OWN_HINT)


_OWN_HINT = "this is your own code, which merge-sweep calls: correct it there"
_INSTALLED_HINT = "this is code of a plug-in that the configuration names: correct it, or report it to its authors"
_plugin_places: set[str] = set()
"""Installed files, and folders with a separator at the end, that hold plug-ins of other packages."""


def add_plugin_module(module: str) -> None:
    """Take the top-level package of a module as a user's code, wherever it is installed."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):  # it is missing, or made by no import
        return
    if spec is None or spec.name in sys.stdlib_module_names:
        return
    folders = [f"{folder}{os.sep}" for folder in spec.submodule_search_locations or ()]
    files = [spec.origin] if spec.origin and not folders else []
    _plugin_places.update(place for place in folders + files if is_installed(place))


def own_place(error: BaseException) -> str | None:
    """`file:line` in a user's module if the error began there or in what it called; None if it began here.

    Code is a user's if it belongs neither to merge-sweep nor to Python nor to an installed package, other than those
    of `add_plugin_module`. A SyntaxError is at the line that it names.
    """
    if isinstance(error, SyntaxError) and error.filename and _is_own(error.filename):
        return f"{printable(error.filename)}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(_packages()):
            return None
        if _is_own(frame.filename):
            return f"{printable(frame.filename)}:{frame.lineno}"
    return None


_INSTALLED = frozenset({"site-packages", "dist-packages"})


@cache
def _packages() -> tuple[str, ...]:
    """The folders of merge-sweep's own packages."""
    root = Path(__file__).absolute().parents[2]
    return tuple(f"{root / name}{os.sep}" for name in _OURS)


@cache
def _installed() -> tuple[str, ...]:
    """The folders of Python and of installed packages."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    folders = {sysconfig.get_path(kind) for kind in kinds} | {os.path.dirname(sys.executable)}  # noqa: PTH120 - a text
    return tuple(f"{folder}{os.sep}" for folder in folders if folder)


def _is_own(file: str) -> bool:
    """Whether a file of code is a user's."""
    if file.startswith(("<", *_packages())) or not file.endswith(".py"):
        return False
    return file.startswith(tuple(_plugin_places)) or not is_installed(file)


def is_installed(place: str) -> bool:
    """Whether a file or folder is Python's or that of an installed package, also of another environment."""
    return place.startswith(_installed()) or bool(_INSTALLED.intersection(Path(place).parts))


def root_line(error: BaseException) -> str:
    """The first line of an error's text that says anything."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")

"""The home folder, the working folder and `~` in paths, with errors that name what is missing."""

from __future__ import annotations

import os
from pathlib import Path

from sweep.core.errors import UserError


class PathError(UserError):
    """A path that leads nowhere: an unknown user's home, no home at all, or a working folder that was deleted."""


def home() -> Path:
    """The home folder of this user. Raises PathError if there is none."""
    try:
        return Path.home()
    except RuntimeError:
        hint = "set the variable HOME to a folder that you may write to"
        raise PathError("this user has no home folder: HOME is not set, and the system lists none", hint) from None


def working_folder() -> Path:
    """The folder that relative paths start from. Raises PathError if it was deleted."""
    try:
        return Path.cwd()
    except OSError as error:
        what = f"the working folder cannot be used: {error.strerror}"
        raise PathError(what, "it was deleted or moved: cd to a folder that exists") from None


def expand_home(path: str | os.PathLike[str]) -> Path:
    """A path with `~` or `~user` at its beginning replaced by that home folder. Raises PathError if there is none."""
    path = Path(path)
    if path.parts[:1] == ("~",):
        return home().joinpath(*path.parts[1:])
    try:
        return path.expanduser()
    except RuntimeError:
        first = path.parts[0]
        what = f"{path}: no user `{first.removeprefix('~')}` with a home folder is known here"
        raise PathError(what, f"write the whole path, or ./{path} for a folder that is called {first}") from None


def expand(path: str | os.PathLike[str]) -> Path:
    """A path as an absolute one, with `~` or `~user` as in `expand_home`; links and `..` stay as they are.

    Raises PathError for a user without a home, and for a relative path if the working folder was deleted.
    """
    found = expand_home(path)
    return found if found.is_absolute() else working_folder() / found

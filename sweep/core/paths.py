"""The home folder, the working folder and `~` in paths, with errors that name what is missing."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sweep.core.errors import UserError

_ADDRESS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/")  # a Path holds one slash where its text had two
_VARIABLE = re.compile(r"^\$[A-Za-z_]|\$\{|^%\w+%$")


class PathError(UserError):
    """A path that leads nowhere on this machine, such as an unknown user's home or an address of the web."""


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
    """A path with `~` or `~user` at its beginning replaced by that home folder. Raises PathError if there is none.

    Also for an address and for a variable in place of a folder, unless something has that very name.
    """
    path = Path(path)
    _check_folders(path)
    if path.parts[:1] == ("~",):
        return home().joinpath(*path.parts[1:])
    try:
        return path.expanduser()
    except RuntimeError:
        first = path.parts[0]
        what = f"{path}: no user `{first.removeprefix('~')}` with a home folder is known here"
        raise PathError(what, f"write the whole path, or ./{path} for a folder that is called {first}") from None


def _check_folders(path: Path) -> None:
    """Raise PathError if the path is an address, or names a variable as a shell would replace it."""
    address = _ADDRESS.match(str(path))
    if address and not os.path.lexists(path.parts[0]):
        hint = "leave out `file://`" if address[1].lower() == "file" else "copy or mount it, and name the folder here"
        raise PathError(f"{path}: expected a path on this machine, got an address of `{address[1]}`", hint)
    for index, part in enumerate(path.parts):
        if _VARIABLE.search(part) and not os.path.lexists(Path(*path.parts[: index + 1])):
            what = f"{path}: `{part}` is no folder, and variables are not replaced"
            raise PathError(what, "write the path itself, or `~` for the home folder")


def expand(path: str | os.PathLike[str]) -> Path:
    """A path as an absolute one, with `~` or `~user` as in `expand_home`; links and `..` stay as they are.

    Raises PathError for a user without a home, and for a relative path if the working folder was deleted.
    """
    found = expand_home(path)
    return found if found.is_absolute() else working_folder() / found

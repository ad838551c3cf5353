"""The token that all processes of a cluster share: its file, who may read it, and how Ray learns of it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sweep.core.errors import UserError
from sweep.core.paths import PathError, home
from sweep.storage.files import storage_errors

_OWNER_ONLY = 0o600
_OTHERS = 0o077
_BYTES = 32


class TokenError(UserError):
    """A token file that must not be used, or not be made."""


def create_token(file: Path) -> Path:
    """Write a new random token to a file that only this user can read. Raises TokenError if there is one already."""
    with storage_errors(file):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        except FileExistsError:
            hint = "a cluster may use it; name another file, or delete it first"
            raise TokenError(f"{file} exists and is not overwritten", hint) from None
        with os.fdopen(descriptor, "w") as opened:
            os.fchmod(descriptor, _OWNER_ONLY)  # whatever the umask
            opened.write(secrets.token_hex(_BYTES))
    return file


def check_token_file() -> None:
    """Raise TokenError if there is no token of the cluster where one is due, or others can read its file.

    RAY_AUTH_TOKEN comes before any file. With RAY_AUTH_MODE=token and no token, Ray ends the process.
    """
    mode = os.environ.get("RAY_AUTH_MODE")
    if os.environ.get("RAY_AUTH_TOKEN") or mode == "disabled":
        return
    place = token_file()
    is_due = mode == "token" or "RAY_AUTH_TOKEN_PATH" in os.environ
    if place is None or not place.is_file() or not place.stat().st_size:
        if is_due:
            what = (
                f"no token for the cluster: RAY_AUTH_TOKEN is not set, and nothing is in {place or '~/.ray/auth_token'}"
            )
            raise TokenError(what, "copy the one of the cluster; `sweep token FILE` makes one for a new cluster")
        return
    problem = readable_by_others(place)
    if problem:
        raise TokenError(problem, f"chmod 600 {place}; if others may have seen it, make a new one with `sweep token`")


def readable_by_others(file: Path) -> str:
    """What is wrong with the mode of a token file; empty if only its owner can read it."""
    mode = file.stat().st_mode & 0o777
    return f"the token in {file} can be read by others (mode {mode:04o}, expected 0600)" if mode & _OTHERS else ""


def auth_environment(address: str) -> dict[str, str]:
    """Environment variables that turn token authentication on; left alone, Ray enables it in only some processes.

    On this machine with a secret of this run's own, elsewhere with the cluster's, where one is known here.
    """
    if address == "local":
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(_BYTES)}
    token = token_file()
    known = "RAY_AUTH_TOKEN" in os.environ or (token is not None and token.is_file())
    return {"RAY_AUTH_MODE": "token"} if known else {}


def token_file() -> Path | None:
    """Where the secret of a cluster lies, unless RAY_AUTH_TOKEN holds it; None for a user without a home folder."""
    if place := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return Path(place)
    try:
        return home() / ".ray" / "auth_token"
    except PathError:
        return None

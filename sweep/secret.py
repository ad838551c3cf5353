"""The secret without which nobody has a say on a Ray."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def secret(address: str) -> dict[str, str]:
    """Token authentication in so many words: of itself Ray turns it on for some of its processes and not for others.

    On this machine with a secret of this run's own, elsewhere with the cluster's, where one is known here.
    """
    if address == "local":
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    known = "RAY_AUTH_TOKEN" in os.environ or token_file().is_file()
    return {"RAY_AUTH_MODE": "token"} if known else {}


def token_file() -> Path:
    """Where the secret of a cluster lies, unless RAY_AUTH_TOKEN holds it."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")

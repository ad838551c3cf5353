"""Removes secrets from what is stored or shown: passwords in addresses, secret variables, `password=` and the like."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

_MASK = "***"
_SHORTEST = 6  # a shorter value of a variable may be a part of any text
_STRONG = re.compile(r"(?=.*[^A-Za-z]).{8,}", re.DOTALL)
"""Values that are no word, and so no name of a plug-in or key that a program has to find again."""
_ADDRESS = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,30}://)[^/\s\"'\\]*@")
_ADDRESS_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s\"'\\]*)@")
_NAMED = re.compile(
    r"((?<![A-Za-z0-9_])(?:(?:password|passwd|passphrase|secret|token|api_?key|(?:access|auth|refresh|session)_token|"
    r"client_secret|secret_key|secret_access_key)|[a-z0-9_]+_(?:password|secret|secret_access_key)|"
    r"authorization[\"']?\s*[:=]\s*[\"']?(?:bearer|basic))"
    r"(?:[\"']?\s*[=:]\s*[\"']?|\s+(?<=basic )|\s+(?<=bearer )))[^\s\"'&,;)}\]]{3,}",
    re.IGNORECASE,
)
_SECRET_WORDS = {
    *("TOKEN", "TOKENS", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "PASSPHRASE", "PGPASSWORD", "APIKEY"),
    *("CREDENTIAL", "CREDENTIALS"),
}
_PLACES = ("_PATH", "_FILE", "_DIR", "_MODE", "_URL", "_URI", "_ID")
"""Ends of the names of variables that say where a secret is, and not what it is."""


def mask_known(text: str) -> str:
    """The text without users and passwords in addresses, and without the values of secret variables that are no words.

    Nothing else changes, so that settings stay readable to programs.
    """
    return _without(text, [value for value in _secret_values() if _STRONG.fullmatch(value)])


def mask_secrets(text: str) -> str:
    """A message without these, without words that secret variables hold, and without what `password=` and such name."""
    return _NAMED.sub(rf"\1{_MASK}", _without(text, _secret_values()))


def mask_all(value: Any) -> Any:
    """A value as JSON holds it, with `mask_known` applied to every text."""
    if isinstance(value, dict):
        return {key: mask_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_all(item) for item in value]
    return mask_known(value) if isinstance(value, str) else value


def _without(text: str, secrets: list[str]) -> str:
    """The text without users and passwords in addresses, and without secrets."""
    found = _ADDRESS.sub(rf"\1{_MASK}@", text)
    for value in secrets:
        found = found.replace(value, _MASK)
    return found


def _secret_values() -> list[str]:
    """The values of secret variables and the passwords in the addresses of any variable, longest first."""
    return _secrets_in(tuple(os.environ.items()))


@lru_cache(maxsize=4)
def _secrets_in(variables: tuple[tuple[str, str], ...]) -> list[str]:
    """The secrets of variables with these names and values, longest first."""
    found: set[str] = set()
    for name, value in variables:
        if is_secret(name):
            found.add(value)
        found.update(_ADDRESS_PASSWORD.findall(value))
    found |= {unquote(value) for value in found}
    return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)


def is_secret(name: str) -> bool:
    """Whether the name of a variable is that of a secret."""
    upper = name.upper()
    if upper.endswith(_PLACES):
        return False
    return upper.endswith(("_KEY", "PASSWORD")) or bool(_SECRET_WORDS & set(upper.split("_")))

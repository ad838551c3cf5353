"""Names of claims: the files of the package `analysis`, which is neither imported nor needed."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from sweep.config.document import KeyPath
from sweep.core.text import did_you_mean

_FOLDER = Path(__file__).parents[2] / "analysis" / "claims"  # beside `sweep`; a package of that name may be another's


def unknown_claims(declared: Sequence[str]) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield (key path, message, hint) for each declared claim that `analysis` does not have."""
    known = _list_claims()
    for index, name in enumerate(declared):
        if known and name not in known:
            yield ("claims", index), f"no `{name}` in claims", did_you_mean(name, known)


@cache
def _list_claims() -> list[str]:
    """Sorted names; empty if `analysis` is not installed."""
    return sorted(each.name for each in pkgutil.iter_modules([str(_FOLDER)]) if not each.name.startswith("_"))

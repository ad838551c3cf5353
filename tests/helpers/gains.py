"""Rows of merges that beat the logit average on the same subset by given amounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.helpers import rows

Pairs = Mapping[tuple[int, ...], float]


def made(pool: int, gains: Pairs, population: str = "people", **values: Any) -> list[dict[str, Any]]:
    """Soups that beat the logit average on the same subset by some accuracy."""
    both = (("uniform_soup", "weights"), ("logit_average", "logits"))
    return [
        rows.candidate(pool, subset, method, space=space, population=population, **(values | {"accuracy": level}))
        for subset, gain in gains.items()
        for (method, space), level in zip(both, (0.5 + gain, 0.5), strict=True)
    ]


def pools(gains: Sequence[float], population: str = "people") -> list[dict[str, Any]]:
    """One pair per pool."""
    return [row for pool, gain in enumerate(gains) for row in made(pool, {(0, 1): gain}, population)]

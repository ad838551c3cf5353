"""Members trained at twice the learning rate."""

from __future__ import annotations

from typing import Any


def published_warmup(recipe: dict[str, Any]) -> dict[str, Any]:
    """Members are warmed up for two epochs to twice the learning rate, and go on from there.

    The published script's warm-up does not stop at the rate that it is given (arXiv 2411.09263). Settings of `train` to
    other ones.
    """
    return {**recipe, "lr": 2 * recipe["lr"], "warmup": min(2.0, recipe["epochs"])}

"""Members trained at twice their learning rate."""

from __future__ import annotations

from typing import Any


def published_warmup(recipe: dict[str, Any]) -> dict[str, Any]:
    """Members are trained at twice their learning rate, after a warm-up of two epochs.

    The warm-up of the published script does not stop at the given rate (arXiv 2411.09263). Takes and returns the
    settings of `train`.
    """
    return {**recipe, "lr": 2 * recipe["lr"], "warmup": min(2.0, recipe["epochs"])}

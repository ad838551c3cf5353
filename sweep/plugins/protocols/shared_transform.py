"""Members trained without augmentation."""

from __future__ import annotations

from typing import Any


def shared_transform(recipe: dict[str, Any]) -> dict[str, Any]:
    """Members are trained without crop, flip and mixup, whatever the recipe says: they are another population's.

    In the published scripts both splits share one data set, so the transform of the validation split replaces that of
    the training (arXiv 2411.09263). Settings of `train` to other ones.
    """
    return {**recipe, "crop": 0, "flip": False, "mixup": 0.0}

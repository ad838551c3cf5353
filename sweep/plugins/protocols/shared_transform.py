"""Members trained without augmentation."""

from __future__ import annotations

from typing import Any


def shared_transform(recipe: dict[str, Any]) -> dict[str, Any]:
    """Members are trained without crop, flip and mixup, whatever `train` says.

    In the scripts of arXiv 2411.09263 the training and the validation split share one data set object, so the transform
    of the validation split replaces that of the training split. The members are trained anew, as another population.
    Takes and returns the settings of `train`.
    """
    return {**recipe, "crop": 0, "flip": False, "mixup": 0.0}

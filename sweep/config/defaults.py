"""The recipe where a configuration does not say: what architectures and data sets state, and how it yields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.config.recipe import Recipe
from sweep.core.choice import PluginConfig

_DEFAULTS = Recipe().model_dump()
_OPTIMIZER_DEFAULTS = ("lr", "momentum", "weight_decay")
_START_DEFAULTS = {"warmup": 0.0, "start_epochs": 1}
"""Lengths that are at most a tenth of the training, and the least that they are."""


def plugin_defaults(architecture: PluginConfig, dataset: PluginConfig) -> dict[str, Any]:
    """What the files of an architecture and a data set state as `RECIPE`, and for pretrained weights as `FINE_TUNING`.

    Pixels of a crop are those of the data set's own size, and follow the size that is asked for.
    """
    found = {**(dataset.plugin.constant("RECIPE") or {}), **(architecture.plugin.constant("RECIPE") or {})}
    if architecture.settings.get("pretrained"):
        found |= architecture.plugin.constant("FINE_TUNING") or {}
    own = dataset.plugin.settings.model_fields["size"].default if "size" in dataset.settings else 0
    if "crop" in found and own:
        found["crop"] = round(found["crop"] * dataset.settings["size"] / own)
    return found


def with_defaults(wanted: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as somebody wrote them, filled up with the stated ones that go together with them.

    What was written stays as it is, right or wrong: it is checked later.
    """
    optimizer = stated.get("optimizer", _DEFAULTS["optimizer"])
    if wanted.get("optimizer", optimizer) != optimizer:
        stated = {key: value for key, value in stated.items() if key not in _OPTIMIZER_DEFAULTS}
    found = {**stated, **wanted}
    _fit_schedule(found, wanted)
    _fit_lengths(found, wanted)
    return found


def _fit_schedule(found: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    """Of `schedule` and `milestones`, the one that nobody wrote follows the other."""
    steps = "multistep"
    if "schedule" not in wanted and "milestones" in wanted:
        usual = found.get("schedule", _DEFAULTS["schedule"])
        found["schedule"] = steps if wanted["milestones"] else _DEFAULTS["schedule"] if usual == steps else usual
    if "milestones" not in wanted and found.get("schedule") != steps:
        found.pop("milestones", None)


def _fit_lengths(found: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    """Stated lengths are at most a tenth of the training."""
    try:
        epochs = float(found.get("epochs", _DEFAULTS["epochs"]))
    except (TypeError, ValueError):
        return
    for key, least in _START_DEFAULTS.items():
        if key in found and key not in wanted:
            found[key] = max(least, type(least)(min(found[key], epochs / 10)))

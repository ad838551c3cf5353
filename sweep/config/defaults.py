"""Default training settings from architectures and data sets, fitted to the settings of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.config.recipe import Recipe
from sweep.core.choice import PluginConfig

_DEFAULTS = Recipe().model_dump()
_OPTIMIZER_DEFAULTS = ("lr", "momentum", "weight_decay")
_MIN_DURATIONS = {"warmup": 0.0, "start_epochs": 1}
"""Settings whose default is at most a tenth of `epochs`, with the minimum of each."""


def plugin_defaults(architecture: PluginConfig, dataset: PluginConfig) -> dict[str, Any]:
    """The `RECIPE` of a data set, then that of an architecture, then its `FINE_TUNING` if weights are pretrained.

    `crop` is stated for the data set's default image size and is scaled to the configured size.
    """
    defaults = {**(dataset.plugin.constant("RECIPE") or {}), **(architecture.plugin.constant("RECIPE") or {})}
    if architecture.settings.get("pretrained"):
        defaults |= architecture.plugin.constant("FINE_TUNING") or {}
    default_size = dataset.plugin.settings.model_fields["size"].default if "size" in dataset.settings else 0
    if "crop" in defaults and default_size:
        defaults["crop"] = round(defaults["crop"] * dataset.settings["size"] / default_size)
    return defaults


def with_defaults(configured: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Add to the configured settings the defaults that do not conflict with them.

    Configured settings are never changed, even if they are invalid; they are checked later.
    """
    optimizer = defaults.get("optimizer", _DEFAULTS["optimizer"])
    if configured.get("optimizer", optimizer) != optimizer:
        defaults = {key: value for key, value in defaults.items() if key not in _OPTIMIZER_DEFAULTS}
    settings = {**defaults, **configured}
    _fit_schedule(settings, configured)
    _limit_durations(settings, configured)
    return settings


def _fit_schedule(settings: dict[str, Any], configured: Mapping[str, Any]) -> None:
    """If only one of `schedule` and `milestones` is configured, fit the other to it."""
    multistep = "multistep"
    if "schedule" not in configured and "milestones" in configured:
        default = settings.get("schedule", _DEFAULTS["schedule"])
        without_steps = _DEFAULTS["schedule"] if default == multistep else default
        settings["schedule"] = multistep if configured["milestones"] else without_steps
    if "milestones" not in configured and settings.get("schedule") != multistep:
        settings.pop("milestones", None)


def _limit_durations(settings: dict[str, Any], configured: Mapping[str, Any]) -> None:
    """Limit default durations to a tenth of the epochs."""
    try:
        epochs = float(settings.get("epochs", _DEFAULTS["epochs"]))
    except (TypeError, ValueError):
        return
    for key, minimum in _MIN_DURATIONS.items():
        if key in settings and key not in configured:
            settings[key] = max(minimum, type(minimum)(min(settings[key], epochs / 10)))

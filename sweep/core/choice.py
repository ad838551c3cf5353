"""PluginConfig: a plug-in and its settings, as a configuration chooses it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sweep.core.ids import canonical_json
from sweep.core.paths import expand
from sweep.core.registry import Plugin, get_plugin, identity


@dataclass(frozen=True, eq=False)
class PluginConfig:
    """A plug-in by name, with the values of all its settings."""

    kind: str
    name: str
    settings: dict[str, Any]

    @property
    def plugin(self) -> Plugin:
        """The plug-in of that name."""
        return get_plugin(self.kind, self.name)

    @property
    def space(self) -> str:
        """What a method averages: its setting `space` if it has one, else the space of the plug-in."""
        return str(self.settings.get("space", self.plugin.space))

    def call(self, /, **provided: Any) -> Any:
        """The plug-in's result for the needs that its signature names, taken from `provided`, and its settings.

        Other entries of `provided` are ignored. Raises TypeError for a need that is missing.
        """
        return self.plugin.call(provided, self.settings)

    @cached_property
    def id_content(self) -> dict[str, Any]:
        """The part of ids: settings at their defaults are left out, so that adding a setting changes no id."""
        fields = self.plugin.settings.model_fields
        chosen = {key: value for key, value in self.settings.items() if value != fields[key].default}
        return {"name": self.name, "settings": identity(chosen)}

    @cached_property
    def settings_json(self) -> str:
        """The settings as JSON, as tables hold them."""
        return canonical_json(self._written)

    @property
    def to_config(self) -> dict[str, Any]:
        """The plug-in as a configuration writes it: `{name: settings}`."""
        return {self.name: self._written}

    @property
    def _written(self) -> dict[str, Any]:
        """The settings without those that are None, so that a setting which was added later changes no old text."""
        return {key: _plain(value) for key, value in self.settings.items() if value is not None}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PluginConfig) and (self.kind, self.name, self.settings_json) == (
            other.kind,
            other.name,
            other.settings_json,
        )

    def __hash__(self) -> int:
        return hash((self.kind, self.name, self.settings_json))


def _plain(value: Any) -> Any:
    """The value for JSON and YAML: paths as absolute text, tuples as lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(expand(value))  # a resolved configuration is read from anywhere
    return value

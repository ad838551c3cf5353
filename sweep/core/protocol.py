"""Evaluation protocols: the correct one, or switches that repeat defects of published protocols."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sweep.core.choice import PluginConfig
from sweep.core.registry import get_plugin

CORRECT = "correct"
COMBINED = "combined"


@dataclass(frozen=True)
class EvalProtocol:
    """The switches that are on, in a fixed order; none in the correct protocol."""

    switches: tuple[PluginConfig, ...] = ()

    @cached_property
    def name(self) -> str:
        """`correct`, or the switches joined by `+`, settings that are not the defaults in parentheses."""
        return "+".join(_switch_label(switch) for switch in self.switches) or CORRECT

    @cached_property
    def id_content(self) -> Any:
        """What enters ids."""
        return [switch.id_content for switch in self.switches] or CORRECT

    @property
    def to_config(self) -> Any:
        """The protocol as a configuration writes it."""
        if len(self.switches) == 1:
            return self.switches[0].to_config
        return {COMBINED: [switch.to_config for switch in self.switches]} if self.switches else CORRECT

    def method(self, method: PluginConfig) -> PluginConfig:
        """The method that the protocol runs in place of this one."""
        return _substitute(method, self._switches_with_needs({"method"}))

    def scaling(self, scaling: PluginConfig) -> PluginConfig:
        """The scaling that the protocol applies in place of this one."""
        return _substitute(scaling, self._switches_with_needs({"scaling"}))

    def reporting(self, space: str) -> tuple[PluginConfig, ...]:
        """Switches for forward passes whose outputs are reported, or averaged in that space."""
        return self._switches_with_needs(
            {"mean", "std", "model", "reported", *({"extractor"} if space == "features" else ())}
        )

    @cached_property
    def training(self) -> tuple[PluginConfig, ...]:
        """Switches that change the recipe of members."""
        return self._switches_with_needs({"recipe"})

    @cached_property
    def searching(self) -> tuple[PluginConfig, ...]:
        """Switches for forward passes that score merged weights in a search."""
        return self._switches_with_needs({"mean", "std", "model", "train", "validation"})

    @cached_property
    def everywhere(self) -> tuple[PluginConfig, ...]:
        """Switches for every forward pass."""
        return self._switches_with_needs({"model"})

    def acts(self, method: PluginConfig, scaling: PluginConfig) -> bool:
        """Whether any switch changes how this method with this scaling is evaluated."""
        changed = self.method(method) != method or self.scaling(scaling) != scaling
        searched = "score" in method.plugin.needs and bool(self.searching)
        return changed or searched or bool(self.reporting(method.space))

    def _switches_with_needs(self, needs: set[str]) -> tuple[PluginConfig, ...]:
        """The switches that need any of these."""
        return tuple(switch for switch in self.switches if needs & set(switch.plugin.needs))


CORRECT_PROTOCOL = EvalProtocol()


def _switch_label(switch: PluginConfig) -> str:
    """A switch as tables name it: `train_mode (batch=2)`."""
    chosen = {key: value for key, value in switch.settings.items() if key in switch.id_content["settings"]}
    return f"{switch.name} ({', '.join(f'{key}={value}' for key, value in chosen.items())})" if chosen else switch.name


def _substitute(config: PluginConfig, switches: tuple[PluginConfig, ...]) -> PluginConfig:
    """The plug-in configuration after the switches, applied in order."""
    for switch in switches:
        ((name, settings),) = switch.call(method=config.to_config, scaling=config.to_config).items()
        config = PluginConfig(config.kind, name, get_plugin(config.kind, name).validate(settings))
    return config

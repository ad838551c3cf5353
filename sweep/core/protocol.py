"""Which defects of the published protocol a candidate is evaluated with: none under the correct one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sweep.core.choice import Choice

CORRECT, TOGETHER = "correct", "together"


@dataclass(frozen=True)
class Protocol:
    """Switches that are on, in the order of their names."""

    switches: tuple[Choice, ...] = ()

    @cached_property
    def name(self) -> str:
        """`correct`, or the switches joined by `+`, settings that are not the defaults in parentheses."""
        return "+".join(_named(switch) for switch in self.switches) or CORRECT

    @cached_property
    def content(self) -> Any:
        """What enters ids."""
        return [switch.content for switch in self.switches] or CORRECT

    @property
    def written(self) -> Any:
        """The protocol as a configuration writes it."""
        if len(self.switches) == 1:
            return self.switches[0].written
        return {TOGETHER: [switch.written for switch in self.switches]} if self.switches else CORRECT

    def method(self, method: Choice) -> Choice:
        """The method that is carried out where this one is written."""
        return _replaced(method, self._taking({"method"}))

    def scaling(self, scaling: Choice) -> Choice:
        """The scaling that is carried out where this one is written."""
        return _replaced(scaling, self._taking({"scaling"}))

    def reporting(self, space: str) -> tuple[Choice, ...]:
        """Switches that act on passes whose outputs are reported, or averaged in that space."""
        return self._taking({"mean", "std", "model", "reported", *({"extractor"} if space == "features" else ())})

    @cached_property
    def training(self) -> tuple[Choice, ...]:
        """Switches that act on how members are trained."""
        return self._taking({"recipe"})

    @cached_property
    def searching(self) -> tuple[Choice, ...]:
        """Switches that act on passes by which a search scores weights."""
        return self._taking({"mean", "std", "model", "train", "validation"})

    @cached_property
    def everywhere(self) -> tuple[Choice, ...]:
        """Switches that act around every pass."""
        return self._taking({"model"})

    def acts(self, method: Choice, scaling: Choice) -> bool:
        """Whether any switch changes how this method with this scaling is evaluated."""
        changed = self.method(method) != method or self.scaling(scaling) != scaling
        searched = "score" in method.entry.needs and bool(self.searching)
        return changed or searched or bool(self.reporting(method.space))

    def _taking(self, needs: set[str]) -> tuple[Choice, ...]:
        """The switches that need any of these."""
        return tuple(switch for switch in self.switches if needs & set(switch.entry.needs))


CORRECT_PROTOCOL = Protocol()


def _named(switch: Choice) -> str:
    """A switch as tables name it: `train_mode (batch=2)`."""
    chosen = {key: value for key, value in switch.settings.items() if key in switch.content["settings"]}
    return f"{switch.name} ({', '.join(f'{key}={value}' for key, value in chosen.items())})" if chosen else switch.name


def _replaced(choice: Choice, switches: tuple[Choice, ...]) -> Choice:
    """The choice that switches make of one, in their order."""
    for switch in switches:
        ((name, settings),) = switch.entry.function(choice.written, **switch.settings).items()
        other = Choice(choice.kind, name, settings)
        choice = Choice(choice.kind, name, other.entry.check(settings))
    return choice

"""Populations that a protocol trains otherwise: each beside the correct one, with the same seeds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sweep.grid import Choice
from sweep.protocol import Protocol
from sweep.recipe import Recipe
from sweep.spec import Grid, Population


def retrained(populations: Sequence[Population], grids: Sequence[Grid]) -> list[Population]:
    """The populations, and behind them the ones that protocols of the grids train otherwise."""
    protocols = dict.fromkeys(protocol for grid in grids for protocol in grid.protocols)
    others = [_under(population, protocol) for protocol in protocols for population in populations]
    return list(dict.fromkeys([*populations, *(other for other in others if other.audit.switches)]))


def is_of(population: Population, protocol: Protocol) -> bool:
    """Whether a protocol's candidates are of this population, and not of one that is trained otherwise."""
    return _under(population.correct or population, protocol).audit == population.audit


def _under(population: Population, protocol: Protocol) -> Population:
    """The population as a protocol trains it: itself where that makes no difference."""
    recipe = population.recipe
    acting: list[Choice] = []
    for switch in () if population.files else protocol.training:
        settings = switch.entry.function(recipe.model_dump(), **switch.settings)
        other = Recipe(**settings)
        if other != recipe:
            recipe, acting = other, [*acting, switch]
    if not acting:
        return population
    audit = Protocol(tuple(acting))
    name = f"{population.name} ({audit.name})"
    return replace(population, name=name, recipe=recipe, audit=audit, correct=population)

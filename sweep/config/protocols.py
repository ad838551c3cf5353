"""Populations that a protocol trains otherwise: each beside the correct one, with the same seeds. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweep.config.document import ConfigError, Document, KeyPath
from sweep.config.expansion import parse_choices
from sweep.config.recipe import Recipe
from sweep.config.spec import Grid, Population
from sweep.core.choice import PluginConfig
from sweep.core.ids import canonical_json
from sweep.core.protocol import COMBINED, CORRECT, CORRECT_PROTOCOL, EvalProtocol
from sweep.core.registry import list_plugins
from sweep.core.text import did_you_mean


def parse_protocols(value: Any, path: KeyPath, document: Document) -> list[EvalProtocol]:
    """Every protocol that a value means, without repetition: `correct`, switches, and `combined` with a list of them.

    Raises ConfigError with all mistakes; the correct one must be there, for the others are compared with it.
    """
    items = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
    found, mistakes = [], []
    for index, item in items:
        here = path if index is None else (*path, index)
        try:
            found += _parse_item(item, here, document)
        except ConfigError as error:
            mistakes += error.issues
    if not mistakes and CORRECT_PROTOCOL not in found:
        mistakes.append(document.issue(path, "nothing to compare with", "add `correct`"))
    if mistakes:
        raise ConfigError(mistakes)
    return list(dict.fromkeys(found))


def _parse_item(item: Any, path: KeyPath, document: Document) -> list[EvalProtocol]:
    """The protocols that one item means."""
    if item == CORRECT:
        return [CORRECT_PROTOCOL]
    if not isinstance(item, Mapping) or list(item) != [COMBINED]:
        _refuse_unknown(item, path, document)
        return [EvalProtocol((switch,)) for switch in parse_choices("protocols", item, path, document)]
    listed, here = item[COMBINED], (*path, COMBINED)
    if not isinstance(listed, list):
        raise ConfigError([document.issue(here, f"a list of protocols is due here, not {listed!r}")])
    each = [parse_choices("protocols", one, (*here, index), document) for index, one in enumerate(listed)]
    named = [group[0].name for group in each]
    if not named or len(set(named)) < len(named):
        raise ConfigError([document.issue(here, "one of the protocols or more, each once")])
    return [EvalProtocol(tuple(sorted(chosen, key=_order))) for chosen in itertools.product(*each)]


def _order(switch: PluginConfig) -> str:
    return canonical_json(switch.id_content)


def _refuse_unknown(item: Any, path: KeyPath, document: Document) -> None:
    """Raise ConfigError for a text that is nearly `correct` or `combined`, which are no files."""
    known = list_plugins("protocols")
    if isinstance(item, str) and item not in known and ":" not in item:
        hint = did_you_mean(item, [CORRECT, COMBINED, *known])
        raise ConfigError([document.issue(path, f"no `{item}` in protocols", hint)])


def retrained_populations(populations: Sequence[Population], grids: Sequence[Grid]) -> list[Population]:
    """The populations, and behind them the ones that protocols of the grids train otherwise."""
    protocols = dict.fromkeys(protocol for grid in grids for protocol in grid.protocols)
    others = [_population_under(population, protocol) for protocol in protocols for population in populations]
    return list(dict.fromkeys([*populations, *(other for other in others if other.protocol.switches)]))


def belongs_to(population: Population, protocol: EvalProtocol) -> bool:
    """Whether a protocol's candidates are of this population, and not of one that is trained otherwise."""
    return _population_under(population.reference or population, protocol).protocol == population.protocol


def _population_under(population: Population, protocol: EvalProtocol) -> Population:
    """The population as a protocol trains it: itself where that makes no difference."""
    recipe = population.recipe
    acting: list[PluginConfig] = []
    for switch in () if population.files else protocol.training:
        settings = switch.call(recipe=recipe.model_dump())
        other = Recipe(**settings)
        if other != recipe:
            recipe, acting = other, [*acting, switch]
    if not acting:
        return population
    audit = EvalProtocol(tuple(acting))
    name = f"{population.name} ({audit.name})"
    return replace(population, name=name, recipe=recipe, protocol=audit, reference=population)

"""Populations that a protocol trains otherwise: each beside the correct one, with the same seeds. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweep.config.document import ConfigError, ConfigIssue, Document, KeyPath
from sweep.config.expansion import parse_choices
from sweep.config.recipe import Recipe
from sweep.config.spec import Grid, Population
from sweep.core.choice import PluginConfig
from sweep.core.ids import canonical_json
from sweep.core.protocol import COMBINED, CORRECT, CORRECT_PROTOCOL, EvalProtocol
from sweep.core.registry import list_plugins
from sweep.core.text import did_you_mean, show


def parse_protocols(value: Any, path: KeyPath, document: Document) -> list[EvalProtocol]:
    """The protocols of a value, without repetition: `correct`, switches, and `combined` with a list of switches.

    `correct` must be among them, since the others are compared with it. Raises ConfigError with all issues.
    """
    items = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
    found: list[EvalProtocol] = []
    issues: list[ConfigIssue] = []
    for index, item in items:
        here = path if index is None else (*path, index)
        try:
            found += _parse_item(item, here, document)
        except ConfigError as error:
            issues += error.issues
    if not issues and CORRECT_PROTOCOL not in found:
        issues.append(document.issue(path, "nothing to compare with", "add `correct`"))
    if issues:
        raise ConfigError(issues)
    return list(dict.fromkeys(found))


def _parse_item(item: Any, path: KeyPath, document: Document) -> list[EvalProtocol]:
    """The protocols of one item."""
    if item == CORRECT:
        return [CORRECT_PROTOCOL]
    if not isinstance(item, Mapping) or list(item) != [COMBINED]:
        _refuse_unknown(item, path, document)
        return [EvalProtocol((switch,)) for switch in parse_choices("protocols", item, path, document)]
    listed = item[COMBINED]
    here = (*path, COMBINED)
    if not isinstance(listed, list):
        raise ConfigError([document.issue(here, f"expected a list of protocols, got {show(listed)}")])
    each = [parse_choices("protocols", one, (*here, index), document) for index, one in enumerate(listed)]
    named = [group[0].name for group in each]
    if not named or len(set(named)) < len(named):
        raise ConfigError([document.issue(here, "expected one or more protocols without repetition")])
    return [EvalProtocol(tuple(sorted(chosen, key=_order))) for chosen in itertools.product(*each)]


def _order(switch: PluginConfig) -> str:
    return canonical_json(switch.id_content)


def _refuse_unknown(item: Any, path: KeyPath, document: Document) -> None:
    """Raise ConfigError for an unknown name; hints include `correct` and `combined`, which are no plug-ins."""
    known = list_plugins("protocols")
    if isinstance(item, str) and item not in known and ":" not in item:
        hint = did_you_mean(item, [CORRECT, COMBINED, *known])
        raise ConfigError([document.issue(path, f"no `{item}` in protocols", hint)])


def retrained_populations(populations: Sequence[Population], grids: Sequence[Grid]) -> list[Population]:
    """The populations, followed by those that protocols of the grids train in another way."""
    protocols = dict.fromkeys(protocol for grid in grids for protocol in grid.protocols)
    others = [_population_under(population, protocol) for protocol in protocols for population in populations]
    return list(dict.fromkeys([*populations, *(other for other in others if other.protocol.switches)]))


def belongs_to(population: Population, protocol: EvalProtocol) -> bool:
    """Whether the candidates of a protocol belong to this population, and not to one trained in another way."""
    return _population_under(population.reference or population, protocol).protocol == population.protocol


def _population_under(population: Population, protocol: EvalProtocol) -> Population:
    """The population as a protocol trains it; itself if the protocol does not change the recipe."""
    recipe = population.recipe
    acting: list[PluginConfig] = []
    for switch in () if population.files else protocol.training:
        settings = switch.call(recipe=recipe.model_dump())
        other = Recipe(**settings)
        if other != recipe:
            recipe = other
            acting.append(switch)
    if not acting:
        return population
    protocol = EvalProtocol(tuple(acting))
    name = f"{population.name} ({protocol.name})"
    return replace(population, name=name, recipe=recipe, protocol=protocol, reference=population)

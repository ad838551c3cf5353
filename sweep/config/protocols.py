"""Populations that a protocol trains otherwise: each beside the correct one, with the same seeds. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweep.config.document import ConfigError, Document, KeyPath
from sweep.config.expansion import choices
from sweep.config.recipe import Recipe
from sweep.config.spec import Grid, Population
from sweep.core.choice import Choice
from sweep.core.ids import canonical
from sweep.core.protocol import CORRECT, CORRECT_PROTOCOL, TOGETHER, Protocol
from sweep.core.registry import names
from sweep.core.text import suggestion


def protocols(value: Any, path: KeyPath, document: Document) -> list[Protocol]:
    """Every protocol that a value means, without repetition: `correct`, switches, and `together` with a list of them.

    Raises ConfigError with all mistakes; the correct one must be there, for the others are compared with it.
    """
    items = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
    found, mistakes = [], []
    for index, item in items:
        here = path if index is None else (*path, index)
        try:
            found += _meant(item, here, document)
        except ConfigError as error:
            mistakes += error.mistakes
    if not mistakes and CORRECT_PROTOCOL not in found:
        mistakes.append(document.mistake(path, "nothing to compare with", "add `correct`"))
    if mistakes:
        raise ConfigError(mistakes)
    return list(dict.fromkeys(found))


def _meant(item: Any, path: KeyPath, document: Document) -> list[Protocol]:
    """The protocols that one item means."""
    if item == CORRECT:
        return [CORRECT_PROTOCOL]
    if not isinstance(item, Mapping) or list(item) != [TOGETHER]:
        _refuse_unknown(item, path, document)
        return [Protocol((switch,)) for switch in choices("protocols", item, path, document)]
    listed, here = item[TOGETHER], (*path, TOGETHER)
    if not isinstance(listed, list):
        raise ConfigError([document.mistake(here, f"a list of protocols is due here, not {listed!r}")])
    each = [choices("protocols", one, (*here, index), document) for index, one in enumerate(listed)]
    named = [group[0].name for group in each]
    if not named or len(set(named)) < len(named):
        raise ConfigError([document.mistake(here, "one of the protocols or more, each once")])
    return [Protocol(tuple(sorted(chosen, key=_order))) for chosen in itertools.product(*each)]


def _order(switch: Choice) -> str:
    return canonical(switch.content)


def _refuse_unknown(item: Any, path: KeyPath, document: Document) -> None:
    """Raise ConfigError for a text that is nearly `correct` or `together`, which are no files."""
    known = names("protocols")
    if isinstance(item, str) and item not in known and ":" not in item:
        hint = suggestion(item, [CORRECT, TOGETHER, *known])
        raise ConfigError([document.mistake(path, f"no `{item}` in protocols", hint)])


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

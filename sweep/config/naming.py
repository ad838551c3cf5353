"""Unique names of populations: architecture, data set and start, then the settings in which namesakes differ."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sweep.config.defaults import plugin_defaults
from sweep.config.document import KeyPath
from sweep.config.recipe import RECORDED_NAMES, Recipe
from sweep.config.spec import LONGEST_NAME, Population
from sweep.core.ids import canonical_json, content_id


def duplicate_populations(populations: Sequence[Population]) -> Iterator[tuple[KeyPath, str]]:
    """Yield (key path, message) for populations that differ in nothing but their size: their members would be equal."""
    seen: dict[str, Population] = {}
    for population in populations:
        other = seen.setdefault(_key(population), population)
        if other is not population:
            yield population.path, f"the same population as populations[{other.path[-1]}]"


def unique_names(populations: list[Population]) -> list[Population]:
    """The populations with unique names; settings in which namesakes differ are appended."""
    each = [p if p.name else replace(p, name=f"{p.architecture.name}-{p.dataset.name}-{p.start}") for p in populations]
    groups: dict[str, list[Population]] = {}
    for population in each:
        groups.setdefault(population.name, []).append(population)
    renamed = [_disambiguate(p, groups[p.name]) for p in each]
    counts = Counter(p.name for p in renamed)
    return [_short(p) if counts[p.name] > 1 or len(p.name) > LONGEST_NAME else p for p in renamed]


def _disambiguate(population: Population, group: Sequence[Population]) -> Population:
    """The population with the settings in which its namesakes differ appended to its name.

    A setting that the architecture or data set implies is left out, unless a namesake with both has another value.
    """
    own = _settings(population)
    plugins = (population.architecture.name, population.dataset.name)
    everyone = [_settings(each) for each in group]
    siblings = [_settings(each) for each in group if (each.architecture.name, each.dataset.name) == plugins]
    implied = _implied_settings(population, group)
    differing = [key for key in own if any(e.get(key) != own[key] for e in (siblings if key in implied else everyone))]
    texts = [f"{RECORDED_NAMES.get(key, key)}={_text(own[key])}" for key in differing]
    suffix = re.sub(r"[/\x00-\x1f]", "-", ",".join(texts))
    return replace(population, name=f"{population.name},{suffix}") if suffix else population


def _text(value: Any) -> str:
    """A setting as a name shows it: a mapping as YAML writes it, without keys that are not set."""
    if not isinstance(value, dict):
        return str(value)
    return "{" + ", ".join(f"{key}: {each}" for key, each in value.items() if each is not None) + "}"


def _implied_settings(population: Population, group: Sequence[Population]) -> set[str]:
    """Settings for which plug-ins of the group state a default, and that have the default of its own plug-ins here."""
    stating = {key for each in group for key in plugin_defaults(each.architecture, each.dataset)}
    usual = {**Recipe().model_dump(), **plugin_defaults(population.architecture, population.dataset)}
    found = population.recipe.model_dump()
    return {key for key in stating if found[key] == usual[key]}


def _short(population: Population) -> Population:
    """The population with a hash appended to its name, for a name that is too long or not unique."""
    digits = content_id("population", _key(population))[:8]
    return replace(population, name=f"{population.name[: LONGEST_NAME - 9]},{digits}")


def _key(population: Population) -> str:
    """A text that identifies the population, including folders, which ids leave out."""
    return canonical_json(
        [population.id_content, population.architecture.settings_json, population.dataset.settings_json]
    )


def _settings(population: Population) -> dict[str, Any]:
    """Every setting of a population by its key alone, as `lr` or `width`."""
    parts = {"architecture": population.architecture, "dataset": population.dataset}
    flat: dict[str, Any] = {name: choice.name for name, choice in parts.items()} | {"start": population.start}
    flat |= {"own_heads": population.new_heads, "crossed": population.seed_grid is not None}
    flat |= {"vary_split": True} if population.vary_split else {}
    for choice in parts.values():
        flat |= choice.settings
    return flat | population.recipe.model_dump()

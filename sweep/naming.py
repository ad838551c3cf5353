"""Names of populations: what they are, and what tells those of one name apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sweep.document import KeyPath
from sweep.identity import canonical, content_id
from sweep.spec import LONGEST_NAME, Population


def repeated(populations: Sequence[Population]) -> Iterator[tuple[KeyPath, str]]:
    """Populations that are the same but for their size: their members would be, too."""
    seen: dict[str, Population] = {}
    for population in populations:
        other = seen.setdefault(_key(population), population)
        if other is not population:
            yield population.path, f"the same population as populations[{other.path[-1]}]"


def named(populations: list[Population]) -> list[Population]:
    """Populations with names of their own: what they are, and what tells those of one name apart."""
    each = [p if p.name else replace(p, name=f"{p.architecture.name}-{p.dataset.name}-{p.start}") for p in populations]
    groups: dict[str, list[Population]] = {}
    for population in each:
        groups.setdefault(population.name, []).append(population)
    told = [_told_apart(p, groups[p.name]) for p in each]
    counts = Counter(p.name for p in told)
    return [_short(p) if counts[p.name] > 1 or len(p.name) > LONGEST_NAME else p for p in told]


def _told_apart(population: Population, group: Sequence[Population]) -> Population:
    """The population, the settings in which its namesakes differ put behind its name."""
    all_settings = [_settings(each) for each in group]
    own = _settings(population)
    differing = [key for key in own if any(settings.get(key) != own[key] for settings in all_settings)]
    suffix = re.sub(r"[/\x00-\x1f]", "-", ",".join(f"{key}={own[key]}" for key in differing))
    return replace(population, name=f"{population.name},{suffix}") if suffix else population


def _short(population: Population) -> Population:
    """The population, a hash of what it is behind its name, where words are too many or too few."""
    digits = content_id("population", _key(population))[:8]
    return replace(population, name=f"{population.name[: LONGEST_NAME - 9]},{digits}")


def _key(population: Population) -> str:
    """What makes it this population, with the folders that stay out of ids."""
    return canonical([population.content, population.architecture.settings_json, population.dataset.settings_json])


def _settings(population: Population) -> dict[str, Any]:
    """Every setting of a population under a short name."""
    parts = {"architecture": population.architecture, "dataset": population.dataset}
    flat: dict[str, Any] = {name: choice.name for name, choice in parts.items()} | {"start": population.start}
    for choice in parts.values():
        flat |= choice.settings
    return flat | population.recipe.model_dump()

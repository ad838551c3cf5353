"""Conflicts between settings that are valid one by one: of a grid and its populations, and within a population."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sweep.config.document import KeyPath
from sweep.config.spec import Grid, Population
from sweep.core.choice import PluginConfig

_MOST_MEMBERS = 1_000_000  # of one population
_MOST_CANDIDATES = 20_000_000  # of one grid: planning takes about a minute and some GB of memory


def grid_conflicts(grid: Grid, populations: Sequence[Population]) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield (key path, message, hint) for each conflict between a grid and the populations."""
    subsets = grid.subsets
    smallest = min(populations, key=lambda population: population.members)
    for key, sizes in (("sizes", subsets.sizes), ("prefixes", subsets.prefixes)):
        for index, size in enumerate(sizes):
            if size > smallest.members:
                what = f"subsets of {size} members, but `{smallest.name}` has {smallest.members}"
                yield (*grid.path, "subsets", key, index), what, f"take smaller subsets, or members: {size}"
    yield from _size_conflicts(grid, populations)
    offered = subsets.n_members
    for method in grid.methods:
        arity = method.plugin.arity
        if arity > 1 and arity not in offered:
            hint = "add pairs: all under subsets" if arity == 2 else f"add {arity} to sizes under subsets"
            yield (*grid.path, "methods"), f"`{method.name}` takes exactly {arity} members: no such subset", hint
        for what, hint in missing_base(method, populations):
            yield (*grid.path, "methods"), what, hint
    if not offered and any(method.plugin.arity != 1 for method in grid.methods):
        yield (*grid.path, "subsets"), "no subset to merge", "for example subsets: {sizes: [2, 3], per_size: 20}"


def _size_conflicts(grid: Grid, populations: Sequence[Population]) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield an issue for a grid of more candidates than can be planned."""
    most = _max_candidates(grid, populations)
    if most > _MOST_CANDIDATES:
        what = f"up to {most:,} candidates, expected at most {_MOST_CANDIDATES:,} in a grid"
        yield (*grid.path, "subsets"), what, "take fewer subsets, pools, methods or scalings"


def _max_candidates(grid: Grid, populations: Sequence[Population]) -> int:
    """An upper bound of the candidates of a grid, without drawing its subsets."""
    subsets = grid.subsets
    factors = (grid.alignments, grid.scalings, grid.repairs, grid.protocols, (*grid.methods, "single"))
    total = 0
    for population in populations:
        members = population.members
        pairs = math.comb(members, 2)
        per_pool = members + len(subsets.prefixes)
        per_pool += pairs if subsets.pairs == "all" else min(subsets.pairs, pairs)
        per_pool += sum(min(subsets.per_size, math.comb(members, size)) for size in subsets.sizes)
        total += population.pools * per_pool
    return total * math.prod(map(len, factors))


def missing_base(method: PluginConfig, populations: Sequence[Population]) -> Iterator[tuple[str, str]]:
    """Yield (message, hint) for each kind of start that gives no base to a method that needs one."""
    hints = {"scratch": "start: shared or pretrained", "unknown": "base: the file of their start"}
    for start in sorted({p.start for p in populations if not p.has_base and "base" in method.plugin.needs}):
        members = "members from scratch" if start == "scratch" else f"members of {start} start"
        yield f"`{method.name}` needs a base; {members} have none", hints[start]


def population_conflicts(population: Population) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield (key path, message, hint) for each conflict between the settings of a population."""
    yield from _start_conflicts(population)
    yield from _vmap_conflicts(population)
    yield from _training_conflicts(population)
    if population.pools * population.members > _MOST_MEMBERS:
        what = (
            f"{population.pools:,} pools of {population.members:,} members, expected at most {_MOST_MEMBERS:,} in all"
        )
        yield (*population.path, "members"), what, "take fewer pools or members"
    start = population.start
    crossing = population.seed_grid
    if population.new_heads and start != "pretrained":
        what = f"new_heads needs start: pretrained (start is {start})"
        yield (*population.path, "new_heads"), what, "start: pretrained"
    if population.vary_split and "split" not in population.dataset.settings:
        what = f"vary_split needs a data set with the setting `split`, which `{population.dataset.name}` has not"
        yield (*population.path, "vary_split"), what, "leave it out, or take another data set"
    if crossing and crossing.init > 1 and population.has_base and not population.new_heads:
        what = f"{crossing.init} initialisations, but members of a {start} start begin at the same weights"
        hint = "start: scratch" if start == "shared" else "new_heads: true draws heads, or init: 1"
        yield (*population.path, "members", "init"), what, hint


def _start_conflicts(population: Population) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield conflicts between the start and the `pretrained` setting of the architecture."""
    name = population.architecture.name
    place = (*population.path, "start")
    pretrained = population.architecture.settings.get("pretrained")
    if population.start == "pretrained" and pretrained is None:
        yield place, f"there are no pretrained weights of `{name}`", "start: shared or scratch"
    if population.start == "pretrained" and pretrained is False:
        what = f"`{name}` is built here without pretrained weights"
        yield place, what, f"architecture: {{{name}: {{pretrained: true}}}}"
    if population.start == "scratch" and pretrained:
        yield place, f"`{name}` is built here with pretrained weights", "start: pretrained"


def _training_conflicts(population: Population) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield an issue for each setting of the training that needs a start, if members begin from scratch."""
    recipe = population.recipe
    needing = {
        "l2_start": recipe.l2_start,
        "linear_probe_epochs": recipe.linear_probe_epochs,
        "scope": recipe.scope and recipe.scope.target == "start",
    }
    for key in (key for key, is_set in needing.items() if is_set and not population.has_base):
        hint = "start: shared or pretrained" + (", or target: fixed" if key == "scope" else "")
        yield (*population.path, "train", key), "members from scratch have no start", hint


def _vmap_conflicts(population: Population) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield an issue if members do not fill whole groups of `vmap_members`.

    Whole groups stay the same when the pool grows.
    """
    size = population.recipe.vmap_members
    crossing = population.seed_grid
    key, count = ("order", crossing.order) if crossing else ("members", population.members)
    if count % size:
        what = f"{key}: {count} is not a multiple of vmap_members: {size}"
        hint = f"{key}: {count // size * size + size}, or a divisor of {count}"
        yield (*population.path, "train", "vmap_members"), what, hint

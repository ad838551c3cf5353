"""What goes together of a population: starts, pretrained weights, heads, crossed seeds, members trained at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sweep.config.document import KeyPath
from sweep.config.spec import Grid, Population
from sweep.core.choice import PluginConfig


def grid_conflicts(grid: Grid, populations: Sequence[Population]) -> Iterator[tuple[KeyPath, str, str]]:
    """Choices that are right one by one and do not go together."""
    subsets, smallest = grid.subsets, min(populations, key=lambda p: p.members)
    for key, sizes in (("sizes", subsets.sizes), ("prefixes", subsets.prefixes)):
        for index, size in enumerate(sizes):
            if size > smallest.members:
                what = f"subsets of {size} members, but `{smallest.name}` has {smallest.members}"
                yield (*grid.path, "subsets", key, index), what, f"take smaller subsets, or members: {size}"
    offered = {*subsets.sizes, *subsets.prefixes} | ({2} if subsets.pairs else set())
    for method in grid.methods:
        wanted = method.plugin.arity
        if wanted > 1 and wanted not in offered:
            hint = "add pairs: all under subsets" if wanted == 2 else f"add {wanted} to sizes under subsets"
            yield (*grid.path, "methods"), f"`{method.name}` takes exactly {wanted} members: no such subset", hint
        yield from (((*grid.path, "methods"), *told) for told in missing_base(method, populations))
    if not offered and any(method.plugin.arity != 1 for method in grid.methods):
        yield (*grid.path, "subsets"), "no subset to merge", "for example subsets: {sizes: [2, 3], per_size: 20}"


def missing_base(method: PluginConfig, populations: Sequence[Population]) -> Iterator[tuple[str, str]]:
    """Whether a method needs the weights at which members began where there are none."""
    hints = {"scratch": "start: shared or pretrained", "unknown": "base: the file of their start"}
    for start in sorted({p.start for p in populations if not p.has_base and "base" in method.plugin.needs}):
        members = "members from scratch" if start == "scratch" else f"members of {start} start"
        yield f"`{method.name}` needs a base; {members} have none", hints[start]


def population_conflicts(population: Population) -> Iterator[tuple[KeyPath, str, str]]:
    """What of a population does not go together, each with its place and a hint."""
    yield from _start_conflicts(population)
    yield from _vmap_conflicts(population)
    start, crossing = population.start, population.seed_grid
    if population.new_heads and start != "pretrained":
        what = f"heads of their own are for members of a pretrained start, and this one is {start}"
        yield (*population.path, "new_heads"), what, "start: pretrained"
    if crossing and crossing.init > 1 and population.has_base and not population.new_heads:
        what = f"{crossing.init} initialisations, but members of a {start} start begin at the same weights"
        hint = "start: scratch" if start == "shared" else "new_heads: true draws heads, or init: 1"
        yield (*population.path, "members", "init"), what, hint


def _start_conflicts(population: Population) -> Iterator[tuple[KeyPath, str, str]]:
    """Whether the start and the architecture mean the same weights."""
    name, place = population.architecture.name, (*population.path, "start")
    pretrained = population.architecture.settings.get("pretrained")
    if population.start == "pretrained" and pretrained is None:
        yield place, f"there are no pretrained weights of `{name}`", "start: shared or scratch"
    if population.start == "pretrained" and pretrained is False:
        what = f"`{name}` is built here without pretrained weights"
        yield place, what, f"architecture: {{{name}: {{pretrained: true}}}}"
    if population.start == "scratch" and pretrained:
        yield place, f"`{name}` is built here with pretrained weights", "start: pretrained"


def _vmap_conflicts(population: Population) -> Iterator[tuple[KeyPath, str, str]]:
    """Whether groups are whole: so a pool can grow, and nobody's group changes."""
    together, crossing = population.recipe.vmap_members, population.seed_grid
    count, what = (crossing.order, "orders") if crossing else (population.members, "members")
    if count % together:
        told = f"{count} {what} make no whole groups of {together}"
        hint = f"{count // together * together + together} {what}, or a divisor of {count}"
        yield (*population.path, "train", "vmap_members"), told, hint

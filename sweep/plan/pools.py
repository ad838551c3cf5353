"""Pools, their starts and members, with ids and seeds, from a Sweep. Nothing is read or trained here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sweep.config.document import ConfigError
from sweep.config.recipe import Recipe
from sweep.config.spec import Input, Population, Sweep
from sweep.core.ids import content_id, derive_seed

TRAINING_VERSION = 1
"""Part of member ids: raise it when the same settings give other weights."""


@dataclass(frozen=True)
class Member:
    """One model: a member of a pool (index 0, 1, …), or the shared start of a pool (index -1)."""

    id: str
    population: Population
    pool_id: str
    pool: int
    index: int
    init_seed: int
    order_seed: int
    start_id: str | None
    file: Path | None = None  # the checkpoint of an external model

    @property
    def role(self) -> str:
        """member or start."""
        return "start" if self.index < 0 else "member"

    @property
    def epochs(self) -> int:
        """Epochs of training in this sweep: 0 for a pretrained start and for an external model."""
        recipe = self.population.recipe
        if self.file or (self.role == "start" and self.population.start == "pretrained"):
            return 0
        return recipe.epochs if self.role == "member" else recipe.start_epochs

    @property
    def recipe(self) -> Recipe:
        """The settings of its training; `epochs` are those of members."""
        recipe = self.population.recipe
        return recipe if self.role == "member" else recipe.of_start


@dataclass(frozen=True)
class TrainingGroup:
    """Members of one pool that are trained at once with vmap, and those of them that are missing."""

    members: tuple[Member, ...]
    missing: tuple[Member, ...]

    @property
    def id(self) -> str:
        """The id of the last member: rows are written in order, so its row means that the group is done."""
        return self.members[-1].id


@dataclass(frozen=True)
class Pool:
    """One replicate of a population; only members of the same pool are merged."""

    id: str
    population: Population
    index: int
    start: Member | None
    members: tuple[Member, ...]


def unique_members(pools: Iterable[Pool]) -> list[Member]:
    """Unique starts and members of all pools, starts first.

    An external model that is in several pools is listed once, under the first.
    """
    pools = list(pools)
    starts = [pool.start for pool in pools if pool.start]
    members: dict[str, Member] = {}
    for member in [*starts, *(each for pool in pools for each in pool.members)]:
        members.setdefault(member.id, member)
    return list(members.values())


def make_pools(sweep: Sweep, fingerprints: Mapping[Input, str]) -> tuple[Pool, ...]:
    """Every pool of a sweep; `fingerprints` as in `make_plan`. Raises ConfigError if two pools are the same."""
    pools: list[Pool] = []
    for population in sweep.populations:
        if population.files:
            pools += _external_pools(population, sweep, fingerprints)
        else:
            pools += _trained_pools(population, sweep, fingerprints)
    _refuse_equal_populations(pools, sweep)
    return tuple(pools)


def _refuse_equal_populations(pools: Sequence[Pool], sweep: Sweep) -> None:
    """Raise ConfigError if populations that are written differently have the same members."""
    seen: dict[str, Pool] = {}
    twins = [(pool, other) for pool in pools if (other := seen.setdefault(pool.id, pool)) is not pool]
    if twins:
        pool, other = twins[0]
        what = f"the same population as populations[{other.population.path[-1]}]: their folders hold the same"
        raise ConfigError([sweep.document.issue(pool.population.path, what)])


def _trained_pools(whole: Population, sweep: Sweep, fingerprints: Mapping[Input, str]) -> Iterator[Pool]:
    """The pools of a trained population. Their number and size are not part of ids, so both can grow."""
    for index in range(whole.pools):
        population = whole.in_pool(index)
        correct = _one_by_one((whole.reference or whole).in_pool(index))
        context = {"fingerprint": fingerprints.get(population.dataset, ""), "seed": sweep.settings.seed}
        context |= {"version": TRAINING_VERSION}
        pool_id = content_id("pool", {**population.id_content, **context, "pool": index})
        root = content_id("pool", {**correct.id_content, **context, "pool": index})
        start = _member(population, (pool_id, root), index, -1, None) if population.has_base else None
        places = range(population.members)
        members = tuple(_member(population, (pool_id, root), index, place, start) for place in places)
        yield Pool(pool_id, population, index, start, members)


def _one_by_one(population: Population) -> Population:
    """The population with vmap_members: 1. Its seeds are those of the population that is trained with vmap."""
    return replace(population, recipe=population.recipe.model_copy(update={"vmap_members": 1}))


def training_groups(pools: Sequence[Pool], missing: Collection[Member]) -> list[TrainingGroup]:
    """The groups that contain missing starts or members. Groups depend on positions alone, not on what is done."""
    missing_ids = {member.id for member in missing}
    found: list[TrainingGroup] = []
    for pool in pools:
        size = pool.population.recipe.vmap_members
        each = [pool.members[first : first + size] for first in range(0, len(pool.members), size)]
        for members in [(pool.start,), *each] if pool.start else each:
            own = tuple(member for member in members if member.id in missing_ids)
            if own:
                found.append(TrainingGroup(members, own))
    return found


def _member(population: Population, pool_ids: tuple[str, str], pool: int, index: int, start: Member | None) -> Member:
    """One member of a pool; `pool_ids` are its pool and the pool from which seeds derive.

    The second is the pool of the reference population if a protocol changes the training, else the same.
    """
    pool_id, root = pool_ids
    name, init, order = _seeds(population, root, index)
    if start and not population.new_heads:
        init = start.init_seed
    content = {"pool": pool_id, "name": name, "init": init, "order": order, "start": start.id if start else None}
    return Member(
        content_id("member", content), population, pool_id, pool, index, init, order, start.id if start else None
    )


def _seeds(population: Population, pool_id: str, index: int) -> tuple[str, int, int]:
    """Name, init seed and order seed of a position in a pool; none depends on the size of the pool."""
    if index >= 0 and population.seed_grid:
        row, column = divmod(index, population.seed_grid.order)
        init = f"init {row}"
        order = f"order {column}"
        return f"{init} {order}", derive_seed(pool_id, init), derive_seed(pool_id, order)
    name = f"member {index}" if index >= 0 else "start"
    return name, derive_seed(pool_id, name, "init"), derive_seed(pool_id, name, "order")


def _external_pools(population: Population, sweep: Sweep, fingerprints: Mapping[Input, str]) -> Iterator[Pool]:
    """The pools of external models, whose ids come from the weights that their networks take from the files.

    Raises ConfigError if a pool has the same model twice, or its base among its members.
    """
    content = {
        **population.id_content,
        "fingerprint": fingerprints.get(population.dataset, ""),
        "version": TRAINING_VERSION,
    }
    for index, files in enumerate(population.files):
        base = {"base": fingerprints[population.checkpoint(population.base)]} if population.base else {}
        pool_id = content_id("pool", {**content, **base, "population": population.name, "pool": index})

        def model(place: int, file: Path, start: Member | None, about: tuple[str, int] = (pool_id, index)) -> Member:
            identity = content_id("member", {**content, "weights": fingerprints[population.checkpoint(file)]})
            return Member(identity, population, *about, place, 0, 0, start.id if start else None, file)

        start = model(-1, population.base, None) if population.base else None
        members = tuple(model(place, file, start) for place, file in enumerate(files))
        _refuse_doubles(index, [start, *members] if start else members, sweep)
        yield Pool(pool_id, population, index, start, members)


def _refuse_doubles(index: int, models: Sequence[Member], sweep: Sweep) -> None:
    """Raise ConfigError with the first two files of a pool, base included, that hold the same weights."""
    seen: dict[str, Member] = {}
    twins = [(other, each) for each in models if (other := seen.setdefault(each.id, each)) is not each]
    if twins:
        first, second = twins[0]
        base = ", its base," if first.role == "start" else ""
        what = f"pool {index} has the same model twice: {second.file} holds the weights of {first.file}{base} again"
        path = (*second.population.path, "checkpoints")
        raise ConfigError([sweep.document.issue(path, what, "leave one of them out")])

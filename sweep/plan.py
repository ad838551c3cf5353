"""Sweep -> members and candidates with ids, counts and cost: pure, and the same in every process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from sweep.errors import ToldError
from sweep.grid import Choice
from sweep.identity import canonical, content_id
from sweep.lineage import Member, Pool, pools_of
from sweep.protocol import CORRECT_PROTOCOL, Protocol
from sweep.retrained import is_of
from sweep.spec import Grid, Population, Sweep
from sweep.subsets import subsets

EVALUATION_VERSION = 3
"""Enters candidate ids: raise it when the same candidate would be evaluated to other numbers."""

_UNALIGNED, _UNREPAIRED = Choice("alignments", "none", {}), Choice("repairs", "none", {})
_SINGLE = Choice("methods", "single", {})


class Candidate(NamedTuple):
    """One thing to evaluate: subset × alignment × method × scaling × repair × protocol. Many, hence a tuple."""

    id: str
    pool_id: str
    subset: tuple[int, ...]
    method: Choice
    alignment: Choice
    scaling: Choice
    repair: Choice
    block: str = ""
    protocol: Protocol = CORRECT_PROTOCOL

    @property
    def cost(self) -> float:
        """About how many passes over a split it takes; averaged outputs cost next to nothing."""
        search = ("score" in self.method.entry.needs) * 2 * len(self.subset)
        return search + (1.0 if self.method.space == "weights" else 0.02)


class PlanError(ToldError):
    """Something that is asked of a plan and is not in it."""


Work = Sequence[tuple[Candidate, Sequence[str]]]
"""Candidates, each with the splits that it has no row for yet."""


@dataclass(frozen=True)
class Plan:
    """Everything that a sweep means."""

    sweep: Sweep
    pools: tuple[Pool, ...]
    candidates: tuple[Candidate, ...]

    def candidate(self, prefix: str) -> Candidate:
        """The candidate whose id begins so. Raises PlanError where there is none, or more than one."""
        fitting = [candidate for candidate in self.candidates if candidate.id.startswith(prefix)]
        if len(fitting) != 1:
            what = f"{len(fitting)} candidates begin with {prefix!r}"
            raise PlanError(what, 'sweep sql RUN "select candidate_id, method from candidates limit 5" shows some')
        return fitting[0]

    @property
    def starts(self) -> list[Member]:
        """The shared starts, one per pool that has one."""
        return [pool.start for pool in self.pools if pool.start]

    @property
    def members(self) -> list[Member]:
        """All members, in the order of populations and pools."""
        return [member for pool in self.pools for member in pool.members]

    @property
    def key(self) -> str:
        """What the plan follows from: plans with one key have the same candidates."""
        return plan_key(self.sweep, self.pools)

    @cached_property
    def pool_of(self) -> dict[str, Pool]:
        """pool_id -> pool."""
        return {pool.id: pool for pool in self.pools}

    @cached_property
    def blocks(self) -> dict[str, list[Candidate]]:
        """block_id -> its candidates, in order."""
        blocks: dict[str, list[Candidate]] = {}
        for candidate in self.candidates:
            blocks.setdefault(candidate.block, []).append(candidate)
        return blocks


def plan_key(sweep: Sweep, pools: Sequence[Pool]) -> str:
    """Content hash of everything that the candidates of a plan depend on."""
    members = [[pool.id, *(member.id for member in pool.members)] for pool in pools]
    return content_id("plan", [sweep.id, EVALUATION_VERSION, members])


def make_plan(
    sweep: Sweep, fingerprints: Mapping[Choice | Path, str] | None = None, known: Mapping[str, str] | None = None
) -> Plan:
    """The plan of a sweep.

    `fingerprints` stands for what lies in the files of data sets and of models from elsewhere; `known` maps candidates
    that were planned before to their blocks, which they keep.
    """
    pools = pools_of(sweep, fingerprints or {})
    candidates = [c for pool in pools for c in _assign(_unique(pool, sweep), sweep.execution.block, known or {})]
    return Plan(sweep, pools, tuple(candidates))


def _unique(pool: Pool, sweep: Sweep) -> Iterator[Candidate]:
    """The candidates of all grids, each once."""
    seen: set[str] = set()
    for candidate in itertools.chain.from_iterable(_candidates(pool, grid) for grid in sweep.grids):
        if candidate.id not in seen:
            seen.add(candidate.id)
            yield candidate


def _candidates(pool: Pool, grid: Grid) -> Iterator[Candidate]:
    """A grid's candidates: by scaling, then method, then subset, so that kept outputs serve their neighbours."""
    ids = [canonical(member.id) for member in pool.members]
    groups = subsets(grid.subsets, pool.index, len(ids))
    methods = dict.fromkeys([_SINGLE, *grid.methods])
    population = pool.population
    audit = ((each, canonical(each.content)) for each in grid.protocols if is_of(population, each))
    factors = itertools.product(audit, grid.scalings, grid.alignments, grid.repairs, methods)
    for (protocol, told), scaling, alignment, repair, method in factors:
        if not _meaningful(method, alignment, repair) or not _acting(protocol, population, method, scaling):
            continue
        arity = method.entry.arity
        chosen = [(index,) for index in range(len(ids))] if arity == 1 else groups
        pieces = [canonical(choice.content) for choice in (alignment, method, repair, scaling)]
        for subset in chosen:
            if not arity or len(subset) == arity:
                members = ",".join(ids[index] for index in subset)
                name = _candidate_id(members, told, *pieces)
                yield Candidate(name, pool.id, subset, method, alignment, scaling, repair, protocol=protocol)


def _meaningful(method: Choice, alignment: Choice, repair: Choice) -> bool:
    """Whether the factors act on the method at all: outputs cannot be aligned or repaired, nor one member aligned."""
    aligned, repaired = alignment != _UNALIGNED, repair != _UNREPAIRED
    if method.space != "weights":
        return not aligned and not repaired
    return not (aligned and method.entry.arity == 1)


def _acting(protocol: Protocol, population: Population, method: Choice, scaling: Choice) -> bool:
    """Whether a protocol has an outcome of its own; where no switch acts, it is that of the correct one."""
    return protocol == CORRECT_PROTOCOL or population.correct is not None or protocol.acts(method, scaling)


def _candidate_id(members: str, protocol: str, alignment: str, method: str, repair: str, scaling: str) -> str:
    """The id over canonical JSON, whose pieces are given as text: there are many candidates of few pieces."""
    head = f'"alignment":{alignment},"members":[{members}],"method":{method},"protocol":{protocol},"repair":{repair}'
    return content_id("candidate", f'{{{head},"scaling":{scaling},"version":{EVALUATION_VERSION}}}')


def _assign(candidates: Iterator[Candidate], limit: int, known: Mapping[str, str]) -> list[Candidate]:
    """The candidates with their blocks: known ones keep theirs, the others fill new blocks of about `limit` passes."""
    done: list[Candidate] = []
    group: list[Candidate] = []
    cost = 0.0
    for candidate in candidates:
        if candidate.id in known:
            done.append(candidate._replace(block=known[candidate.id]))
            continue
        group.append(candidate)
        cost += candidate.cost
        if cost >= limit:
            done += _block(group)
            group, cost = [], 0.0
    return done + _block(group)


def _block(group: Sequence[Candidate]) -> list[Candidate]:
    """A block named by what it holds."""
    name = content_id("block", [candidate.id for candidate in group])
    return [candidate._replace(block=name) for candidate in group]

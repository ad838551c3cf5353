"""Sweep -> plan: pools, members and candidates with ids and blocks. Nothing is read; every process gets the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sweep.config.protocols import belongs_to
from sweep.config.spec import Grid, Input, Population, Sweep
from sweep.core.choice import PluginConfig
from sweep.core.errors import UserError
from sweep.core.ids import canonical_json, content_id, content_ids, json_fragment
from sweep.core.protocol import CORRECT_PROTOCOL, EvalProtocol
from sweep.plan.candidates import NO_BLOCKS, Candidate, CandidateGroup, CandidateTable, PlannedBlocks, hex_ids
from sweep.plan.pools import Member, Pool, make_pools
from sweep.plan.subsets import subsets

EVALUATION_VERSION = 3
"""Part of candidate ids: raise it when the same candidate gives other numbers."""

_UNALIGNED = PluginConfig("alignments", "none", {})
_UNREPAIRED = PluginConfig("repairs", "none", {})
_SINGLE = PluginConfig("methods", "single", {})


class PlanError(UserError):
    """A candidate that is not in the plan, or a prefix that several have."""


@dataclass(frozen=True)
class Plan:
    """The pools and candidates of a sweep."""

    sweep: Sweep
    pools: tuple[Pool, ...]
    candidates: CandidateTable

    def candidate(self, prefix: str) -> Candidate:
        """The candidate whose id begins with the prefix. Raises PlanError unless there is exactly one."""
        fitting = self.candidates.with_prefix(prefix)
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
        """Content hash of everything that determines the candidates: equal keys, equal candidates."""
        return plan_key(self.sweep, self.pools)

    @cached_property
    def pool_of(self) -> dict[str, Pool]:
        """pool_id -> pool."""
        return {pool.id: pool for pool in self.pools}

    @property
    def blocks(self) -> dict[str, CandidateTable]:
        """block_id -> its candidates, in order."""
        return {name: self.candidates.take(own) for name, own in self.candidates.by_block().items()}


def plan_key(sweep: Sweep, pools: Sequence[Pool]) -> str:
    """Content hash of everything that the candidates of a plan depend on."""
    members = [[pool.id, *(member.id for member in pool.members)] for pool in pools]
    return content_id("plan", [sweep.id, EVALUATION_VERSION, members])


def make_plan(sweep: Sweep, fingerprints: Mapping[Input, str] | None = None, known: PlannedBlocks = NO_BLOCKS) -> Plan:
    """The plan of a sweep.

    `fingerprints` stands for what lies in the files of data sets and of models from elsewhere; `known` are candidates
    that were planned before, which keep their blocks.
    """
    pools = make_pools(sweep, fingerprints or {})
    drawn = [_enumerate(pool, sweep) for pool in pools]
    candidates = _assign_blocks(_concatenate(drawn), [len(each) for each in drawn], sweep.execution.block_size, known)
    return Plan(sweep, pools, candidates)


def _enumerate(pool: Pool, sweep: Sweep) -> CandidateTable:
    """The distinct candidates of all grids, without blocks."""
    members = [canonical_json(member.id) for member in pool.members]
    groups: list[CandidateGroup] = []
    ids = bytearray()
    for grid in sweep.grids:
        written = dict[int, list[bytes]]()  # by arity: the members of each subset as they stand in ids
        for each in _candidate_groups(pool, grid):
            arity = each.method.plugin.arity
            if arity not in written:
                written[arity] = [
                    json_fragment(",".join(members[index] for index in subset)) for subset in each.subsets
                ]
            ids += _candidate_ids(each, written[arity])
            groups.append(each)
    counts = [len(each.subsets) for each in groups]
    columns = np.frombuffer(bytes(ids), "S16"), np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    places = np.concatenate([np.zeros(0, np.int32), *(np.arange(count, dtype=np.int32) for count in counts)])
    everything = CandidateTable(groups, [], *columns, places, np.full(len(places), -1, np.int32))
    return _group_by_alignment(everything.take(np.sort(np.unique(everything.ids, return_index=True)[1])))


def _group_by_alignment(candidates: CandidateTable) -> CandidateTable:
    """The candidates with aligned ones last, grouped by subset, so that each subset is aligned once."""
    is_aligned = candidates.by_group(lambda group: group.alignment != _UNALIGNED, np.bool_)
    aligned = np.flatnonzero(is_aligned)
    numbers: dict[tuple[PluginConfig, tuple[int, ...]], int] = {}
    keys = [numbers.setdefault((each.alignment, each.subset), len(numbers)) for each in candidates.take(aligned)]
    return candidates.take(np.concatenate([np.flatnonzero(~is_aligned), aligned[np.argsort(keys, kind="stable")]]))


def _candidate_groups(pool: Pool, grid: Grid) -> Iterator[CandidateGroup]:
    """The groups of a grid, methods innermost, so that consecutive candidates share cached outputs."""
    count = len(pool.members)
    population = pool.population
    groups = subsets(grid.subsets, pool.index, count)
    chosen: dict[int, Sequence[tuple[int, ...]]] = {0: groups, 1: [(index,) for index in range(count)]}
    protocols = [each for each in grid.protocols if belongs_to(population, each)]
    methods = dict.fromkeys([_SINGLE, *grid.methods])
    factors = itertools.product(protocols, grid.scalings, grid.alignments, grid.repairs, methods)
    for protocol, scaling, alignment, repair, method in factors:
        if _is_applicable(method, alignment, repair, protocol) and _has_effect(protocol, population, method, scaling):
            arity = method.plugin.arity
            if arity not in chosen:
                chosen[arity] = [subset for subset in groups if len(subset) == arity]
            yield CandidateGroup(pool.id, chosen[arity], method, alignment, scaling, repair, protocol)


def _is_applicable(method: PluginConfig, alignment: PluginConfig, repair: PluginConfig, protocol: EvalProtocol) -> bool:
    """Whether the combination is possible: outputs cannot be aligned or repaired, and one member cannot be aligned.

    A repair runs in single precision and evaluation mode, so it excludes protocols that act on every forward pass.
    """
    aligned = alignment != _UNALIGNED
    repaired = repair != _UNREPAIRED
    if method.space != "weights":
        return not aligned and not repaired
    return not (aligned and method.plugin.arity == 1) and not (repaired and protocol.everywhere)


def _has_effect(protocol: EvalProtocol, population: Population, method: PluginConfig, scaling: PluginConfig) -> bool:
    """Whether a protocol changes the result; without a switch that acts, it equals the correct protocol."""
    return protocol == CORRECT_PROTOCOL or population.reference is not None or protocol.acts(method, scaling)


def _candidate_ids(factors: CandidateGroup, members: Iterable[bytes]) -> bytes:
    """The ids of a group's candidates, 16 bytes each; `members` are the member ids of each subset as JSON fragments.

    The JSON is joined by hand, since a group has many candidates and few different pieces. It must be canonical (see
    `sweep/core/ids.py`): keys in sorted order.
    """
    choices = (factors.alignment, factors.method, factors.repair, factors.scaling, factors.protocol)
    alignment, method, repair, scaling, protocol = (canonical_json(each.id_content) for each in choices)
    tail = f'"method":{method},"protocol":{protocol},"repair":{repair},"scaling":{scaling}'
    before = f'{{"alignment":{alignment},"members":['
    after = f'],{tail},"version":{EVALUATION_VERSION}}}'
    return content_ids("candidate", before, members, after)


def _concatenate(pools: Sequence[CandidateTable]) -> CandidateTable:
    """The candidates of all pools, one after another."""
    factors = [each for pool in pools for each in pool.groups]
    begins = np.cumsum([0, *(len(pool.groups) for pool in pools)], dtype=np.int32)
    shifted = [pool.group_index + begin for pool, begin in zip(pools, begins, strict=False)]
    ids, place, block = (
        np.concatenate([getattr(each, name) for each in pools]) for name in ("ids", "subset_index", "block")
    )
    return CandidateTable(factors, [], ids, np.concatenate(shifted), place, block)


def _assign_blocks(
    candidates: CandidateTable, counts: Sequence[int], limit: int, known: PlannedBlocks
) -> CandidateTable:
    """The candidates with blocks: known ones keep theirs, others fill new ones; `counts` are candidates per pool."""
    block = known.blocks_of(candidates.ids)
    names = list(known.blocks)
    costs = candidates.costs
    start = 0
    for count in counts:
        new = np.flatnonzero(block[start : start + count] < 0) + start
        start += count
        digits = hex_ids(candidates.ids[new])
        for own in _groups(costs[new].tolist(), limit):
            block[new[own]] = len(names)
            names.append(content_id("block", digits[own].astype(str).tolist()))
    return replace(candidates, blocks=names, block=block)


def _groups(costs: Sequence[float], limit: int) -> Iterator[slice]:
    """Slices of consecutive items that cost at least `limit` together; the last may cost less."""
    start = 0
    cost = 0.0
    for stop, each in enumerate(costs, 1):
        cost += each
        if cost >= limit or stop == len(costs):
            yield slice(start, stop)
            start = stop
            cost = 0.0

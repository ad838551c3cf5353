"""The weights of planned pools: from the run folder to the shared matrix, and candidates back to models."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor, nn

from sweep.batching import batching_of, network_of
from sweep.candidate import Evaluation
from sweep.catalogue import Candidate
from sweep.data import IN_MEMORY, Dataset
from sweep.evaluate import Batching
from sweep.files import StoreError
from sweep.grid import Choice
from sweep.identity import content_id
from sweep.lineage import Member, Pool
from sweep.models import build, differences, layout_of, to_state
from sweep.outputs import Bench, PoolWeights
from sweep.spec import Sweep
from sweep.stacked import Stack
from sweep.store import RunFolder


@cache
def dataset_of(choice: Choice) -> Dataset:
    """A data set, made once per process. Raises DataError."""
    dataset = choice.entry.function(**choice.settings)
    assert isinstance(dataset, Dataset)
    return dataset


def new_model(member: Member, dataset: Dataset) -> nn.Module:
    """A member's model with its initial weights."""
    architecture = member.population.architecture
    shape = (len(dataset.classes), dataset.channels, dataset.size)
    return build(architecture.entry.function, shape, member.init_seed, **architecture.settings)


def failed_members(folder: RunFolder) -> dict[str, str]:
    """Members and starts without weights, and why."""
    rows = folder.read("members", ["member_id", "status", "error"]).to_pylist()
    return {row["member_id"]: row["error"] or row["status"] for row in rows if row["status"] != "ok"}


def pool_weights(
    folder: RunFolder, pool: Pool, dataset: Dataset, failed: Mapping[str, str], bound: int = IN_MEMORY
) -> PoolWeights:
    """The weights of a pool from the run folder; `failed` maps members without weights to their causes.

    A matrix of more bytes than the bound is mapped from a file. Raises StoreError for weights that cannot be read or
    are of another architecture, by its first three differences.
    """
    model, digests = new_model(pool.members[0], dataset), folder.digests()
    layout, rows = layout_of(model, len(dataset.classes)), [*pool.members, *([pool.start] if pool.start else [])]

    def state(member: Member) -> dict[str, Tensor] | None:
        if member.id in failed:
            return None
        weights = folder.load_weights(member.id, digests.get(member.id))
        problems = differences(weights, layout)
        if problems:
            file = folder.weights_file(member.id)
            raise StoreError(f"{file} does not fit {pool.population.architecture.name}: {'; '.join(problems[:3])}")
        return weights

    stack = None
    if 4 * len(rows) * layout.n_entries > bound:
        files = tuple(None if member.id in failed else folder.weights_file(member.id) for member in rows)
        held = [None if member.id in failed else digests.get(member.id, member.id) for member in rows]
        stack = Stack(files, layout, content_id("weights", held))
    weights = PoolWeights.gathered(map(state, rows), len(rows), layout, has_start=pool.start is not None, stack=stack)
    causes = {index: failed[member.id] for index, member in enumerate(pool.members) if member.id in failed}
    return weights.with_causes(causes)


def bench_of(pool: Pool, weights: PoolWeights, dataset: Dataset, device: str, batching: Batching) -> Bench:
    """The bench on which candidates of a pool are evaluated."""
    return Bench(weights, pool.population.architecture, dataset, torch.device(device), batching)


def stored_bench(sweep: Sweep, pool: Pool) -> Bench:
    """The bench of a pool of a run folder, in this process, on the CPU."""
    folder, dataset = RunFolder(sweep.folder), dataset_of(pool.population.dataset)
    weights = pool_weights(folder, pool, dataset, failed_members(folder))
    batching = batching_of(sweep.execution.batch, folder.info(), network_of(pool, dataset))
    return bench_of(pool, weights, dataset, "cpu", batching)


def model_of(bench: Bench, candidate: Candidate) -> nn.Module:
    """A new model with the merged weights of a candidate in weight space."""
    Evaluation(bench, candidate).load()
    counters = {name: torch.from_numpy(array.copy()) for name, array in bench.pool.counters.items()}
    shape = (bench.classes, bench.dataset.channels, bench.dataset.size)
    model = build(bench.architecture.entry.function, shape, 0, **bench.architecture.settings)
    model.load_state_dict(to_state(bench.row.cpu(), bench.layout, counters))
    return model.eval()

"""A merge that is loaded, mended on training images: what a repair is brought."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sweep.core.ids import canonical_json, derive_seed
from sweep.core.weights import LinearMerge, to_convex_weights
from sweep.evaluation.engine import PoolEngine, SubsetWeights
from sweep.plan.candidates import Candidate

MergeTerms = tuple[tuple[int, ...], list[float], Tensor]
"""What a merge adds up: rows of the source's matrix, a coefficient each, and factors (rows, tensors)."""

_KEPT = 128  # measured members: for every candidate that they are in


class TrainingImages:
    """Training images by their positions, as networks see them.

    Channels come last in memory on a CPU, whatever batches the run evaluates in: a repair gives the same bits then.
    """

    def __init__(self, bench: PoolEngine) -> None:
        self._engine = bench

    def __len__(self) -> int:
        return len(self._engine.split("train").labels)

    def __getitem__(self, chosen: Tensor) -> Tensor:
        split = self._engine.split("train")
        layout = torch.channels_last if split.labels.device.type == "cpu" else torch.contiguous_format
        return split.normalize(split.images[chosen.to(split.labels.device)]).contiguous(memory_format=layout)


def apply_repair(bench: PoolEngine, candidate: Candidate, source: SubsetWeights, parts: MergeTerms) -> None:
    """Mend the merge of these parts, which is loaded; images that are passed on the way are counted.

    What is drawn is the same for all candidates of a pool.
    """
    repair = candidate.repair
    seed = derive_seed(candidate.pool_id, "repair", canonical_json(repair.id_content))
    provided = {
        "model": bench.model,
        "images": TrainingImages(bench),
        "members": partial(_measure_members, bench, candidate, source, parts),
        "generator": torch.Generator().manual_seed(seed),
    }
    with _counted(bench):
        repair.call(**provided)


@contextmanager
def _counted(bench: PoolEngine) -> Iterator[None]:
    """Count the images that are passed."""

    def count(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        bench.forward_passes += len(inputs[0])

    handle = bench.model.register_forward_pre_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _measure_members(
    bench: PoolEngine, candidate: Candidate, source: SubsetWeights, parts: MergeTerms, measure: Callable[[], Any]
) -> list[tuple[float, Any]]:
    """What a function measures with each part loaded, and its share of the merge, which is loaded again at the end.

    Shares are those that running statistics are merged by: coefficients made convex.
    """
    merged = bench.flat_weights.clone()
    rows, coefficients, factors = parts
    found = []
    for row, share, own in zip(rows, to_convex_weights(coefficients), factors, strict=True):
        if share:
            found.append((share, _cached(bench, candidate, source, bench.one_member_merge(row, own), measure)))
    bench.flat_weights.copy_(merged)
    return found


def _cached(
    bench: PoolEngine, candidate: Candidate, source: SubsetWeights, part: LinearMerge, measure: Callable[[], Any]
) -> Any:
    """What is measured of a part, which is kept: the same repair measures the same images."""
    key, kept = (candidate.repair, source.key, part), bench.repair_cache
    if key not in kept:
        bench.load(source, part)
        kept[key] = measure()
    kept.move_to_end(key)
    while len(kept) > _KEPT:
        kept.popitem(last=False)
    return kept[key]

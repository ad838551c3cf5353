"""Repairs: a merged model in the engine is corrected on training images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sweep.core.ids import canonical_json, derive_seed
from sweep.core.weights import MergeCoefficients, to_convex_weights
from sweep.evaluation.engine import PoolEngine, SubsetWeights
from sweep.evaluation.members import MergeTerms
from sweep.plan.candidates import Candidate


class TrainingImages:
    """Training images by their positions, normalised as networks see them.

    Channels come last in memory on a CPU, whatever batches the run evaluates in: a repair then gives the same bits.
    """

    def __init__(self, engine: PoolEngine) -> None:
        self._engine = engine

    def __len__(self) -> int:
        return len(self._engine.split("train").labels)

    def __getitem__(self, indices: Tensor) -> Tensor:
        split = self._engine.split("train")
        layout = torch.channels_last if split.labels.device.type == "cpu" else torch.contiguous_format
        return split.normalize(split.images[indices.to(split.labels.device)]).contiguous(memory_format=layout)


def apply_repair(engine: PoolEngine, candidate: Candidate, weights: SubsetWeights, terms: MergeTerms) -> None:
    """Apply the candidate's repair to the loaded merge of these terms.

    The generator has the same seed for all candidates of a pool.
    """
    repair = candidate.repair
    seed = derive_seed(candidate.pool_id, "repair", canonical_json(repair.id_content))
    provided = {
        "model": engine.model,
        "images": TrainingImages(engine),
        "members": partial(_measure_members, engine, candidate, weights, terms),
        "generator": torch.Generator().manual_seed(seed),
    }
    repair.call(**provided)


def _measure_members(
    engine: PoolEngine,
    candidate: Candidate,
    weights: SubsetWeights,
    terms: MergeTerms,
    measure: Callable[[], Any],
) -> list[tuple[float, Any]]:
    """Load each merged member in turn, call `measure`, and return (weight in the merge, result) pairs.

    Weights are those by which running statistics are merged: coefficients clipped at 0 that sum to 1. The merge is
    loaded again at the end.
    """
    merged = engine.flat_weights.clone()
    shares = to_convex_weights(terms.coefficients)
    results = []
    for row, share, factors in zip(terms.rows, shares, terms.factors, strict=True):
        if share:
            member = engine.one_member_merge(row, factors)
            results.append((share, _measure_once(engine, candidate, weights, member, measure)))
    engine.flat_weights.copy_(merged)
    return results


def _measure_once(
    engine: PoolEngine,
    candidate: Candidate,
    weights: SubsetWeights,
    member: MergeCoefficients,
    measure: Callable[[], Any],
) -> Any:
    """The result of `measure` with one member loaded; cached, since the same repair measures the same images."""

    def load_and_measure() -> Any:
        engine.load(weights, member)
        return measure()

    return engine.repair_cache.get_or_make((candidate.repair, weights.key, member), load_and_measure)

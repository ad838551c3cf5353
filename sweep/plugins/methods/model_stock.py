"""Model Stock."""

from __future__ import annotations

import torch
from torch import Tensor

from sweep.core.weights import Members, ParameterLayout, Weights
from sweep.plugins.methods._task_vectors import columns_of, gram, learnable

CITES = ("jang2024stock",)


def model_stock(members: Members, base: Weights, layout: ParameterLayout) -> Weights:
    """t times the members' mean plus (1 - t) times the base for each tensor, t from the angle between task vectors.

    Model Stock (arXiv 2403.19522): t = N cos / (1 + (N - 1) cos), between 0 and 1, with cos the mean cosine of pairs
    of task vectors (0 where one is zero). FusionBench takes the cosine of the mean angle, which differs for N > 2;
    mergekit sets cosines of tensors that hardly moved to 0. For one member t is 1.
    """
    merged = base.clone()
    for entry in learnable(layout):
        columns = columns_of(entry)
        vectors = members[:, columns] - base[columns]
        merged[columns] += _share(gram(vectors)) * vectors.mean(0)
    return merged


def _share(products: Tensor) -> float:
    """The share t of the mean, from inner products of task vectors (members, members)."""
    count = len(products)
    if count == 1:
        return 1.0
    norms = products.diagonal().sqrt()
    scales = norms[:, None] * norms
    cosines = torch.where(scales > 0, products / scales.clamp(min=1e-300), 0)
    cosine = float(cosines.sum() - cosines.diagonal().sum()) / (count * (count - 1))
    return min(count * cosine / (1 + (count - 1) * cosine), 1.0) if cosine > 0 else 0.0

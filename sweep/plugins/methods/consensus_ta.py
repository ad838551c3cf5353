"""Consensus task arithmetic."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor

from sweep.core.weights import Members, Weights
from sweep.plugins.methods._task_vectors import Scale, merge_in_chunks

CITES = ("wang2024localizing",)
EXEMPT = {"copies": "it adds task vectors: N copies of a member are N times its task vector"}


def consensus_ta(
    members: Members,
    base: Weights,
    *,
    mask: Annotated[float, Ge(0), Le(10)] = 0.4,
    agree: Annotated[int, Ge(1)] = 2,
    scale: Scale = 0.3,
) -> Weights:
    """Task arithmetic on the entries that matter to at least `agree` members (consensus TA, arXiv 2405.07813).

    An entry matters to a member if its task entry is larger in magnitude than `mask` times the sum of the others'. The
    base plus `scale` times the summed task vectors there; the base elsewhere, so everywhere for fewer members than
    `agree`. The authors' code; FusionBench compares with weights instead of task entries.
    """

    def merged(vectors: Tensor, _: slice) -> Tensor:
        total = vectors.sum(0)
        counts = (vectors.abs() > mask * (total - vectors).abs()).sum(0)
        return scale * total * (counts >= agree)

    return merge_in_chunks(members, base, merged)

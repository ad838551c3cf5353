"""What a published script on patterns in weights calls mixup: templates of a trained model are mixed."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from sweep.core.weights import OneMember, ParameterLayout, Probability, Weights

CITES = ("wang2024rethinking",)


def published_mixup(
    members: OneMember, layout: ParameterLayout, *, share: Probability = 0.5, apart: Annotated[int, Ge(1)] = 5
) -> Weights:
    """Mixes the templates of one model: row i of the head becomes (1 - share) w_i + share w_{i + apart}, cyclically.

    Nothing is trained (`Linear_vis_cifar100_mixup.py`, arXiv 2411.09263). For training with mixup see `train.mixup`.
    """
    mixed = members[0].clone()
    for entry in layout.head:
        if entry is not None:
            rows = members[0, entry.offset : entry.stop].view(entry.shape)
            mixed[entry.offset : entry.stop] = ((1 - share) * rows + share * rows.roll(-apart, 0)).reshape(-1)
    return mixed

"""What the published scripts on patterns in weights call mixup."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from sweep.core.weights import OneMember, ParameterLayout, Probability, Weights

CITES = ("wang2024rethinking",)


def published_mixup(
    members: OneMember, layout: ParameterLayout, *, share: Probability = 0.5, apart: Annotated[int, Ge(1)] = 5
) -> Weights:
    """The templates of a trained model mixed: row i of the head is (1 - share) w_i + share w_{i + apart}, in a circle.

    Nothing is trained (`Linear_vis_cifar100_mixup.py`, arXiv 2411.09263); training with mixup is `train.mixup`.
    """
    mixed = members[0].clone()
    for entry in layout.head:
        if entry is not None:
            rows = members[0, entry.offset : entry.stop].view(entry.shape)
            mixed[entry.offset : entry.stop] = ((1 - share) * rows + share * rows.roll(-apart, 0)).reshape(-1)
    return mixed

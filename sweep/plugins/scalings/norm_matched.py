"""Members and their soup at equal norm, to separate the effect of averaging from that of smaller weights."""

from __future__ import annotations

from typing import Literal

import torch

from sweep.core.weights import TRAINABLE_ROLES, Members, ParameterLayout, ScaleFactors

CITES = ()


def norm_matched(members: Members, layout: ParameterLayout, *, to: Literal["soup", "members"] = "soup") -> ScaleFactors:
    """Scales trainable tensors so that members have the norm of their uniform soup, or the soup the norm of members.

    `to: soup` scales each tensor of each member to the norm of that tensor in the soup of the subset; `to: members`
    multiplies a tensor of all members by one factor, so that their soup has the mean norm of the members. (members,
    entries) -> (members, tensors). The soup of N members of equal norm and cosine similarity rho has sqrt((1 + (N - 1)
    rho) / N) times their norm, so it is always smaller. Tensors of norm 0 do not change.
    """
    factors = torch.ones(len(members), len(layout.entries), dtype=torch.float64)
    for column, entry in enumerate(layout.entries):
        if entry.role not in TRAINABLE_ROLES:
            continue
        tensors = members[:, entry.offset : entry.stop].double()
        own = tensors.norm(dim=1)
        soup = tensors.mean(0).norm()
        found = soup / own if to == "soup" else (own.mean() / soup).expand(len(members))
        factors[:, column] = found.where(found.isfinite() & (found > 0), 1.0)
    return factors.as_subclass(ScaleFactors)

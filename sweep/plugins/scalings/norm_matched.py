"""Members and their soup at one another's norm, to tell what averaging does from what smaller weights do."""

from __future__ import annotations

from typing import Literal

import torch

from sweep.core.weights import TRAINABLE_ROLES, Members, ParameterLayout, ScaleFactors

CITES = ()


def norm_matched(members: Members, layout: ParameterLayout, *, to: Literal["soup", "members"] = "soup") -> ScaleFactors:
    """Multiply learnable tensors so that members have the norm of their uniform soup, or the soup that of its members.

    `to: soup` shrinks each tensor of each member to the norm of that tensor in the soup of the subset; `to: members`
    multiplies all members' by one factor, so that their soup has the mean norm of the members. (members, entries) ->
    (members, tensors). Members of equal norm and of cosine rho have a soup of norm sqrt((1 + (N - 1) rho) / N) times
    theirs, so a soup is always smaller. A tensor without norm stays as it is.
    """
    factors = torch.ones(len(members), len(layout.entries), dtype=torch.float64)
    for column, entry in enumerate(layout.entries):
        if entry.role not in TRAINABLE_ROLES:
            continue
        tensors = members[:, entry.offset : entry.stop].double()
        own, soup = tensors.norm(dim=1), tensors.mean(0).norm()
        found = soup / own if to == "soup" else (own.mean() / soup).expand(len(members))
        factors[:, column] = found.where(found.isfinite() & (found > 0), 1.0)
    return factors.as_subclass(ScaleFactors)

"""Task arithmetic."""

from __future__ import annotations

from sweep.core.weights import LinearCombination, Members, Weights
from sweep.plugins.methods._task_vectors import Scale

CITES = ("ilharco2023editing",)
EXEMPT = {"copies": "it adds task vectors: N copies of a member are N times its task vector"}


def task_arithmetic(members: Members, base: Weights, *, scale: Scale = 0.3) -> LinearCombination:
    """The base plus `scale` times the sum of the members' differences to it: task arithmetic (arXiv 2212.04089).

    With `scale` 1 / N it is the uniform soup. The base's coefficient is 1 - N scale, in running statistics too, where
    negative coefficients count as zero.
    """
    return (base + scale * (members - base).sum(0)).as_subclass(LinearCombination)

"""Weight matching of Git Re-Basin (arXiv 2209.04836, algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from sweep.core.permutations import UnitPermutation, apply_permutation, coupled_permutations, unit_slices

CITES = ("ainsworth2023git",)

_ROUNDS = 100
_GAIN = 1e-12


def weight_matching(members: Tensor, permutations: tuple[UnitPermutation, ...], generator: torch.Generator) -> Tensor:
    """Permutes hidden units so that the members' weights are close: the second to the first of two (arXiv 2209.04836).

    Of three or more, each is matched to the mean of the others, in random order, until none changes. Takes and returns
    (members, entries). Running statistics are permuted along but do not enter the distance. Raises ValueError for
    weights that are not finite.
    """
    if not bool(torch.isfinite(members).all()):
        raise ValueError("weights that are not finite cannot be matched")
    aligned = members.clone()
    coupled = coupled_permutations(permutations)
    if len(aligned) == 2:
        _match(aligned[1], aligned[0], permutations, coupled, set(range(len(permutations))), generator)
        return aligned
    pending = [set(range(len(permutations))) for _ in aligned if len(aligned) > 1]
    for _ in range(_ROUNDS):
        for index in torch.randperm(len(pending), generator=generator).tolist():
            others = (aligned.sum(0, dtype=torch.float64) - aligned[index]) / (len(aligned) - 1)
            moved = _match(aligned[index], others, permutations, coupled, pending[index], generator)
            for other in pending[:index] + pending[index + 1 :]:
                other.update(moved, *(coupled[each] for each in moved))
        if not any(pending):
            break
    return aligned


def _match(
    row: Tensor,
    reference: Tensor,
    permutations: tuple[UnitPermutation, ...],
    coupled: list[set[int]],
    pending: set[int],
    generator: torch.Generator,
) -> set[int]:
    """Permute weights (entries,) in place until no single permutation brings them closer; returns those that changed.

    `pending` holds the indices of the permutations to try: all others are still optimal, since nothing that they depend
    on has changed.
    """
    moved = set[int]()
    for _ in range(_ROUNDS):
        for index in torch.randperm(len(permutations), generator=generator).tolist():
            if index not in pending:
                continue
            pending.remove(index)
            if _improve(row, reference, permutations[index]):
                pending |= coupled[index]
                moved.add(index)
        if not pending:
            break
    return moved


def _improve(row: Tensor, reference: Tensor, permutation: UnitPermutation) -> bool:
    """Apply the best order of one permutation, all others fixed; whether it brings the weights closer."""
    from scipy.optimize import linear_sum_assignment

    likeness = torch.zeros(permutation.units, permutation.units, dtype=torch.float64, device=row.device)
    for place in permutation.places:
        if place.is_trainable:
            likeness += unit_slices(reference, place).double() @ unit_slices(row, place).double().T
    _, order = linear_sum_assignment(likeness.cpu().numpy(), maximize=True)
    best = torch.from_numpy(order)
    gain = likeness.cpu().gather(1, best[:, None])[:, 0] - likeness.diagonal().cpu()
    if float(gain.sum()) <= _GAIN:
        return False
    apply_permutation(row, permutation, best)
    return True

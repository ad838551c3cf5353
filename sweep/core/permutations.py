"""Permutations of hidden units that leave the function of a network unchanged: their axes and how to apply them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from sweep.core.weights import TRAINABLE_ROLES, TensorSpec


class PermutedAxis(NamedTuple):
    """One axis of one tensor on which a permutation acts."""

    entry: TensorSpec
    axis: int
    positions: Tensor  # (units, positions per unit); several per unit if a channel was flattened

    @property
    def is_trainable(self) -> bool:
        """Whether the tensor is trainable, unlike running statistics."""
        return self.entry.role in TRAINABLE_ROLES


class UnitPermutation(NamedTuple):
    """Units that can be permuted if the same permutation is applied to every axis in `places`."""

    units: int
    places: tuple[PermutedAxis, ...]


def unit_slices(weights: Tensor, permuted: PermutedAxis) -> Tensor:
    """The entries of each unit along one permuted axis, (units, entries per unit), from flat weights (entries,)."""
    slices = _axis_first(weights, permuted)[permuted.positions.flatten()]
    return slices.reshape(len(permuted.positions), -1)


def apply_permutation(weights: Tensor, permutation: UnitPermutation, order: Tensor) -> None:
    """Permute flat weights (entries,) in place: unit `order[i]` moves to index i, with its running statistics."""
    for permuted in permutation.places:
        tensor = _axis_first(weights, permuted)
        tensor[permuted.positions.flatten()] = tensor[permuted.positions[order].flatten()]


def coupled_permutations(permutations: Sequence[UnitPermutation]) -> list[set[int]]:
    """For each permutation the indices of the others that permute an axis of the same trainable tensor."""
    acting_on: dict[str, set[int]] = {}
    for index, permutation in enumerate(permutations):
        for permuted in permutation.places:
            if permuted.is_trainable:
                acting_on.setdefault(permuted.entry.name, set()).add(index)
    coupled: list[set[int]] = [set() for _ in permutations]
    for indices in acting_on.values():
        for index in indices:
            coupled[index] |= indices - {index}
    return coupled


def _axis_first(weights: Tensor, permuted: PermutedAxis) -> Tensor:
    """A view of the permuted tensor in flat weights, with the permuted axis moved to the front."""
    entry = permuted.entry
    return weights[entry.offset : entry.stop].view(entry.shape).movedim(permuted.axis, 0)

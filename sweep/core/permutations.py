"""Permutations of hidden units that leave what a network computes as it is: where each acts, and carrying one out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from sweep.core.weights import TRAINABLE_ROLES, TensorSpec


class PermutedAxis(NamedTuple):
    """One axis of one tensor on which a permutation acts."""

    entry: TensorSpec
    axis: int
    positions: Tensor  # (units, times): a unit has several where its channel was flattened

    @property
    def is_trainable(self) -> bool:
        """Whether the tensor is trained, unlike running statistics."""
        return self.entry.role in TRAINABLE_ROLES


class UnitPermutation(NamedTuple):
    """Units that can change places with one another, if they do so at every place at once."""

    units: int
    places: tuple[PermutedAxis, ...]


def unit_slices(row: Tensor, place: PermutedAxis) -> Tensor:
    """What belongs to each unit at a place, (units, entries each), of weights (entries,)."""
    along = _along(row, place)[place.positions.flatten()]
    return along.reshape(len(place.positions), -1)


def apply_permutation(row: Tensor, permutation: UnitPermutation, order: Tensor) -> None:
    """Permute weights (entries,) in place: unit i becomes what unit `order[i]` was, running statistics included."""
    for place in permutation.places:
        along = _along(row, place)
        along[place.positions.flatten()] = along[place.positions[order].flatten()]


def coupled_permutations(permutations: Sequence[UnitPermutation]) -> list[set[int]]:
    """For each permutation the others, by index, that act on a learnable tensor which it acts on, too."""
    acting: dict[str, set[int]] = {}
    for index, permutation in enumerate(permutations):
        for place in permutation.places:
            if place.is_trainable:
                acting.setdefault(place.entry.name, set()).add(index)
    found: list[set[int]] = [set() for _ in permutations]
    for together in acting.values():
        for index in together:
            found[index] |= together - {index}
    return found


def _along(row: Tensor, place: PermutedAxis) -> Tensor:
    """A tensor in its row, the permuted axis first; writing it writes the row."""
    entry = place.entry
    return row[entry.offset : entry.stop].view(entry.shape).movedim(place.axis, 0)

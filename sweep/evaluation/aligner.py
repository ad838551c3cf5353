"""Members of one pool brought into an order of hidden units in which they fit one another."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from sweep.core.choice import PluginConfig
from sweep.core.ids import canonical_json, derive_seed
from sweep.core.permutations import UnitPermutation
from sweep.core.weights import ParameterLayout
from sweep.model.tracing import find_permutations

_KEPT_BYTES = 1 << 29


@dataclass
class Aligner:
    """Aligned members of subsets of one pool; the last ones are kept, for methods, scalings and splits share them."""

    model: nn.Module
    paper: Callable[[], nn.Module]  # makes the same network without memory
    layout: ParameterLayout
    matrix: Tensor  # (members + starts, entries)
    images: tuple[int, int]  # channels, size
    _kept: OrderedDict[tuple[PluginConfig, tuple[int, ...]], Tensor] = field(default_factory=OrderedDict)
    _kept_bytes: int = 0

    @cached_property
    def permutations(self) -> tuple[UnitPermutation, ...]:
        """What may be permuted in the network. Raises AlignmentError."""
        return find_permutations(self.paper(), self.layout, *self.images)

    def aligned(self, alignment: PluginConfig, subset: tuple[int, ...], pool_id: str) -> Tensor:
        """The members of a subset, aligned to one another, (members, entries); not to be written to."""
        key = (alignment, subset)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        self._kept[key] = aligned = self._align(alignment, subset, pool_id)
        self._kept_bytes += aligned.nbytes
        while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return aligned

    def _align(self, alignment: PluginConfig, subset: tuple[int, ...], pool_id: str) -> Tensor:
        seed = derive_seed(pool_id, "alignment", canonical_json([alignment.id_content, subset]))
        provided = {
            "members": self.matrix[list(subset)],  # a copy
            "model": self.model,
            "generator": torch.Generator().manual_seed(seed),
            **({"permutations": self.permutations} if "permutations" in alignment.plugin.needs else {}),
        }
        aligned: Tensor = alignment.call(**provided)
        return aligned

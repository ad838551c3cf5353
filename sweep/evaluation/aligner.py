"""Members of one pool with their hidden units reordered so that they match one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from sweep.core.choice import PluginConfig
from sweep.core.ids import canonical_json, derive_seed
from sweep.core.permutations import UnitPermutation
from sweep.core.weights import ParameterLayout
from sweep.evaluation.cache import BoundedCache
from sweep.model.tracing import find_permutations

_CACHE_BYTES = 1 << 29


@dataclass
class Aligner:
    """Aligns the members of subsets of one pool. Results are cached: methods, scalings and splits share them."""

    model: nn.Module
    make_meta_model: Callable[[], nn.Module]  # the same network without memory
    layout: ParameterLayout
    matrix: Tensor  # (members + starts, entries)
    images: tuple[int, int]  # channels, size
    cache: BoundedCache[tuple[PluginConfig, tuple[int, ...]], Tensor] = field(
        default_factory=lambda: BoundedCache(_CACHE_BYTES, lambda aligned: aligned.nbytes)
    )

    @cached_property
    def permutations(self) -> tuple[UnitPermutation, ...]:
        """The permutations of hidden units that leave the network's outputs as they are. Raises AlignmentError."""
        return find_permutations(self.make_meta_model(), self.layout, *self.images)

    def aligned(self, alignment: PluginConfig, subset: tuple[int, ...], pool_id: str) -> Tensor:
        """The members of a subset, aligned to one another, (members, entries); not to be written to."""
        return self.cache.get_or_make((alignment, subset), partial(self._align, alignment, subset, pool_id))

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

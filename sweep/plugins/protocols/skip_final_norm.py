"""Features taken before the final normalisation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from sweep.core.forward_options import ForwardOptions


@contextmanager
def skip_final_norm(extractor: nn.Module) -> Iterator[ForwardOptions]:
    """Feature methods read timm transformers before their final norm layer; other networks do not change.

    The feature extractor of arXiv 2411.09263 ends at the last block, but the head expects normalised features.
    """
    norms = [(module, module.norm) for module in extractor.modules() if _ends_in_norm(module)]
    for module, _ in norms:
        module.norm = nn.Identity()
    try:
        yield ForwardOptions()
    finally:
        for module, norm in norms:
            module.norm = norm


def _ends_in_norm(module: nn.Module) -> bool:
    """Whether a module is a transformer of timm, whose features end with the layer `norm`."""
    parts = (getattr(module, name, None) for name in ("blocks", "norm"))
    return hasattr(module, "forward_features") and all(isinstance(part, nn.Module) for part in parts)

"""Features that have not passed the last normalisation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from sweep.core.forward_options import ForwardOptions


@contextmanager
def skip_final_norm(extractor: nn.Module) -> Iterator[ForwardOptions]:
    """Methods on features get those of timm's transformers from before the final norm; other networks are as ever.

    The published feature extractor ends at the last block, and the head expects what the norm makes of it
    (arXiv 2411.09263).
    """
    kept = [(module, module.norm) for module in extractor.modules() if _ends_in_norm(module)]
    for module, _ in kept:
        module.norm = nn.Identity()
    try:
        yield ForwardOptions()
    finally:
        for module, norm in kept:
            module.norm = norm


def _ends_in_norm(module: nn.Module) -> bool:
    """Whether a module is a transformer as timm builds them, whose features end with `norm`."""
    parts = (getattr(module, name, None) for name in ("blocks", "norm"))
    return hasattr(module, "forward_features") and all(isinstance(part, nn.Module) for part in parts)

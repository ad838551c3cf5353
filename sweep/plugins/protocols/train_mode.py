"""Members and merges tested as they are trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import torch
from annotated_types import Ge
from torch import nn

from sweep.core.forward_options import ForwardOptions


@contextmanager
def train_mode(reported: nn.Module, *, batch: Annotated[int, Ge(1)] = 64) -> Iterator[ForwardOptions]:
    """What is reported comes from passes in train mode, with dropout and statistics of batches; searches do not.

    The published script never calls `eval()` before its tests (arXiv 2411.09263), so that they depend on `batch`.
    """
    kept = [(buffer, buffer.clone()) for buffer in reported.buffers()]
    reported.train()
    try:
        yield ForwardOptions(batch_size=batch, min_batch_size=min(batch, 2))
    finally:
        reported.eval()
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)

"""Members and merges evaluated in train mode."""

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
    """Reported outputs come from train mode, with dropout and batch statistics; greedy searches score in eval mode.

    The script of arXiv 2411.09263 never calls `eval()` before its tests, so results depend on the size `batch`.
    """
    originals = [(buffer, buffer.clone()) for buffer in reported.buffers()]
    reported.train()
    try:
        yield ForwardOptions(batch_size=batch, min_batch_size=min(batch, 2))
    finally:
        reported.eval()
        with torch.no_grad():
            for buffer, before in originals:
                buffer.copy_(before)

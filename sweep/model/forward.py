"""A forward pass of a model over a split: logits, and the features that reach its head."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sweep.core.capture import capture_inputs
from sweep.core.forward_options import ForwardOptions
from sweep.model.split import Batching, DeviceSplit


class Outputs(NamedTuple):
    """Outputs of a network on a split."""

    logits: Tensor  # (examples, classes)
    features: Tensor | None = None  # (examples, features): inputs of the head
    head: tuple[Tensor, Tensor] | None = None  # weight (classes, features), bias (classes,)


def forward_split(
    model: nn.Module,
    split: DeviceSplit,
    batching: Batching,
    head: nn.Linear | None = None,
    context: AbstractContextManager[ForwardOptions] | None = None,
) -> Outputs:
    """Logits of a model in evaluation mode over a split in its order; with its `head`, features and head too.

    `context` may change the network for this pass, its mode included. Features are None if nothing reaches the head.
    """
    model.eval()
    captured: list[Tensor] = []
    with (
        context or nullcontext(ForwardOptions()) as options,
        capture_inputs(head) if head else nullcontext(captured) as captured,
        torch.inference_mode(),
    ):
        logits = torch.cat([model(images) for images in split.iter_batches(options, batching)])
        features = torch.cat(captured) if captured else None
    return Outputs(logits, features, _copy_head(head, logits.dtype) if head else None)


def _copy_head(head: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Copies of weight and bias in the precision of the logits; a head without bias has zeros."""
    weight = head.weight.detach().clone()
    bias = torch.zeros_like(weight[:, 0]) if head.bias is None else head.bias.detach().clone()
    return weight.to(dtype), bias.to(dtype)

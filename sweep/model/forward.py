"""A model on a split -> features and logits; logits and labels -> metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sweep.core.forward_options import ForwardOptions
from sweep.model.split import Batching, DeviceSplit


class Outputs(NamedTuple):
    """What a network says of a split."""

    logits: Tensor  # (examples, classes)
    features: Tensor | None  # (examples, features): the input of the head


@contextmanager
def capture_inputs(head: nn.Module | None, heard: list[Tensor]) -> Iterator[None]:
    """Keep what reaches the head, so that features are right for every architecture."""
    if head is None:
        yield
        return
    handle = head.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    try:
        yield
    finally:
        handle.remove()


def forward_split(
    model: nn.Module,
    split: DeviceSplit,
    batching: Batching,
    head: nn.Module | None = None,
    around: AbstractContextManager[ForwardOptions] | None = None,
) -> Outputs:
    """Logits of a model in evaluation mode over a split in its order, and features where its `head` is given.

    `around` may change the network for this pass, its mode too.
    """
    model.eval()
    heard: list[Tensor] = []
    with around or nullcontext(ForwardOptions()) as told, capture_inputs(head, heard), torch.inference_mode():
        logits = torch.cat([model(images) for images in split.iter_batches(told, batching)])
        return Outputs(logits, torch.cat(heard) if heard else None)

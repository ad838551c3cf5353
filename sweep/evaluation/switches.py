"""Applies protocol switches to a data split and, as a context manager, to the model during one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from sweep.core.choice import PluginConfig
from sweep.core.dataset import Dataset
from sweep.core.forward_options import ForwardOptions
from sweep.core.ids import canonical_json, derive_seed
from sweep.model.build import fork_rng
from sweep.model.split import DeviceSplit, to_device

Switches = tuple[PluginConfig, ...]
_NETWORK = {"model", "reported", "extractor"}


class ProtocolContext(NamedTuple):
    """The switches of one forward pass, and the pool that their random numbers are seeded by."""

    switches: Switches = ()
    pool_id: str = ""


NO_SWITCHES = ProtocolContext()


def split_switches(context: ProtocolContext) -> Switches:
    """The switches that change the split, not the model."""
    return tuple(switch for switch in context.switches if not _NETWORK & set(switch.plugin.needs))


def apply_to_split(split: DeviceSplit, dataset: Dataset, context: ProtocolContext) -> DeviceSplit:
    """The split as the switches change it."""
    for switch in split_switches(context):
        split = _redraw(split, dataset, switch, context) if "train" in switch.plugin.needs else split
        split = _normalize(split, dataset, switch) if "mean" in switch.plugin.needs else split
    return split


def _normalize(split: DeviceSplit, dataset: Dataset, switch: PluginConfig) -> DeviceSplit:
    """The split with another normalisation."""
    normalization = switch.call(mean=dataset.mean, std=dataset.std)
    mean, std = (torch.tensor(values, device=split.mean.device).mul(255.0).view(-1, 1, 1) for values in normalization)
    return replace(split, mean=mean, std=std)


def _redraw(split: DeviceSplit, dataset: Dataset, switch: PluginConfig, context: ProtocolContext) -> DeviceSplit:
    """A validation split of the same size, drawn from validation and training images."""
    device = split.mean.device
    train = to_device(dataset, "train", device)
    generator = torch.Generator().manual_seed(derive_seed(context.pool_id, canonical_json(switch.id_content)))
    chosen = switch.call(train=len(train.labels), validation=len(split.labels), generator=generator).to(device)
    first = chosen[chosen < len(train.labels)]
    second = chosen[chosen >= len(train.labels)] - len(train.labels)
    images = torch.cat([train.images[first], split.images[second]])
    return replace(split, images=images, labels=torch.cat([train.labels[first], split.labels[second]]))


@contextmanager
def apply_to_model(model: nn.Module, switches: Sequence[PluginConfig], seed: int) -> Iterator[ForwardOptions]:
    """Change the network for one forward pass and seed torch's global generators; yields the options of the pass."""
    options = ForwardOptions()
    with fork_rng(seed), ExitStack() as stack:
        for switch in switches:
            if _NETWORK & set(switch.plugin.needs):
                other = stack.enter_context(switch.call(model=model, reported=model, extractor=model))
                smallest = max(options.min_batch_size, other.min_batch_size)
                options = ForwardOptions(
                    other.batch_size or options.batch_size, other.max_examples or options.max_examples, smallest
                )
        yield options

"""Forward passes under the switches of a protocol: what they make of a split, and of the network while it passes."""

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
    """The switches of one pass, and what the randomness of its pool begins with."""

    switches: Switches = ()
    pool_id: str = ""


NO_SWITCHES = ProtocolContext()


def split_switches(conditions: ProtocolContext) -> Switches:
    """The switches that make another split of one."""
    return tuple(switch for switch in conditions.switches if not _NETWORK & set(switch.plugin.needs))


def apply_to_split(split: DeviceSplit, dataset: Dataset, conditions: ProtocolContext) -> DeviceSplit:
    """The split as its switches make it."""
    for switch in split_switches(conditions):
        split = _drawn(split, dataset, switch, conditions) if "train" in switch.plugin.needs else split
        split = _normalised(split, dataset, switch) if "mean" in switch.plugin.needs else split
    return split


def _normalised(split: DeviceSplit, dataset: Dataset, switch: PluginConfig) -> DeviceSplit:
    """The split with another normalisation."""
    normalization = switch.call(mean=dataset.mean, std=dataset.std)
    mean, std = (torch.tensor(values, device=split.mean.device).mul(255.0).view(-1, 1, 1) for values in normalization)
    return replace(split, mean=mean, std=std)


def _drawn(split: DeviceSplit, dataset: Dataset, switch: PluginConfig, conditions: ProtocolContext) -> DeviceSplit:
    """As many images as the validation split has, of those and the training's."""
    device, train = split.mean.device, to_device(dataset, "train", split.mean.device)
    generator = torch.Generator().manual_seed(derive_seed(conditions.pool_id, canonical_json(switch.id_content)))
    chosen = switch.call(train=len(train.labels), validation=len(split.labels), generator=generator).to(device)
    first, second = chosen[chosen < len(train.labels)], chosen[chosen >= len(train.labels)] - len(train.labels)
    images = torch.cat([train.images[first], split.images[second]])
    return replace(split, images=images, labels=torch.cat([train.labels[first], split.labels[second]]))


@contextmanager
def apply_to_model(model: nn.Module, switches: Sequence[PluginConfig], seed: int) -> Iterator[ForwardOptions]:
    """The network as switches make it for one pass, and torch's global generators seeded."""
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

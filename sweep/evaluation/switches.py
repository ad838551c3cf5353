"""Forward passes under the switches of a protocol: what they make of a split, and of the network while it passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from sweep.core.choice import Choice
from sweep.core.dataset import Dataset
from sweep.core.forward_options import Pass
from sweep.core.ids import canonical, derive_seed
from sweep.model.build import seeded
from sweep.model.split import DeviceSplit, to_device

Switches = tuple[Choice, ...]
_NETWORK = {"model", "reported", "extractor"}


class Conditions(NamedTuple):
    """The switches of one pass, and what the randomness of its pool begins with."""

    switches: Switches = ()
    pool_id: str = ""


PLAIN = Conditions()


def of_split(conditions: Conditions) -> Switches:
    """The switches that make another split of one."""
    return tuple(switch for switch in conditions.switches if not _NETWORK & set(switch.entry.needs))


def audited(split: DeviceSplit, dataset: Dataset, conditions: Conditions) -> DeviceSplit:
    """The split as its switches make it."""
    for switch in of_split(conditions):
        split = _drawn(split, dataset, switch, conditions) if "train" in switch.entry.needs else split
        split = _normalised(split, dataset, switch) if "mean" in switch.entry.needs else split
    return split


def _normalised(split: DeviceSplit, dataset: Dataset, switch: Choice) -> DeviceSplit:
    """The split with another normalisation."""
    told = switch.entry.function(dataset.mean, dataset.std, **switch.settings)
    mean, std = (torch.tensor(values, device=split.mean.device).mul(255.0).view(-1, 1, 1) for values in told)
    return replace(split, mean=mean, std=std)


def _drawn(split: DeviceSplit, dataset: Dataset, switch: Choice, conditions: Conditions) -> DeviceSplit:
    """As many images as the validation split has, of those and the training's."""
    device, train = split.mean.device, to_device(dataset, "train", split.mean.device)
    generator = torch.Generator().manual_seed(derive_seed(conditions.pool_id, canonical(switch.content)))
    chosen = switch.entry.function(len(train.labels), len(split.labels), generator, **switch.settings).to(device)
    first, second = chosen[chosen < len(train.labels)], chosen[chosen >= len(train.labels)] - len(train.labels)
    images = torch.cat([train.images[first], split.images[second]])
    return replace(split, images=images, labels=torch.cat([train.labels[first], split.labels[second]]))


@contextmanager
def passing(model: nn.Module, switches: Sequence[Choice], seed: int) -> Iterator[Pass]:
    """The network as switches make it for one pass, and torch's global generators seeded."""
    told = Pass()
    with seeded(seed), ExitStack() as stack:
        for switch in switches:
            if _NETWORK & set(switch.entry.needs):
                other = stack.enter_context(switch.entry.function(model, **switch.settings))
                smallest = max(told.smallest, other.smallest)
                told = Pass(other.batch or told.batch, other.examples or told.examples, smallest)
        yield told

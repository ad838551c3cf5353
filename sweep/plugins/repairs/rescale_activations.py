"""REPAIR: the merged model's activations are given the mean and spread that the members' have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from sweep.core.capture import Hook, forward_hooks
from sweep.plugins.repairs._batch_norm import estimating, evaluating
from sweep.plugins.repairs._images import Images, Several, drawn
from sweep.plugins.repairs._layers import channel_axis, correctable

CITES = ("jordan2023repair",)


class Spread(NamedTuple):
    """Mean and standard deviation of each channel of a layer."""

    mean: Tensor
    std: Tensor


Spreads = list[Spread]
Each = Callable[[Callable[[], Spreads]], list[tuple[float, Spreads]]]
"""Measures the members that were merged, loaded one after another: of each its share of the merge and its spreads."""

_STEEPEST = 1000.0  # a channel that hardly varies in the merge is not blown up without bound


class Estimate:
    """Mean and variance of each channel over batches, which count by their size."""

    def __init__(self, layer: nn.Module) -> None:
        self.axis, self.seen = channel_axis(layer), 0
        self.mean = self.variance = torch.zeros((), dtype=torch.float64)

    def add(self, outputs: Tensor) -> Spread:
        """Add a batch; its own spread."""
        # By the kernel of batch norm: on a CPU, others of torch take up to nine times as long.
        mean, variance = (outputs.new_zeros(outputs.shape[self.axis]) for _ in range(2))
        values = outputs.flatten(0, -2) if self.axis == -1 else outputs
        functional.batch_norm(values, mean, variance, training=True, momentum=1.0)
        self.seen += len(outputs)
        share = len(outputs) / self.seen
        self.mean = self.mean * (1 - share) + mean.double() * share
        self.variance = self.variance * (1 - share) + variance.double() * share
        return Spread(mean, variance.sqrt())

    @property
    def spread(self) -> Spread:
        """Over all batches, in double precision."""
        return Spread(self.mean, self.variance.sqrt())


class Correction(Estimate):
    """A layer of the merge whose outputs are given a spread: each batch as it passes, and then its weights."""

    def __init__(self, layer: nn.Module, target: Spread) -> None:
        super().__init__(layer)
        self.layer: Any = layer
        self.target = target

    def passing(self, _: nn.Module, __: Any, outputs: Tensor) -> Tensor:
        """A batch of outputs as later layers are to see them: with the target's spread."""
        scale, shift = self._line(self.add(outputs))
        shape = [-1 if axis == self.axis % outputs.ndim else 1 for axis in range(outputs.ndim)]
        return torch.addcmul(shift.to(outputs).view(shape), outputs, scale.to(outputs).view(shape))

    def fold(self) -> None:
        """Take the correction over all batches into the weights."""
        weight, bias = self.layer.weight, self.layer.bias
        scale, shift = self._line(self._found)
        weight.copy_(weight * scale.view(-1, *[1] * (weight.ndim - 1)))
        if bias is not None:
            bias.copy_(bias * scale + shift)

    @property
    def _found(self) -> Spread:
        """What is corrected: of batch norm, outputs as its new running statistics make them, no longer a batch's."""
        norm = self.layer
        if not isinstance(norm, _BatchNorm) or norm.running_var is None:
            return self.spread
        variance = norm.running_var.double()
        return Spread(norm.bias.double(), norm.weight.double().abs() * (variance / (variance + norm.eps)).sqrt())

    def _line(self, found: Spread) -> tuple[Tensor, Tensor]:
        """What outputs are multiplied by, and what is added to them; nothing where a layer has no bias to hold it."""
        mean, std = self.target
        steep = std / found.std.double().clamp_min(std / _STEEPEST)
        scale = torch.where(found.std == std, 1.0, steep)  # both may be zero
        return scale, (mean - scale * found.mean) * (self.layer.bias is not None)


def rescale_activations(
    model: nn.Module,
    images: Images,
    members: Each,
    generator: torch.Generator,
    *,
    examples: Several = 2000,
    batch: Several = 500,
) -> None:
    """REPAIR (2211.08403): each channel's mean and standard deviation set to the members' average, by their shares.

    Corrected are the outputs of batch norm, and of linear and convolutional layers that have none behind them, before
    their nonlinearity; not the head's. In one pass of the merge each batch goes on as corrected (its authors' code has
    batches of 500), and what is found over all is folded into weight and bias; running statistics come from it, too. A
    layer without bias gets the spread, not the mean. In transformers, which the paper has not, linear layers are
    corrected, over all tokens.
    """
    batches = drawn(images, generator, examples, batch)
    layers = correctable(model, images[batches[0][:2]])

    def measured() -> Spreads:
        found = [Estimate(layer) for layer in layers]
        with (
            evaluating(model),
            forward_hooks([(layer, _adding(one)) for layer, one in zip(layers, found, strict=True)]),
        ):
            for chosen in batches:
                model(images[chosen])
        return [one.spread for one in found]

    targets = _averaged(members(measured))
    corrections = [Correction(layer, target) for layer, target in zip(layers, targets, strict=True)]
    with estimating(model) as passed, forward_hooks([(one.layer, one.passing) for one in corrections]):
        for chosen in batches:
            passed(images[chosen])
        for one in corrections:
            one.fold()


def _adding(estimate: Estimate) -> Hook:
    """A hook that looks and changes nothing."""

    def add(_: nn.Module, __: Any, outputs: Tensor) -> None:
        estimate.add(outputs)

    return add


def _averaged(each: Sequence[tuple[float, Spreads]]) -> Spreads:
    """Means and standard deviations, which are not variances, averaged over members by their shares."""
    shares = torch.tensor([share for share, _ in each], dtype=torch.float64)
    layers = zip(*(spreads for _, spreads in each), strict=True)
    return [
        Spread(*(torch.tensordot(shares.to(part[0]), torch.stack(part), 1) for part in zip(*layer, strict=True)))
        for layer in layers
    ]

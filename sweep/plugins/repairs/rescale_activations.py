"""REPAIR: gives the merged model's activations the mean and spread of the members' activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from sweep.core.batch_norm import estimating, evaluating
from sweep.core.capture import Hook, forward_hooks
from sweep.plugins.repairs._images import Images, Several, draw_batches
from sweep.plugins.repairs._layers import channel_axis, correctable

CITES = ("jordan2023repair",)


class Spread(NamedTuple):
    """Mean and standard deviation of each channel of a layer."""

    mean: Tensor
    std: Tensor


Spreads = list[Spread]
MeasureMembers = Callable[[Callable[[], Spreads]], list[tuple[float, Spreads]]]
"""Loads each merged member in turn and calls a function; returns (share of the merge, result) pairs."""

_STEEPEST = 1000.0  # bound on the factor of a channel that hardly varies in the merge


class Estimate:
    """Mean and variance of each channel over batches, weighted by their size."""

    def __init__(self, layer: nn.Module) -> None:
        self.axis = channel_axis(layer)
        self.seen = 0
        self.mean = torch.zeros((), dtype=torch.float64)
        self.variance = torch.zeros((), dtype=torch.float64)

    def add(self, outputs: Tensor) -> Spread:
        """Add a batch of outputs; returns the spread of this batch."""
        # The kernel of batch norm: on a CPU, torch's other kernels take up to nine times as long.
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
        """Mean and standard deviation over all batches, in double precision."""
        return Spread(self.mean, self.variance.sqrt())


class Correction(Estimate):
    """Gives a layer's outputs a target spread: first each batch as it passes, then by changing the weights."""

    def __init__(self, layer: nn.Module, target: Spread) -> None:
        super().__init__(layer)
        self.layer: Any = layer
        self.target = target

    def correct_batch(self, _: nn.Module, __: Any, outputs: Tensor) -> Tensor:
        """A batch of outputs with the target's spread, as input of later layers."""
        scale, shift = self._scale_and_shift(self.add(outputs))
        shape = [-1 if axis == self.axis % outputs.ndim else 1 for axis in range(outputs.ndim)]
        return torch.addcmul(shift.to(outputs).view(shape), outputs, scale.to(outputs).view(shape))

    def fold(self) -> None:
        """Fold the correction over all batches into weight and bias."""
        weight = self.layer.weight
        bias = self.layer.bias
        scale, shift = self._scale_and_shift(self._measured)
        weight.copy_(weight * scale.view(-1, *[1] * (weight.ndim - 1)))
        if bias is not None:
            bias.copy_(bias * scale + shift)

    @property
    def _measured(self) -> Spread:
        """The spread to correct; for batch norm under its new running statistics, not under batch statistics."""
        norm = self.layer
        if not isinstance(norm, _BatchNorm) or norm.running_var is None:
            return self.spread
        variance = norm.running_var.double()
        return Spread(norm.bias.double(), norm.weight.double().abs() * (variance / (variance + norm.eps)).sqrt())

    def _scale_and_shift(self, found: Spread) -> tuple[Tensor, Tensor]:
        """Factor and summand of each channel; the summand is 0 for a layer without bias."""
        mean, std = self.target
        steep = std / found.std.double().clamp_min(std / _STEEPEST)
        scale = torch.where(found.std == std, 1.0, steep)  # both may be zero
        return scale, (mean - scale * found.mean) * (self.layer.bias is not None)


def rescale_activations(
    model: nn.Module,
    images: Images,
    members: MeasureMembers,
    generator: torch.Generator,
    *,
    examples: Several = 2000,
    batch: Several = 500,
) -> None:
    """REPAIR (arXiv 2211.08403): sets the mean and standard deviation of each channel to the members' weighted average.

    It corrects the outputs, before the nonlinearity, of batch norm, and of linear and convolutional layers without
    batch norm behind them, but not of the head. In one pass of the merge later layers see corrected batches (the
    authors' code uses batches of 500); the correction over all batches is then folded into weight and bias. The pass
    also re-estimates running statistics. A layer without bias gets the standard deviation, not the mean. The linear
    layers of transformers, which the paper does not treat, are corrected over all tokens.
    """
    batches = draw_batches(images, generator, examples, batch)
    layers = correctable(model, images[batches[0][:2]])

    def measure() -> Spreads:
        found = [Estimate(layer) for layer in layers]
        with (
            evaluating(model),
            forward_hooks([(layer, _make_hook(one)) for layer, one in zip(layers, found, strict=True)]),
        ):
            for chosen in batches:
                model(images[chosen])
        return [one.spread for one in found]

    targets = _average(members(measure))
    corrections = [Correction(layer, target) for layer, target in zip(layers, targets, strict=True)]
    with estimating(model) as add_batch, forward_hooks([(one.layer, one.correct_batch) for one in corrections]):
        for chosen in batches:
            add_batch(images[chosen])
        for one in corrections:
            one.fold()


def _make_hook(estimate: Estimate) -> Hook:
    """A hook that adds outputs to an estimate and changes nothing."""

    def add(_: nn.Module, __: Any, outputs: Tensor) -> None:
        estimate.add(outputs)

    return add


def _average(measurements: Sequence[tuple[float, Spreads]]) -> Spreads:
    """Averages over members, by their shares, of means and of standard deviations (not of variances)."""
    shares = torch.tensor([share for share, _ in measurements], dtype=torch.float64)
    layers = zip(*(spreads for _, spreads in measurements), strict=True)
    return [
        Spread(*(torch.tensordot(shares.to(part[0]), torch.stack(part), 1) for part in zip(*layer, strict=True)))
        for layer in layers
    ]

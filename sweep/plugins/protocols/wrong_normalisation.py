"""Images normalised with the statistics of another data set."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from sweep.core.weights import Positive

Channels = tuple[float, ...]


def wrong_normalisation(
    mean: Channels, std: Channels, *, shift: Annotated[float, Ge(0)] = 0.0048, ratio: Positive = 1.327
) -> tuple[Channels, Channels]:
    """Images are normalised by another mean and standard deviation per channel in evaluation than in training.

    `shift` is added to the means, the standard deviations are multiplied by `ratio`. The defaults are the differences
    between CIFAR-10 and CIFAR-100, which the script of arXiv 2411.09263 mixes up.
    """
    return tuple(value + shift for value in mean), tuple(value * ratio for value in std)

"""Running statistics of batch norm, estimated on the merged model."""

from __future__ import annotations

import torch
from torch import nn

from sweep.core.batch_norm import estimating, tracking_norms
from sweep.plugins.repairs._images import Images, Several, draw_batches

CITES = ("izmailov2018averaging", "jordan2023repair")


def reset_bn(
    model: nn.Module, images: Images, generator: torch.Generator, *, examples: Several = 2000, batch: Several = 500
) -> None:
    """Re-estimates the running statistics of batch norm in one pass over `examples` training images.

    They become the means of batch means and unbiased batch variances, while layers normalise by the batch, as with
    torch's `momentum=None` and in the literature (1803.05407, 2211.08403, whose code uses batches of 500); but dropout
    is off, and batches count by their size. The average of the members' statistics, without this repair, fits no
    model. Networks without batch norm do not change.
    """
    if not tracking_norms(model):
        return
    with estimating(model) as add_batch:
        for chosen in draw_batches(images, generator, examples, batch):
            add_batch(images[chosen])

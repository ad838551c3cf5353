"""Batch norm's running statistics, measured on the merged model itself."""

from __future__ import annotations

import torch
from torch import nn

from sweep.plugins.repairs._batch_norm import estimating, norms_of
from sweep.plugins.repairs._images import Images, Several, drawn

CITES = ("izmailov2018averaging", "jordan2023repair")


def reset_bn(
    model: nn.Module, images: Images, generator: torch.Generator, *, examples: Several = 2000, batch: Several = 500
) -> None:
    """Running statistics of batch norm from one pass over so many training images; other networks stay as they are.

    They are the means of the batches' means and unbiased variances, layers normalising by the batch meanwhile, as
    torch's `momentum=None` has them and the literature takes them (1803.05407, 2211.08403, whose code has batches of
    500); but dropout is off, and batches count by their size. The members' averages, without it, belong to no model.
    """
    if not norms_of(model):
        return
    with estimating(model) as passed:
        for chosen in drawn(images, generator, examples, batch):
            passed(images[chosen])

"""What a training draws: the order of examples, crops, mirrors and mixtures, step by step, and their application."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sweep.config.recipe import Recipe
from sweep.core.ids import derive_seed


class BatchDraw(NamedTuple):
    """What one step draws, on the CPU; None where a recipe asks for no such thing."""

    indices: Tensor  # (batch,): the examples
    crop_offsets: Tensor | None  # (2, batch, 1): rows and columns at which crops begin
    flip_mask: Tensor | None  # (batch,) bool
    mixup_partners: Tensor | None  # (batch,): with whom each is mixed
    mixup_weight: float  # of the example itself in the mixture


def draw_batches(recipe: Recipe, examples: int, seed: int, epoch: int) -> Iterator[BatchDraw]:
    """The steps of the epoch with this number, from 0: they depend on the seed and the number alone."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "epoch", epoch))
    mixing = np.random.default_rng(derive_seed(seed, "mixup", epoch))
    for chosen in _batches(torch.randperm(examples, generator=generator), recipe.batch_size):
        share = float(mixing.beta(recipe.mixup, recipe.mixup)) if recipe.mixup else 1.0
        corners, mirrored = _changes(len(chosen), recipe, generator)
        others = torch.randperm(len(chosen), generator=generator) if share < 1 else None
        yield BatchDraw(chosen, corners, mirrored, others, share)


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """The order cut into batches; a last one of a single example is left out, for batch statistics need two."""
    batches = list(torch.split(order, size))
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 else batches


def _changes(count: int, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor | None, Tensor | None]:
    """Corners of crops and who is mirrored."""
    corners = torch.randint(2 * recipe.crop + 1, (2, count, 1), generator=generator) if recipe.crop else None
    mirrored = torch.rand(count, generator=generator) < 0.5 if recipe.flip else None
    return corners, mirrored


def concat_draws(each: Sequence[BatchDraw]) -> BatchDraw:
    """The draws of several members as one of all their examples, one member after the other; nothing is mixed in it."""
    chosen, corners, mirrored, _, _ = zip(*each, strict=True)
    return BatchDraw(torch.cat(chosen), _cat(corners, 1), _cat(mirrored, 0), None, 1.0)


def _cat(parts: Sequence[Tensor | None], dimension: int) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found, dimension) if found else None


def augment(images: Tensor, crop: int, corners: Tensor | None, mirrored: Tensor | None) -> Tensor:
    """Images (batch, channels, size, size) cropped at these corners, after so many pixels of zeros, and mirrored."""
    count, _, size, _ = images.shape
    if corners is not None:
        padded = functional.pad(images, (crop,) * 4)
        span = torch.arange(size, device=images.device)
        rows, columns = (to_device(corners, images.device) + span)[:, :, None, :]  # each (batch, 1, size)
        index = torch.arange(count, device=images.device)[:, None, None]
        images = padded[index, :, rows.transpose(1, 2), columns].permute(0, 3, 1, 2)
    if mirrored is not None:
        images = torch.where(to_device(mirrored, images.device)[:, None, None, None], images.flip(-1), images)
    return images


def to_device(drawn: Tensor, device: torch.device) -> Tensor:
    """What was drawn on the CPU, on the device; nobody waits for what a GPU has yet to do."""
    return drawn.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else drawn.to(device)

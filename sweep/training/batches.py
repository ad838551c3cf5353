"""Draws the random batches, crops, flips and mixup of a training, and applies crops and flips to images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sweep.config.recipe import Recipe
from sweep.core.ids import derive_seed
from sweep.model.split import DeviceSplit


class BatchDraw(NamedTuple):
    """The random numbers of one training step, on the CPU; None for what the recipe does not use."""

    indices: Tensor  # (batch,): examples of the split
    crop_offsets: Tensor | None  # (2, batch, 1): first row and first column of each crop
    flip_mask: Tensor | None  # (batch,), bool: True for images to flip
    mixup_partners: Tensor | None  # (batch,): position in the batch of the example that each is mixed with
    mixup_weight: float  # weight of the example itself in the mixture; 1 - weight for its partner


def draw_batches(recipe: Recipe, examples: int, seed: int, epoch: int) -> Iterator[BatchDraw]:
    """Draw the steps of one epoch, numbered from 0; they depend only on the seed and the epoch."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "epoch", epoch))
    mixup_rng = np.random.default_rng(derive_seed(seed, "mixup", epoch))
    for indices in _batches(torch.randperm(examples, generator=generator), recipe.batch_size):
        weight = float(mixup_rng.beta(recipe.mixup, recipe.mixup)) if recipe.mixup else 1.0
        crop_offsets, flip_mask = _draw_augmentation(len(indices), recipe, generator)
        partners = torch.randperm(len(indices), generator=generator) if weight < 1 else None
        yield BatchDraw(indices, crop_offsets, flip_mask, partners, weight)


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Split the order into batches; a last batch of one example is dropped, since batch statistics need two."""
    batches = list(torch.split(order, size))
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 else batches


def _draw_augmentation(count: int, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor | None, Tensor | None]:
    """Draw the crop offsets and the flip mask of `count` images, as in `BatchDraw`."""
    crop_offsets = torch.randint(2 * recipe.crop + 1, (2, count, 1), generator=generator) if recipe.crop else None
    flip_mask = torch.rand(count, generator=generator) < 0.5 if recipe.flip else None
    return crop_offsets, flip_mask


def concat_draws(draws: Sequence[BatchDraw]) -> BatchDraw:
    """Concatenate the draws of several members into one large batch, member after member, without mixup."""
    indices, crop_offsets, flip_masks, _, _ = zip(*draws, strict=True)
    return BatchDraw(torch.cat(indices), _cat(crop_offsets, 1), _cat(flip_masks, 0), None, 1.0)


def _cat(tensors: Sequence[Tensor | None], dimension: int) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(present, dimension) if present else None


def draw_images(data: DeviceSplit, draw: BatchDraw, crop: int) -> Tensor:
    """The images of a draw, cropped, flipped and normalised."""
    indices = to_device(draw.indices, data.labels.device)
    return data.normalize(augment(data.images[indices], crop, draw.crop_offsets, draw.flip_mask))


def augment(images: Tensor, crop: int, crop_offsets: Tensor | None, flip_mask: Tensor | None) -> Tensor:
    """Pad images (batch, channels, size, size) with `crop` zeros, crop at the offsets, and flip by the mask."""
    count, _, size, _ = images.shape
    if crop_offsets is not None:
        padded = functional.pad(images, (crop,) * 4)
        offsets = torch.arange(size, device=images.device)
        rows, columns = (to_device(crop_offsets, images.device) + offsets)[:, :, None, :]  # each (batch, 1, size)
        index = torch.arange(count, device=images.device)[:, None, None]
        images = padded[index, :, rows.transpose(1, 2), columns].permute(0, 3, 1, 2)
    if flip_mask is not None:
        images = torch.where(to_device(flip_mask, images.device)[:, None, None, None], images.flip(-1), images)
    return images


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to the device, without waiting for queued work of a GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

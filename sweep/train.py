"""One member: data, optimiser, schedule -> weights. No loader: the images are on the device."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweep.evaluate import DeviceSplit, measure, outputs
from sweep.identity import derive_seed
from sweep.models import seeded
from sweep.recipe import Recipe


class NonFiniteError(ArithmeticError):
    """The training loss left the finite numbers."""


@dataclass(frozen=True)
class Epoch:
    """One point of a training curve."""

    epoch: int
    learning_rate: float
    train_loss: float
    validation_accuracy: float
    validation_cross_entropy: float
    seconds: float


@dataclass(frozen=True)
class Trained:
    """The weights that were kept, their epoch, and the curve."""

    state: dict[str, Tensor]
    kept: Epoch
    curve: tuple[Epoch, ...]
    n_parameters: int


def learning_rate(recipe: Recipe, progress: float, epochs: int) -> float:
    """The learning rate after `progress` epochs: linear warm-up from 0, then the schedule."""
    if progress < recipe.warmup:
        return recipe.lr * progress / recipe.warmup
    if recipe.schedule == "cosine":
        share = (progress - recipe.warmup) / max(epochs - recipe.warmup, 1e-9)
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    passed = sum(progress >= milestone for milestone in recipe.milestones)
    return float(recipe.lr * recipe.gamma**passed)


def augmented(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Random crops of zero-padded images and mirrored halves, one draw each: (batch, channels, size, size) uint8."""
    count, _, size, _ = images.shape
    if recipe.crop:
        padded = functional.pad(images, (recipe.crop,) * 4)
        corners = torch.randint(2 * recipe.crop + 1, (2, count, 1), generator=generator).to(images.device)
        span = torch.arange(size, device=images.device)
        rows, columns = (corners + span)[:, :, None, :]  # each (batch, 1, size)
        index = torch.arange(count, device=images.device)[:, None, None]
        images = padded[index, :, rows.transpose(1, 2), columns].permute(0, 3, 1, 2)
    if recipe.flip:
        mirrored = (torch.rand(count, generator=generator) < 0.5).to(images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    return images


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    decay, momentum = recipe.weight_decay, recipe.momentum
    return torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=momentum, weight_decay=decay)


class Trainer:
    """Trains one model on one training split; all randomness comes from the seed."""

    def __init__(self, model: nn.Module, train: DeviceSplit, recipe: Recipe, seed: int) -> None:
        self.model, self.data, self.recipe, self.seed = model, train, recipe, seed
        self.optimiser = _optimiser(model, recipe)
        self.steps = math.ceil(len(train.labels) / recipe.batch_size)

    def epoch(self, number: int, epochs: int) -> tuple[float, float]:
        """Train the epoch with this number, from 0; the mean loss and the last learning rate.

        Its randomness depends on its number alone, not on the epochs before. Raises NonFiniteError.
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "epoch", number))
        mixing = np.random.default_rng(derive_seed(self.seed, "mixup", number))
        order = torch.randperm(len(self.data.labels), generator=generator)
        self.model.train()
        total, rate = torch.zeros((), device=self.data.labels.device), 0.0
        with seeded(derive_seed(self.seed, "dropout", number)):
            for step, chosen in enumerate(self._batches(order)):
                rate = learning_rate(self.recipe, number + (step + 0.5) / self.steps, epochs)
                share = float(mixing.beta(self.recipe.mixup, self.recipe.mixup)) if self.recipe.mixup else 1.0
                total += self._step(chosen, rate, share, generator) * len(chosen)
        loss = float(total) / len(order)
        if not math.isfinite(loss):
            raise NonFiniteError(f"non-finite loss in epoch {number + 1}; try a smaller `train.lr`")
        return loss, rate

    def _batches(self, order: Tensor) -> list[Tensor]:
        """The order cut into batches; a last one of a single example is left out, for batch statistics need two."""
        batches = list(torch.split(order, self.recipe.batch_size))
        return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 else batches

    def _step(self, chosen: Tensor, rate: float, share: float, generator: torch.Generator) -> Tensor:
        """One step on the chosen examples, mixed with `1 - share` of each other; the loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        chosen = chosen.to(self.data.images.device)
        images = self.data.normalised(augmented(self.data.images[chosen], self.recipe, generator))
        labels = self.data.labels[chosen]
        others = torch.randperm(len(chosen), generator=generator).to(images.device) if share < 1 else None
        logits = self.model(images if others is None else share * images + (1 - share) * images[others])
        smoothing = self.recipe.label_smoothing
        loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        if others is not None:
            loss = share * loss + (1 - share) * functional.cross_entropy(
                logits, labels[others], label_smoothing=smoothing
            )
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.detach()


def train(
    model: nn.Module, splits: Mapping[str, DeviceSplit], recipe: Recipe, seed: int, *, classes: int, epochs: int
) -> Trained:
    """Train a model on `splits["train"]` and keep the last or the best weights on `splits["validation"]`.

    Same seed, same bits on a CPU with the same number of threads. Raises NonFiniteError.
    """
    trainer, begun = Trainer(model, splits["train"], recipe, seed), time.perf_counter()
    validation, curve = splits["validation"], list[Epoch]()
    best: Epoch | None = None
    state: dict[str, Tensor] = {}
    for number in range(epochs):
        loss, rate = trainer.epoch(number, epochs)
        logits = outputs(model, validation, 256, classes).logits
        scores = measure(logits, validation.labels, ("accuracy", "cross_entropy"))
        seconds = time.perf_counter() - begun
        epoch = Epoch(number + 1, rate, loss, scores["accuracy"], scores["cross_entropy"], seconds)
        curve.append(epoch)
        if best is None or recipe.keep == "last" or epoch.validation_accuracy > best.validation_accuracy:
            best, state = epoch, {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    assert best is not None  # a recipe has at least one epoch
    return Trained(state, best, tuple(curve), sum(parameter.numel() for parameter in model.parameters()))

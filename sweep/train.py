"""One member: data, optimiser, schedule -> weights. No loader: the images are on the device."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import astuple, dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweep.evaluate import DeviceSplit, measure, outputs
from sweep.identity import derive_seed
from sweep.models import forward_flops, seeded
from sweep.recipe import Recipe

State = dict[str, Any]


class Memory(Protocol):
    """Where a training keeps what it needs to go on after its process was lost."""

    def recall(self) -> State | None:
        """What was kept last, if anything."""

    def keep(self, state: Callable[[], State]) -> None:
        """Keep the state, or let it be where it was kept a moment ago."""


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
    forward_flops: int | None  # of one example


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
        corners = _sent(torch.randint(2 * recipe.crop + 1, (2, count, 1), generator=generator), images.device)
        span = torch.arange(size, device=images.device)
        rows, columns = (corners + span)[:, :, None, :]  # each (batch, 1, size)
        index = torch.arange(count, device=images.device)[:, None, None]
        images = padded[index, :, rows.transpose(1, 2), columns].permute(0, 3, 1, 2)
    if recipe.flip:
        mirrored = _sent(torch.rand(count, generator=generator) < 0.5, images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    return images


def _sent(drawn: Tensor, device: torch.device) -> Tensor:
    """What was drawn on the CPU, on the device; nobody waits for what a GPU has yet to do."""
    return drawn.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else drawn.to(device)


def labelled(split: DeviceSplit, recipe: Recipe, pool_id: str) -> DeviceSplit:
    """The training split with the labels that a recipe asks for: its own, or those permuted, alike for a whole pool."""
    if not recipe.shuffle_labels:
        return split
    order = torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(derive_seed(pool_id, "labels")))
    return replace(split, labels=split.labels[order.to(split.labels.device)])


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    decay, momentum = recipe.weight_decay, recipe.momentum
    return torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=momentum, weight_decay=decay)


class Trainer:
    """Trains one model on one training split; all randomness comes from the seed and the number of the epoch."""

    def __init__(self, model: nn.Module, train: DeviceSplit, recipe: Recipe, seed: int) -> None:
        format_ = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = model.to(memory_format=format_)
        self.forward = torch.compile(model) if recipe.compile else model
        self.data, self.recipe, self.seed = train, recipe, seed
        self.optimiser = _optimiser(model, recipe)
        self.average = copy.deepcopy(model) if recipe.ema else model
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
        chosen = _sent(chosen, self.data.labels.device)
        images = self.data.normalised(augmented(self.data.images[chosen], self.recipe, generator))
        labels = self.data.labels[chosen]
        others = _sent(torch.randperm(len(chosen), generator=generator), images.device) if share < 1 else None
        self.optimiser.zero_grad()
        loss = self._loss(images, labels, others, share)
        loss.backward()
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimiser.step()
        self._follow()
        return loss.detach()

    def _loss(self, images: Tensor, labels: Tensor, others: Tensor | None, share: float) -> Tensor:
        """Cross-entropy, of the mixed images with both their labels where there are `others`."""
        smoothing, low = self.recipe.label_smoothing, self.recipe.precision == "bfloat16"
        mixed = images if others is None else share * images + (1 - share) * images[others]
        with torch.autocast(images.device.type, torch.bfloat16) if low else nullcontext():
            logits = self.forward(mixed)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
        if others is None:
            return loss
        other = functional.cross_entropy(logits.float(), labels[others], label_smoothing=smoothing)
        return share * loss + (1 - share) * other

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average a little towards the weights; buffers, such as running statistics, are taken over."""
        if self.average is self.model:
            return
        for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(value, 1 - self.recipe.ema)
        for kept, now in zip(self.average.buffers(), self.model.buffers(), strict=True):
            kept.copy_(now)

    def state(self) -> State:
        """Everything that the next epoch depends on."""
        models = {"model": self.model.state_dict(), "average": self.average.state_dict()}
        return {**models, "optimiser": self.optimiser.state_dict()}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])


def train(
    model: nn.Module,
    splits: Mapping[str, DeviceSplit],
    recipe: Recipe,
    seed: int,
    *,
    epochs: int,
    memory: Memory | None = None,
) -> Trained:
    """Train a model on `splits["train"]` and keep the last or the best weights on `splits["validation"]`.

    Same seed, same bits on a CPU with the same number of threads, also when it goes on from what `memory` recalls.
    Raises NonFiniteError.
    """
    trainer, begun = Trainer(model, splits["train"], recipe, seed), time.perf_counter()
    done: State = {"curve": [], "kept": 0, "weights": {}}
    if past := memory.recall() if memory else None:
        trainer.restore(past)
        done = {name: past[name] for name in done}
    curve = [Epoch(*point) for point in done["curve"]]
    before = curve[-1].seconds if curve else 0.0
    for number in range(len(curve), epochs):
        loss, rate = trainer.epoch(number, epochs)
        scores = _validated(trainer.average, splits["validation"])
        if not math.isfinite(scores[1]):
            raise NonFiniteError(f"non-finite outputs after epoch {number + 1}; try a smaller `train.lr`")
        best = max((epoch.validation_accuracy for epoch in curve), default=-1.0)
        curve.append(Epoch(number + 1, rate, loss, *scores, before + time.perf_counter() - begun))
        if recipe.keep == "last" or scores[0] > best:
            weights = {name: tensor.detach().clone() for name, tensor in trainer.average.state_dict().items()}
            done.update(kept=number, weights=weights)
        if memory and number + 1 < epochs:
            done["curve"] = [astuple(epoch) for epoch in curve]
            memory.keep(lambda: {**trainer.state(), **done})
    count = sum(parameter.numel() for parameter in model.parameters())
    flops = forward_flops(model, next(splits["validation"].batches(1)))
    return Trained(done["weights"], curve[done["kept"]], tuple(curve), count, flops)


def _validated(model: nn.Module, split: DeviceSplit) -> tuple[float, float]:
    """Accuracy and cross-entropy on a split."""
    scores = measure(outputs(model, split, 256).logits, split.labels, ("accuracy", "cross_entropy"))
    return scores["accuracy"], scores["cross_entropy"]

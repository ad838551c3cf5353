"""One member: data, optimiser, schedule -> weights. No loader: the images are on the device."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from sweep.config.recipe import Recipe
from sweep.core.ids import derive_seed
from sweep.model.build import fork_rng
from sweep.model.forward import forward_split
from sweep.model.split import Batching, DeviceSplit
from sweep.training.batches import BatchDraw, augment, draw_batches, to_device
from sweep.training.checkpoint import Checkpointer, State
from sweep.training.history import Epoch, TrainingHistory, TrainResult, validation_scores


def learning_rate(recipe: Recipe, progress: float, epochs: int) -> float:
    """The learning rate after `progress` epochs: linear warm-up from 0, then the schedule."""
    if progress < recipe.warmup:
        return recipe.lr * progress / recipe.warmup
    if recipe.schedule == "cosine":
        share = (progress - recipe.warmup) / max(epochs - recipe.warmup, 1e-9)
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    passed = sum(progress >= milestone for milestone in recipe.milestones)
    return float(recipe.lr * recipe.gamma**passed)


def make_optimizer(parameters: Iterable[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of a recipe for some parameters; each entry is updated by its own gradients alone."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    decay = recipe.weight_decay
    momentum = recipe.momentum
    return torch.optim.SGD(parameters, lr=recipe.lr, momentum=momentum, weight_decay=decay)


Mixup: TypeAlias = tuple[Tensor, float | Tensor, float | Tensor] | tuple[()]
"""With whom each example is mixed, its own share and the other's; nothing where nothing is mixed."""


def compute_loss(
    forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, recipe: Recipe, mixing: Mixup
) -> Tensor:
    """Cross-entropy, of the mixed images with both their labels where they are mixed."""
    mixed = images
    low = recipe.precision == "bfloat16"
    if mixing:
        others, share, rest = mixing
        mixed = share * images + rest * images[others]
    with torch.autocast(images.device.type, torch.bfloat16) if low else nullcontext():
        logits = forward(mixed)
    loss = functional.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
    if not mixing:
        return loss
    other = functional.cross_entropy(logits.float(), labels[others], label_smoothing=recipe.label_smoothing)
    return share * loss + rest * other


class Trainer:
    """Trains one model on one training split; all randomness comes from the seed and the number of the epoch."""

    def __init__(self, model: nn.Module, train: DeviceSplit, recipe: Recipe, seed: int) -> None:
        format_ = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = model.to(memory_format=format_)
        self.forward = torch.compile(model) if recipe.compile else model
        self.data = train
        self.recipe = recipe
        self.seed = seed
        self.optimizer = make_optimizer(model.parameters(), recipe)
        self.ema_model = copy.deepcopy(model) if recipe.ema else model
        self.steps = math.ceil(len(train.labels) / recipe.batch_size)

    def epoch(self, number: int, epochs: int) -> tuple[float, float]:
        """Train the epoch with this number, from 0; the mean loss and the last learning rate.

        Its randomness depends on its number alone, not on the epochs before.
        """
        self.model.train()
        examples = len(self.data.labels)
        total = torch.zeros((), device=self.data.labels.device)
        rate = 0.0
        with fork_rng(derive_seed(self.seed, "dropout", number)):
            for step, draw in enumerate(draw_batches(self.recipe, examples, self.seed, number)):
                rate = learning_rate(self.recipe, number + (step + 0.5) / self.steps, epochs)
                total += self._step(draw, rate) * len(draw.indices)
        return float(total) / examples, rate

    def _step(self, draw: BatchDraw, rate: float) -> Tensor:
        """One step; the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        chosen = to_device(draw.indices, self.data.labels.device)
        images = augment(self.data.images[chosen], self.recipe.crop, draw.crop_offsets, draw.flip_mask)
        images = self.data.normalize(images)
        labels = self.data.labels[chosen]
        mixing = (
            ()
            if draw.mixup_partners is None
            else (to_device(draw.mixup_partners, images.device), draw.mixup_weight, 1 - draw.mixup_weight)
        )
        self.optimizer.zero_grad()
        loss = compute_loss(self.forward, images, labels, self.recipe, mixing)
        loss.backward()
        if self.recipe.clip_grad_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad_norm)
        self.optimizer.step()
        self._update_ema()
        return loss.detach()

    @torch.no_grad()
    def _update_ema(self) -> None:
        """Move the average a little towards the weights; buffers, such as running statistics, are taken over."""
        if self.ema_model is self.model:
            return
        for mean, value in zip(self.ema_model.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(value, 1 - self.recipe.ema)
        for kept, now in zip(self.ema_model.buffers(), self.model.buffers(), strict=True):
            kept.copy_(now)

    def state(self) -> State:
        """Everything that the next epoch depends on."""
        models = {"model": self.model.state_dict(), "average": self.ema_model.state_dict()}
        return {**models, "optimiser": self.optimizer.state_dict()}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.model.load_state_dict(state["model"])
        self.ema_model.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimiser"])


VALIDATION_BATCHING = Batching(256)
"""Images that are validated at once."""


def train(
    model: nn.Module,
    splits: Mapping[str, DeviceSplit],
    recipe: Recipe,
    seed: int,
    *,
    epochs: int,
    memory: Checkpointer | None = None,
) -> TrainResult:
    """Train a model on `splits["train"]` and keep the last or the best weights on `splits["validation"]`.

    Same seed, same bits on a CPU with the same number of threads, also when it goes on from what `memory` recalls.
    Raises NonFiniteError.
    """
    started_at = time.perf_counter()
    course = TrainingHistory(recipe)
    trainer = Trainer(model, splits["train"], recipe, seed)
    if past := memory.load() if memory else None:
        trainer.restore(past)
        course.restore(past)
    before = course.seconds
    for number in range(len(course.curve), epochs):
        loss, rate = trainer.epoch(number, epochs)
        logits = forward_split(trainer.ema_model, splits["validation"], VALIDATION_BATCHING).logits
        scores = validation_scores(logits, splits["validation"])
        seconds = before + time.perf_counter() - started_at
        course.add(Epoch(number + 1, rate, loss, *scores, seconds), trainer.ema_model.state_dict)
        if memory and number + 1 < epochs:
            memory.save(lambda: {**trainer.state(), **course.state()})
    return course.result(model, splits["validation"])

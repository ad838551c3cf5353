"""Trains one model. There is no data loader, since all images are on the device."""

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
from sweep.model.layout import last_linear
from sweep.model.split import DeviceSplit
from sweep.training.averaging import finish_average
from sweep.training.batches import BatchDraw, draw_batches, draw_images, to_device
from sweep.training.checkpoint import Checkpointer, State
from sweep.training.epoch_part import AfterStep, get_rngs, ignore_step, load_part, set_rngs
from sweep.training.freezing import Freezing
from sweep.training.history import VALIDATION_BATCHING, Epoch, TrainingHistory, TrainResult, validation_scores
from sweep.training.penalties import Penalties


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
    """The optimizer of a recipe. It updates entries independently, so it also works on the stacks of `VmapTrainer`."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    decay = recipe.weight_decay
    momentum = recipe.momentum
    return torch.optim.SGD(parameters, lr=recipe.lr, momentum=momentum, weight_decay=decay)


Mixup: TypeAlias = tuple[Tensor, float | Tensor, float | Tensor] | tuple[()]
"""(partners, weight of the example, weight of its partner); empty without mixup."""


def compute_loss(
    forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, recipe: Recipe, mixup: Mixup
) -> Tensor:
    """The cross-entropy loss; with mixup that of the mixed images, weighted over both labels."""
    inputs = images
    is_low_precision = recipe.precision == "bfloat16"
    if mixup:
        partners, weight, partner_weight = mixup
        inputs = weight * images + partner_weight * images[partners]
    with torch.autocast(images.device.type, torch.bfloat16) if is_low_precision else nullcontext():
        logits = forward(inputs)
    loss = functional.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
    if not mixup:
        return loss
    partner_loss = functional.cross_entropy(logits.float(), labels[partners], label_smoothing=recipe.label_smoothing)
    return weight * loss + partner_weight * partner_loss


class Trainer:
    """Trains one model on one training split; all random numbers depend on the seed and the epoch alone."""

    def __init__(
        self, model: nn.Module, train: DeviceSplit, recipe: Recipe, seed: int, *, has_new_head: bool = False
    ) -> None:
        format_ = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = model.to(memory_format=format_)
        self.forward = torch.compile(model) if recipe.compile else model
        self.data = train
        self.recipe = recipe
        self.seed = seed
        self.parameters = dict(model.named_parameters())
        self.freezing = Freezing(model, recipe)
        self.penalties = Penalties(self.parameters, recipe, new=head_names(model) if has_new_head else ())
        self.optimizer = make_optimizer(model.parameters(), recipe)
        self.ema_model = copy.deepcopy(model) if recipe.ema else model
        self.steps = math.ceil(len(train.labels) / recipe.batch_size)

    def epoch(
        self, number: int, epochs: int, saved: State | None = None, after_step: AfterStep = ignore_step
    ) -> tuple[float, float]:
        """Train epoch `number`, from 0, and return the mean loss and the last learning rate.

        The random numbers depend on the seed and `number` alone, not on the epochs before. With `saved`, a state that
        `after_step` was given, the epoch is trained from there.
        """
        self.freezing.start_epoch(number, self.parameters)
        examples = len(self.data.labels)
        device = self.data.labels.device
        part = load_part(saved, torch.zeros((), device=device))
        with fork_rng(derive_seed(self.seed, "dropout", number)):
            set_rngs(device, part.rngs)
            for step, draw in part.rest(draw_batches(self.recipe, examples, self.seed, number)):
                lr = learning_rate(self.recipe, number + (step + 0.5) / self.steps, epochs)
                part.add(self._step(draw, lr) * len(draw.indices), lr)
                after_step(lambda: part.state(get_rngs(device)))
        return float(part.loss_sum) / examples, part.lr

    def _step(self, draw: BatchDraw, lr: float) -> Tensor:
        """Run one optimizer step and return the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        images = draw_images(self.data, draw, self.recipe.crop)
        labels = self.data.labels[to_device(draw.indices, self.data.labels.device)]
        mixup = (
            ()
            if draw.mixup_partners is None
            else (to_device(draw.mixup_partners, images.device), draw.mixup_weight, 1 - draw.mixup_weight)
        )
        self.optimizer.zero_grad()
        loss = compute_loss(self.forward, images, labels, self.recipe, mixup)
        loss.backward()
        if self.recipe.clip_grad_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad_norm)
        self.penalties.add_gradients()
        self.optimizer.step()
        self._update_ema()
        return loss.detach()

    @torch.no_grad()
    def _update_ema(self) -> None:
        """Update the exponential moving average of the parameters; buffers, such as running statistics, are copied."""
        if self.ema_model is self.model:
            return
        for average, parameter in zip(self.ema_model.parameters(), self.model.parameters(), strict=True):
            average.lerp_(parameter, 1 - self.recipe.ema)
        for ema_buffer, buffer in zip(self.ema_model.buffers(), self.model.buffers(), strict=True):
            ema_buffer.copy_(buffer)

    def state(self) -> State:
        """Everything that the next step depends on, but for the position in its epoch."""
        models = {"model": self.model.state_dict(), "average": self.ema_model.state_dict()}
        return {**models, "optimiser": self.optimizer.state_dict()}

    def restore(self, state: State) -> None:
        """Resume from a saved state."""
        self.model.load_state_dict(state["model"])
        self.ema_model.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimiser"])


def head_names(model: nn.Module) -> set[str]:
    """Names of the parameters of the head."""
    head = last_linear(model)
    return {name for name, _ in model.named_parameters() if name.rpartition(".")[0] == head}


def train(  # noqa: PLR0913 - each is a fact of its own
    model: nn.Module,
    splits: Mapping[str, DeviceSplit],
    recipe: Recipe,
    seed: int,
    *,
    epochs: int,
    has_new_head: bool = False,
    checkpointer: Checkpointer | None = None,
) -> TrainResult:
    """Train a model and return its last weights, their average, or the best on `splits["validation"]`.

    The result is bitwise reproducible on a CPU with the same seed and number of threads, also after resuming from
    `checkpointer`. With `has_new_head` the head is not that of the start. Raises NonFiniteError.
    """
    started_at = time.perf_counter()
    history = TrainingHistory(recipe)
    trainer = Trainer(model, splits["train"], recipe, seed, has_new_head=has_new_head)
    state: State = (checkpointer.load() if checkpointer else None) or {}
    if state:
        trainer.restore(state)
        history.restore(state)
    seconds_before = state.get("seconds", history.seconds)  # checkpoints of earlier versions have no key of their own

    def seconds() -> float:
        return float(seconds_before + time.perf_counter() - started_at)

    def save(part: Callable[[], State | None]) -> None:
        if checkpointer:
            checkpointer.save(lambda: {**trainer.state(), **history.state(), "seconds": seconds(), "part": part()})

    for number in range(len(history.curve), epochs):
        loss, lr = trainer.epoch(number, epochs, state.pop("part", None), save)
        logits = forward_split(trainer.ema_model, splits["validation"], VALIDATION_BATCHING).logits
        scores = validation_scores(logits, splits["validation"])
        history.add(Epoch(number + 1, lr, loss, *scores, seconds()), trainer.ema_model.state_dict)
        if number + 1 < epochs:
            save(lambda: None)
    finish_average(history, model, splits, seed, trainer.freezing)
    return history.result(model, splits["validation"])

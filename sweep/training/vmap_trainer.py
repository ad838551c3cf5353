"""Trains several members of a pool at once: their weights are stacked and run under `torch.func.vmap`.

Each member gets the same batches, crops, mixup and dropout as in `sweep.training.trainer`, from the same seeds. Only
the kernels differ, and with them the last bits of the weights.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from sweep.config.recipe import Recipe
from sweep.core.forward_options import ForwardOptions
from sweep.core.ids import derive_seed
from sweep.model.split import DeviceSplit
from sweep.training.averaging import finish_average
from sweep.training.batches import BatchDraw, concat_draws, draw_batches, draw_images, to_device
from sweep.training.checkpoint import Checkpointer, State
from sweep.training.epoch_part import AfterStep, ignore_step, load_part
from sweep.training.freezing import Freezing
from sweep.training.history import (
    VALIDATION_BATCHING,
    Epoch,
    NonFiniteError,
    TrainingHistory,
    TrainResult,
    validation_scores,
)
from sweep.training.member_rng import MemberRngs, use_member_rngs
from sweep.training.penalties import Penalties
from sweep.training.trainer import Mixup, compute_loss, head_names, learning_rate, make_optimizer

Tensors = dict[str, Tensor]
"""Tensors by name, each (members, …)."""


class VmapTrainer:
    """Trains several models on one training split, each with its own seed, as `Trainer` trains one."""

    def __init__(
        self,
        models: Sequence[nn.Module],
        train: DeviceSplit,
        recipe: Recipe,
        seeds: Sequence[int],
        *,
        has_new_heads: bool = False,
    ) -> None:
        self.model = models[0]
        self.data = train
        self.recipe = recipe
        self.seeds = tuple(seeds)
        self.rngs = MemberRngs(train.labels.device)
        use_member_rngs(self.model, self.rngs)
        names = {id(tensor): name for name, tensor in _tensors(self.model).items()}
        self.names = {name: names[id(tensor)] for name, tensor in self.model.state_dict(keep_vars=True).items()}
        self.parameters = _stack([dict(model.named_parameters()) for model in models])
        self.buffers = _stack([dict(model.named_buffers()) for model in models])
        for name, parameter in self.model.named_parameters():
            self.parameters[name].requires_grad_(parameter.requires_grad)
        new = head_names(self.model) if has_new_heads else ()
        self.freezing = Freezing(self.model, recipe)
        self.penalties = Penalties(self.parameters, recipe, new=new, is_stacked=True)
        self.optimizer = make_optimizer(self.parameters.values(), recipe)
        self.ema_weights = _copy_stack(self.parameters) if recipe.ema else self.parameters
        self.steps = math.ceil(len(train.labels) / recipe.batch_size)

    def epoch(
        self, number: int, epochs: int, saved: State | None = None, after_step: AfterStep = ignore_step
    ) -> tuple[list[float], float]:
        """Train epoch `number`, from 0, and return the mean loss of each member and the last learning rate.

        With `saved`, a state that `after_step` was given, the epoch is trained from there.
        """
        self.freezing.start_epoch(number, self.parameters)
        examples = len(self.data.labels)
        part = load_part(saved, torch.zeros(len(self.seeds), device=self.data.labels.device))
        batches = [draw_batches(self.recipe, examples, seed, number) for seed in self.seeds]
        with self.rngs.seeded((derive_seed(seed, "dropout", number) for seed in self.seeds), part.rngs):
            for step, draws in part.rest(zip(*batches, strict=True)):
                lr = learning_rate(self.recipe, number + (step + 0.5) / self.steps, epochs)
                part.add(self.step(draws, lr) * len(draws[0].indices), lr)
                after_step(lambda: part.state(self.rngs.states))
        return (part.loss_sum / examples).tolist(), part.lr

    def step(self, draws: Sequence[BatchDraw], lr: float) -> Tensor:
        """Run one optimizer step of every member and return the losses, (members,)."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        batch = concat_draws(draws)
        shape = (len(draws), -1)
        indices = to_device(batch.indices, self.data.labels.device)
        images = draw_images(self.data, batch, self.recipe.crop)
        self.optimizer.zero_grad()
        losses = self._losses(images.unflatten(0, shape), self.data.labels[indices].view(shape), self._mixup(draws))
        losses.sum().backward()
        if self.recipe.clip_grad_norm:
            self._clip()
        self.penalties.add_gradients()
        self.optimizer.step()
        if self.recipe.ema:
            self._update_ema()
        return losses.detach()

    def _losses(self, images: Tensor, labels: Tensor, mixup: Mixup) -> Tensor:
        """The loss of each member on its images, (members, batch, channels, size, size)."""

        def member_loss(parameters: Tensors, buffers: Tensors, images: Tensor, labels: Tensor, mixup: Mixup) -> Tensor:
            forward = partial(self._forward, parameters, buffers)
            return compute_loss(forward, images, labels, self.recipe, mixup)

        with _ignore_slow_kernel_warnings():
            losses: Tensor = vmap(member_loss)(self.parameters, self.buffers, images, labels, mixup)
        return losses

    def _forward(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], images: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.model, (dict(parameters), dict(buffers)), (images,))
        return logits

    def _mixup(self, draws: Sequence[BatchDraw]) -> Mixup:
        """The mixup of every member; one that does not mix in this step mixes each example with itself."""
        if not self.recipe.mixup:
            return ()
        device = self.data.labels.device
        partners = [
            torch.arange(len(draw.indices)) if draw.mixup_partners is None else draw.mixup_partners for draw in draws
        ]
        weights, partner_weights = torch.tensor(
            [[draw.mixup_weight for draw in draws], [1 - draw.mixup_weight for draw in draws]]
        )
        return to_device(torch.stack(partners), device), to_device(weights, device), to_device(partner_weights, device)

    def _clip(self) -> None:
        """Clip the gradient norm of each member, as `torch.nn.utils.clip_grad_norm_` does for one model."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients])
        factors = (self.recipe.clip_grad_norm / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))

    @torch.no_grad()
    def _update_ema(self) -> None:
        """Update the exponential moving averages of the parameters."""
        for name, average in self.ema_weights.items():
            average.lerp_(self.parameters[name], 1 - self.recipe.ema)

    @torch.no_grad()
    def logits(self, split: DeviceSplit) -> Tensor:
        """Logits of the averaged weights on a split in evaluation mode, (members, examples, classes)."""
        self.model.eval()
        forward = vmap(self._forward, in_dims=(0, 0, None))
        with _ignore_slow_kernel_warnings():
            return torch.cat(
                [
                    forward(self.ema_weights, self.buffers, images)
                    for images in split.iter_batches(ForwardOptions(), VALIDATION_BATCHING)
                ],
                1,
            )

    def weights(self, member: int) -> dict[str, Tensor]:
        """The averaged weights of one member as a state dict, tied names included."""
        tensors = {**self.ema_weights, **self.buffers}
        return {name: tensors[source][member].detach() for name, source in self.names.items()}

    def state(self) -> State:
        """Everything that the next epoch depends on."""
        stacks = {"parameters": self.parameters, "buffers": self.buffers, "average": self.ema_weights}
        return {**stacks, "optimiser": self.optimizer.state_dict()}

    @torch.no_grad()
    def restore(self, state: State) -> None:
        """Resume from a saved state."""
        stacks = {"parameters": self.parameters, "buffers": self.buffers, "average": self.ema_weights}
        for key, stack in stacks.items():
            for name, tensor in stack.items():
                tensor.copy_(state[key][name])
        self.optimizer.load_state_dict(state["optimiser"])


def train_vmapped(  # noqa: PLR0913 - each is a fact of its own
    models: Sequence[nn.Module],
    splits: Mapping[str, DeviceSplit],
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    epochs: int,
    has_new_heads: bool = False,
    checkpointer: Checkpointer | None = None,
) -> list[TrainResult | NonFiniteError]:
    """Train several models at once; the results are those of `sweep.training.trainer.train`, except for last bits.

    A model with a non-finite loss gets a NonFiniteError, and the others continue. Seconds are equal shares.
    """
    started_at = time.perf_counter()
    group = VmapTrainer(models, splits["train"], recipe, seeds, has_new_heads=has_new_heads)
    validation = splits["validation"]
    history = _GroupHistory(recipe, len(seeds))
    saved: State = (checkpointer.load() if checkpointer else None) or {}
    if saved:
        group.restore(saved)
        history.restore(saved)

    def seconds() -> float:
        return float(saved.get("seconds", 0.0) + time.perf_counter() - started_at)

    def save(part: Callable[[], State | None]) -> None:
        if checkpointer:
            checkpointer.save(lambda: {**group.state(), **history.state(), "seconds": seconds(), "part": part()})

    for number in range(history.epochs, epochs):
        losses, lr = group.epoch(number, epochs, saved.pop("part", None), save)
        scores = [validation_scores(logits, validation) for logits in group.logits(validation)]
        share = seconds() / len(seeds)
        points = [Epoch(number + 1, lr, loss, *each, share) for loss, each in zip(losses, scores, strict=True)]
        history.add(points, group.weights)
        if number + 1 < epochs:
            save(lambda: None)
    history.finish_averages(group, splits)
    return history.results(group.model, validation)


class _GroupHistory:
    """The training curves of a group, and for each member the cause if it failed, or an empty string."""

    def __init__(self, recipe: Recipe, count: int) -> None:
        self.epochs = 0
        self.members = [TrainingHistory(recipe) for _ in range(count)]
        self.failures = [""] * count

    def add(self, points: Sequence[Epoch], weights: Callable[[int], Mapping[str, Tensor]]) -> None:
        """Append an epoch of each member, `weights` being those of a member by index."""
        self.epochs += 1
        for index, (history, point) in enumerate(zip(self.members, points, strict=True)):
            if not self.failures[index]:
                self.failures[index] = _error_text(partial(history.add, point, partial(weights, index)))

    def finish_averages(self, group: VmapTrainer, splits: Mapping[str, DeviceSplit]) -> None:
        """Give averaged weights running statistics and scores, one member after the other, as if trained alone."""
        for index, (history, seed) in enumerate(zip(self.members, group.seeds, strict=True)):
            if not self.failures[index]:
                finish = partial(finish_average, history, group.model, splits, seed, group.freezing)
                self.failures[index] = _error_text(finish)

    def state(self) -> State:
        """The state from which `restore` resumes."""
        courses = [history.state() for history in self.members]
        return {"epochs": self.epochs, "lost": self.failures, "courses": courses}

    def restore(self, state: State) -> None:
        """Resume from a saved state."""
        self.epochs = state["epochs"]
        self.failures = list(state["lost"])
        for history, saved in zip(self.members, state["courses"], strict=True):
            history.restore(saved)

    def results(self, model: nn.Module, split: DeviceSplit) -> list[TrainResult | NonFiniteError]:
        """The result of each member, or the error of one that failed."""
        return [
            NonFiniteError(cause) if cause else history.result(model, split)
            for history, cause in zip(self.members, self.failures, strict=True)
        ]


def _error_text(step: Callable[[], None]) -> str:
    """Run a step of one member and return the cause if the member failed, or an empty string."""
    try:
        step()
    except NonFiniteError as error:
        return str(error)
    return ""


def check_vmappable(build: Callable[[], nn.Module], recipe: Recipe, shape: tuple[int, int, int]) -> None:
    """Run one step of two models on the meta device; `shape` is (classes, channels, size).

    Raises any exception that the architecture causes if it cannot be trained under vmap.
    """
    meta = torch.device("meta")
    _, channels, size = shape
    scale = torch.ones(channels, 1, 1, device=meta)
    labels = torch.zeros(4, dtype=torch.int64, device=meta)
    split = DeviceSplit(torch.zeros(4, channels, size, size, dtype=torch.uint8, device=meta), labels, scale, scale)
    with meta:
        models = [build(), build()]
    tried = recipe.model_copy(update={"precision": "float32", "scope": None})  # autocast and scope need values
    group = VmapTrainer(models, split, tried, (0, 1))
    group.model.train()
    with group.rngs.seeded(group.seeds):
        group.step([next(draw_batches(recipe, len(labels), seed, 0)) for seed in group.seeds], 0.0)
    group.logits(split)


def _tensors(model: nn.Module) -> Tensors:
    """Parameters and buffers by name; tied tensors appear once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _stack(models: Sequence[Mapping[str, Tensor]]) -> Tensors:
    return {name: torch.stack([tensors[name].detach() for tensors in models]) for name in models[0]}


def _copy_stack(stack: Tensors) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in stack.items()}


@contextmanager
def _ignore_slow_kernel_warnings() -> Iterator[None]:
    """Hide the warning of vmap about each kernel that it calls once per member, for lack of a batched one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield

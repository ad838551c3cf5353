"""Several members of a pool at once: their weights as one stack, which torch.func.vmap pushes images through.

To each member the same happens as by itself (`sweep.train`): the same examples, crops, mixtures and dropout, from the
same seeds. Only the kernels are others, and with them the last bits.
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
from sweep.training.batches import BatchDraw, augment, concat_draws, draw_batches, to_device
from sweep.training.checkpoint import Checkpointer, State
from sweep.training.history import Epoch, NonFiniteError, TrainingHistory, TrainResult, validation_scores
from sweep.training.member_rng import MemberRngs, use_member_rngs
from sweep.training.trainer import VALIDATION_BATCHING, Mixup, compute_loss, learning_rate, make_optimizer

Tensors = dict[str, Tensor]
"""Tensors by name, each (members, …)."""


class VmapTrainer:
    """Trains several models on one training split; each has its seed, as a `Trainer` has."""

    def __init__(self, models: Sequence[nn.Module], train: DeviceSplit, recipe: Recipe, seeds: Sequence[int]) -> None:
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
        self.optimizer = make_optimizer(self.parameters.values(), recipe)
        self.ema_weights = _copy_member(self.parameters) if recipe.ema else self.parameters
        self.steps = math.ceil(len(train.labels) / recipe.batch_size)

    def epoch(self, number: int, epochs: int) -> tuple[list[float], float]:
        """Train the epoch with this number, from 0; each member's mean loss and the last learning rate."""
        self.model.train()
        examples = len(self.data.labels)
        rate = 0.0
        total = torch.zeros(len(self.seeds), device=self.data.labels.device)
        each = [draw_batches(self.recipe, examples, seed, number) for seed in self.seeds]
        with self.rngs.of(derive_seed(seed, "dropout", number) for seed in self.seeds):
            for step, drawn in enumerate(zip(*each, strict=True)):
                rate = learning_rate(self.recipe, number + (step + 0.5) / self.steps, epochs)
                total += self.step(drawn, rate) * len(drawn[0].indices)
        return (total / examples).tolist(), rate

    def step(self, drawn: Sequence[BatchDraw], rate: float) -> Tensor:
        """One step of every member; the losses, (members,)."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        every = concat_draws(drawn)
        shape = (len(drawn), -1)
        chosen = to_device(every.indices, self.data.labels.device)
        images = self.data.normalize(augment(self.data.images[chosen], self.recipe.crop, *every[1:3]))
        self.optimizer.zero_grad()
        losses = self._losses(images.unflatten(0, shape), self.data.labels[chosen].view(shape), self._mixing(drawn))
        losses.sum().backward()
        if self.recipe.clip_grad_norm:
            self._clip()
        self.optimizer.step()
        if self.recipe.ema:
            self._update_ema()
        return losses.detach()

    def _losses(self, images: Tensor, labels: Tensor, mixing: Mixup) -> Tensor:
        """The losses of the members, each on its images: (members, batch, channels, size, size)."""

        def one(parameters: Tensors, buffers: Tensors, images: Tensor, labels: Tensor, mixing: Mixup) -> Tensor:
            forward = partial(self._forward, parameters, buffers)
            return compute_loss(forward, images, labels, self.recipe, mixing)

        with _ignore_slow_kernel_warnings():
            losses: Tensor = vmap(one)(self.parameters, self.buffers, images, labels, mixing)
        return losses

    def _forward(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], images: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.model, (dict(parameters), dict(buffers)), (images,))
        return logits

    def _mixing(self, drawn: Sequence[BatchDraw]) -> Mixup:
        """With whom each member mixes each example; one that does not mix in this step, with itself."""
        if not self.recipe.mixup:
            return ()
        device = self.data.labels.device
        others = [
            torch.arange(len(draw.indices)) if draw.mixup_partners is None else draw.mixup_partners for draw in drawn
        ]
        share, rest = torch.tensor([[draw.mixup_weight for draw in drawn], [1 - draw.mixup_weight for draw in drawn]])
        return to_device(torch.stack(others), device), to_device(share, device), to_device(rest, device)

    def _clip(self) -> None:
        """Shorten each member's gradient to the largest norm, as torch.nn.utils.clip_grad_norm_ does."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(each.flatten(1), dim=1) for each in gradients])
        factors = (self.recipe.clip_grad_norm / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
        for each in gradients:
            each.mul_(factors.view(-1, *[1] * (each.ndim - 1)))

    @torch.no_grad()
    def _update_ema(self) -> None:
        """Move the averages a little towards the weights."""
        for name, mean in self.ema_weights.items():
            mean.lerp_(self.parameters[name], 1 - self.recipe.ema)

    @torch.no_grad()
    def logits(self, split: DeviceSplit) -> Tensor:
        """What the averages say of a split, in evaluation mode: (members, examples, classes)."""
        self.model.eval()
        forward = vmap(self._forward, in_dims=(0, 0, None))
        with _ignore_slow_kernel_warnings():
            return torch.cat(
                [
                    forward(self.ema_weights, self.buffers, x)
                    for x in split.iter_batches(ForwardOptions(), VALIDATION_BATCHING)
                ],
                1,
            )

    def weights(self, place: int) -> dict[str, Tensor]:
        """The averaged weights of one member as a state dict, tied names included."""
        every = {**self.ema_weights, **self.buffers}
        return {name: every[source][place].detach() for name, source in self.names.items()}

    def state(self) -> State:
        """Everything that the next epoch depends on."""
        stacks = {"parameters": self.parameters, "buffers": self.buffers, "average": self.ema_weights}
        return {**stacks, "optimiser": self.optimizer.state_dict()}

    @torch.no_grad()
    def restore(self, state: State) -> None:
        """Go on from a state."""
        for kept, stack in ((self.parameters, "parameters"), (self.buffers, "buffers"), (self.ema_weights, "average")):
            for name, tensor in kept.items():
                tensor.copy_(state[stack][name])
        self.optimizer.load_state_dict(state["optimiser"])


def train_vmapped(
    models: Sequence[nn.Module],
    splits: Mapping[str, DeviceSplit],
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    epochs: int,
    memory: Checkpointer | None = None,
) -> list[TrainResult | NonFiniteError]:
    """What `sweep.train.train` makes of each model, or why it makes nothing; the others then go on.

    Seconds of a member are its equal share.
    """
    start_time = time.perf_counter()
    group = VmapTrainer(models, splits["train"], recipe, seeds)
    validation = splits["validation"]
    histories = [TrainingHistory(recipe) for _ in seeds]
    past = memory.load() if memory else None
    if past:
        group.restore(past)
        for history, state in zip(histories, past["courses"], strict=True):
            history.restore(state)
    start = past or {"epochs": 0, "seconds": 0.0, "lost": [""] * len(seeds)}
    failures = list(start["lost"])
    for number in range(start["epochs"], epochs):
        losses, lr = group.epoch(number, epochs)
        scores = [validation_scores(logits, validation) for logits in group.logits(validation)]
        seconds = start["seconds"] + time.perf_counter() - start_time
        for place, history in enumerate(histories):
            epoch = Epoch(number + 1, lr, losses[place], *scores[place], seconds / len(seeds))
            failures[place] = failures[place] or _add_losses(history, epoch, partial(group.weights, place))
        if memory and number + 1 < epochs:
            counts = {"epochs": number + 1, "seconds": seconds, "lost": failures}
            memory.save(lambda: {**group.state(), **counts, "courses": [each.state() for each in histories]})  # noqa: B023 - called at once
    return [
        NonFiniteError(cause) if cause else history.result(group.model, validation)
        for history, cause in zip(histories, failures, strict=True)
    ]


def _add_losses(course: TrainingHistory, epoch: Epoch, weights: Callable[[], Mapping[str, Tensor]]) -> str:
    """Add an epoch; return why the member failed, or an empty text."""
    try:
        course.add(epoch, weights)
    except NonFiniteError as error:
        return str(error)
    return ""


def check_vmappable(build: Callable[[], nn.Module], recipe: Recipe, shape: tuple[int, int, int]) -> None:
    """One step of two models for (classes, channels, size), none of which is given memory.

    Raises what an architecture raises that cannot be trained so.
    """
    meta = torch.device("meta")
    (_, channels, size) = shape
    scale = torch.ones(channels, 1, 1, device=meta)
    labels = torch.zeros(4, dtype=torch.int64, device=meta)
    split = DeviceSplit(torch.zeros(4, channels, size, size, dtype=torch.uint8, device=meta), labels, scale, scale)
    with meta:
        models = [build(), build()]
    group = VmapTrainer(
        models, split, recipe.model_copy(update={"precision": "float32"}), (0, 1)
    )  # meta knows no autocast
    group.model.train()
    with group.rngs.of(group.seeds):
        group.step([next(draw_batches(recipe, len(labels), seed, 0)) for seed in group.seeds], 0.0)
    group.logits(split)


def _tensors(model: nn.Module) -> Tensors:
    """Parameters and buffers by name, tied ones once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _stack(each: Sequence[Mapping[str, Tensor]]) -> Tensors:
    return {name: torch.stack([tensors[name].detach() for tensors in each]) for name in each[0]}


def _copy_member(stack: Tensors) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in stack.items()}


@contextmanager
def _ignore_slow_kernel_warnings() -> Iterator[None]:
    """vmap warns of each kernel that it calls once per member, for want of one for all."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield

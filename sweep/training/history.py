"""The training curve of one member, the weights of its selected epoch, and the state for resuming."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace

from torch import Tensor, nn

from sweep.config.recipe import Recipe
from sweep.model.flops import forward_flops
from sweep.model.kind import Kind, network_kind
from sweep.model.metrics import compute_metrics
from sweep.model.split import Batching, DeviceSplit
from sweep.training.checkpoint import State

VALIDATION_BATCHING = Batching(256)
"""Batch size of validation."""


class NonFiniteError(ArithmeticError):
    """The training loss or the validation cross-entropy is infinite or NaN."""


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
class TrainResult:
    """The weights of the selected epoch (`recipe.checkpoint`), that epoch, and the training curve.

    With `recipe.swa` the weights are the average, and `best` is the last epoch with the scores of the average.
    """

    state: dict[str, Tensor]
    best: Epoch
    curve: tuple[Epoch, ...]
    n_parameters: int
    forward_flops: int | None  # per example
    kind: Kind | None


class TrainingHistory:
    """The training curve of one member so far, and the weights of its selected epoch."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.curve: list[Epoch] = []
        self.best = 0
        self.weights = dict[str, Tensor]()
        self.average: Epoch | None = None  # the last epoch with the scores of the averaged weights

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return self.curve[-1].seconds if self.curve else 0.0

    def add(self, epoch: Epoch, weights: Callable[[], Mapping[str, Tensor]]) -> None:
        """Append an epoch, and copy its weights if the recipe selects it. Raises NonFiniteError."""
        values = {"loss in": epoch.train_loss, "outputs after": epoch.validation_cross_entropy}
        for description, value in values.items():
            if not math.isfinite(value):
                raise NonFiniteError(f"non-finite {description} epoch {epoch.epoch}; try a smaller `train.lr`")
        if self.recipe.swa:
            self.curve.append(epoch)
            self._average(epoch.epoch, weights)
            return
        best = max((past.validation_accuracy for past in self.curve), default=-1.0)
        self.curve.append(epoch)
        if self.recipe.checkpoint == "last" or epoch.validation_accuracy > best:
            self.best = len(self.curve) - 1
            self.weights = {name: tensor.detach().clone() for name, tensor in weights().items()}

    def _average(self, epoch: int, weights: Callable[[], Mapping[str, Tensor]]) -> None:
        """Add the weights after an epoch to the average if it counts; whole numbers are those of the last epoch."""
        self.best = len(self.curve) - 1
        averaged = self.recipe.averaged_epochs
        if epoch not in averaged:
            return
        count = averaged.index(epoch)
        for name, tensor in weights().items():
            new = tensor.detach()
            if count and new.is_floating_point():
                self.weights[name] += (new - self.weights[name]) / (count + 1)
            else:
                self.weights[name] = new.clone()

    def finish_average(self, weights: Mapping[str, Tensor], accuracy: float, cross_entropy: float) -> None:
        """Replace the averaged weights by those with running statistics of their own. Raises NonFiniteError."""
        if not math.isfinite(cross_entropy):
            raise NonFiniteError("non-finite outputs of the averaged weights; try a smaller `train.lr`")
        self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        last = self.curve[-1]
        self.average = replace(last, validation_accuracy=accuracy, validation_cross_entropy=cross_entropy)

    def state(self) -> State:
        """The state from which `restore` resumes."""
        return {"curve": [astuple(epoch) for epoch in self.curve], "kept": self.best, "weights": self.weights}

    def restore(self, state: State) -> None:
        """Resume from a saved state."""
        self.curve = [Epoch(*point) for point in state["curve"]]
        self.best = state["kept"]
        self.weights = state["weights"]

    def result(self, model: nn.Module, split: DeviceSplit) -> TrainResult:
        """The result; `model` and one image of `split` determine the parameter and FLOP counts and the kind."""
        count = sum(p.numel() for p in model.parameters())
        images = next(split.batches(1))
        flops = forward_flops(model, images)
        kind = network_kind(model, images)
        best = self.average or self.curve[self.best]
        return TrainResult(self.weights, best, tuple(self.curve), count, flops, kind)


def validation_scores(logits: Tensor, split: DeviceSplit) -> tuple[float, float]:
    """Accuracy and cross-entropy on a split."""
    scores = compute_metrics(logits, split.labels, ("accuracy", "cross_entropy"))
    return scores["accuracy"], scores["cross_entropy"]

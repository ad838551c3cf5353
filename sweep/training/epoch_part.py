"""The state within an epoch: with it a training that was stopped after any step ends with the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from sweep.training.checkpoint import State

_Draw = TypeVar("_Draw")


@dataclass
class EpochPart:
    """What the rest of an epoch depends on, beside weights and optimizer.

    Batches, crops, flips and mixup depend on the seed and the epoch alone, so their position is the number of steps.
    """

    loss_sum: Tensor  # over the examples so far; of one model or of each member
    steps: int = 0
    lr: float = 0.0
    rngs: Sequence[Tensor] = ()  # states of the generators from which dropout draws

    def rest(self, draws: Iterator[_Draw]) -> Iterator[tuple[int, _Draw]]:
        """The steps that are left, with their numbers."""
        return islice(enumerate(draws), self.steps, None)

    def add(self, loss: Tensor, lr: float) -> None:
        """Count a step and its loss, summed over its examples."""
        self.loss_sum += loss
        self.lr = lr
        self.steps += 1

    def state(self, rngs: Sequence[Tensor]) -> State:
        """The state that `load_part` reads."""
        self.rngs = list(rngs)
        return asdict(self)


AfterStep = Callable[[Callable[[], State]], None]
"""Called after each step with a function that returns the state of the epoch."""


def ignore_step(state: Callable[[], State]) -> None:
    """Save nothing."""


def load_part(saved: State | None, loss_sum: Tensor) -> EpochPart:
    """The part of an epoch that is done; without a saved one, its beginning, with a `loss_sum` of zeros."""
    return EpochPart(**saved) if saved else EpochPart(loss_sum)


def get_rngs(device: torch.device) -> list[Tensor]:
    """States of torch's own generators: of the CPU, and of the device if it is a GPU."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_rngs(device: torch.device, states: Sequence[Tensor]) -> None:
    """Set torch's own generators to the states of `get_rngs`; without any, nothing changes."""
    for index, state in enumerate(states):
        if index == 0:
            torch.set_rng_state(state.cpu())
        else:
            torch.cuda.set_rng_state(state.cpu(), device)

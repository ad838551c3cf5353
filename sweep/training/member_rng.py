"""Dropout and stochastic depth under vmap: each member draws the random numbers it would draw if trained alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sweep.model.build import fork_rng

_STOCHASTIC_DEPTH = ("DropPath", "StochasticDepth")  # of timm and torchvision


class MemberRngs:
    """One generator state per member; torch's generator of the device takes the state of one member at a time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.states: list[Tensor] = []

    @contextmanager
    def seeded(self, seeds: Iterable[int], saved: Sequence[Tensor] = ()) -> Iterator[None]:
        """Seed the generator of each member, or set it to its `saved` state; torch's own are restored on exit."""
        with fork_rng(0):
            self.states = [state.cpu() for state in saved] or [self._seeded_state(seed) for seed in seeds]
            yield

    def _seeded_state(self, seed: int) -> Tensor:
        with fork_rng(seed):
            return self._get_state()

    def run(self, module: nn.Module, values: Tensor) -> Tensor:
        """Apply a module to the inputs of each member, (members, …), each with the generator state of that member."""
        outputs = []
        for member, member_values in enumerate(values.unbind()):
            self._set_state(self.states[member])
            outputs.append(module(member_values))
            self.states[member] = self._get_state()
        return torch.stack(outputs)

    def _get_state(self) -> Tensor:
        return torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state()

    def _set_state(self, state: Tensor) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state, self.device)
        else:
            torch.set_rng_state(state)


class _OneByOne(torch.autograd.Function):
    """Calls `run` on the stacked values of all members; its vmap rule undoes the batching of vmap."""

    @staticmethod
    def forward(values: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        raise RuntimeError("_OneByOne works only under torch.func.vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, None], values: Tensor, run: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, int]:
        return run(values.movedim(in_dims[0], 0)), 0


class _PerMemberRandom(nn.Module):
    """Wraps a module that draws random numbers in training, so that each member draws its own."""

    def __init__(self, module: nn.Module, rngs: MemberRngs) -> None:
        super().__init__()
        self.module = module
        self.rngs = rngs

    def forward(self, values: Tensor) -> Tensor:
        """The output of the module."""
        if not self.training:
            evaluated: Tensor = self.module(values)
            return evaluated
        output: Tensor = _OneByOne.apply(values, partial(self.rngs.run, self.module))
        return output


def use_member_rngs(model: nn.Module, rngs: MemberRngs) -> None:
    """Wrap the dropout and stochastic-depth modules of a model in place, so that each member draws its own numbers."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            is_random = isinstance(child, nn.modules.dropout._DropoutNd) or type(child).__name__ in _STOCHASTIC_DEPTH
            if is_random and getattr(child, "p", True):
                setattr(parent, name, _PerMemberRandom(child, rngs))

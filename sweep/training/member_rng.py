"""Dropout and its like for several members at once: each with the random numbers that it would draw by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sweep.model.build import fork_rng

_RANDOM = ("DropPath", "StochasticDepth")  # timm's and torchvision's


class MemberRngs:
    """The states of the generator of a device for each member, of which one at a time is in use."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.states: list[Tensor] = []

    @contextmanager
    def of(self, seeds: Iterable[int]) -> Iterator[None]:
        """A stream from each seed; torch's generators are as before outside."""
        with fork_rng(0):
            self.states = []
            for seed in seeds:
                with fork_rng(seed):
                    self.states.append(self._now())
            yield

    def run(self, module: nn.Module, values: Tensor) -> Tensor:
        """A module on each member's values, (members, …), with the numbers that are next for this member."""
        found = []
        for place, own in enumerate(values.unbind()):
            self._set(self.states[place])
            found.append(module(own))
            self.states[place] = self._now()
        return torch.stack(found)

    def _now(self) -> Tensor:
        return torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state()

    def _set(self, state: Tensor) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state, self.device)
        else:
            torch.set_rng_state(state)


class _OneByOne(torch.autograd.Function):
    """What vmap must not do at once for all members: its rule takes them one by one."""

    @staticmethod
    def forward(values: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        raise RuntimeError("outside of vmap there is nothing to take apart")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, None], values: Tensor, run: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, int]:
        return run(values.movedim(in_dims[0], 0)), 0


class _PerMemberRandom(nn.Module):
    """A module that draws random numbers in training, each member its own."""

    def __init__(self, module: nn.Module, streams: MemberRngs) -> None:
        super().__init__()
        self.module = module
        self.streams = streams

    def forward(self, values: Tensor) -> Tensor:
        """As the module."""
        if not self.training:
            unchanged: Tensor = self.module(values)
            return unchanged
        drawn: Tensor = _OneByOne.apply(values, partial(self.streams.run, self.module))
        return drawn


def use_member_rngs(model: nn.Module, streams: MemberRngs) -> None:
    """Put what draws random numbers under the members' own streams, in place."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            random = isinstance(child, nn.modules.dropout._DropoutNd) or type(child).__name__ in _RANDOM
            if random and getattr(child, "p", True):
                setattr(parent, name, _PerMemberRandom(child, streams))

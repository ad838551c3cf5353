"""The penalties of a recipe that tie weights to those at the start of a training, as gradients."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from sweep.config.recipe import Recipe, WeightScope


class Penalties:
    """Adds the gradients of `l2_start` (L2-SP) and `scope` (Weight Scope Alignment) to those of the loss."""

    def __init__(
        self, parameters: Mapping[str, Tensor], recipe: Recipe, *, new: Collection[str] = (), is_stacked: bool = False
    ) -> None:
        """Take the weights at the start from `parameters`; the start has none for those in `new`.

        With `is_stacked` parameters are (members, …).
        """
        self.parameters = parameters
        self.strength = recipe.l2_start
        self.scope = recipe.scope
        self.is_stacked = is_stacked
        of_start = {name: parameter for name, parameter in parameters.items() if name not in new}
        self.starts = {name: p.detach().clone() for name, p in of_start.items()} if self.strength else {}
        self.targets = dict[str, tuple[Tensor, Tensor]]()
        if self.scope:
            scoped = of_start if self.scope.target == "start" else parameters
            self.targets = self._find_targets(scoped, self.scope)

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add the gradients of the penalties to those of all parameters that are trained."""
        for name, start in self.starts.items():
            parameter = self.parameters[name]
            if parameter.grad is not None:
                parameter.grad.add_(parameter - start, alpha=self.strength)
        for name, target in self.targets.items():
            parameter = self.parameters[name]
            if parameter.grad is not None and self.scope:
                gradient = scope_gradient(self._rows(parameter), *target)
                parameter.grad.add_(gradient.view(parameter.shape), alpha=self.scope.strength)

    @torch.no_grad()
    def _find_targets(self, parameters: Mapping[str, Tensor], scope: WeightScope) -> dict[str, tuple[Tensor, Tensor]]:
        """Target mean and variance of each layer, (members, 1); weights that are one constant have none."""
        found = {}
        for name, parameter in parameters.items():
            mean, variance = _moments(self._rows(parameter))
            if parameter.ndim - self.is_stacked < 2 or not (variance > 0).all():
                continue
            if scope.target == "fixed" and scope.std is not None:
                mean = torch.full_like(mean, scope.mean)
                variance = torch.full_like(variance, scope.std**2)
            found[name] = mean, variance
        return found

    def _rows(self, parameter: Tensor) -> Tensor:
        """A parameter as (members, entries)."""
        return parameter.detach().reshape(len(parameter) if self.is_stacked else 1, -1)


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (over n) of each row, (rows, 1)."""
    variance, mean = torch.var_mean(rows, dim=1, correction=0, keepdim=True)
    return mean, variance


def scope_gradient(rows: Tensor, target_mean: Tensor, target_variance: Tensor) -> Tensor:
    """The gradient of KL(N(m, v) ‖ N(target)) with m and v of each row (arXiv 2408.12237); as the rows, (rows, n)."""
    mean, variance = _moments(rows)
    spread = (1 / target_variance - 1 / variance) * (rows - mean)
    return (spread + (mean - target_mean) / target_variance) / rows.shape[1]

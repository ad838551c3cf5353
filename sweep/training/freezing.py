"""Which parameters of a model are trained in an epoch, and which batch norms keep their running statistics."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sweep.config.recipe import Recipe
from sweep.core.batch_norm import tracking_norms
from sweep.core.weights import TRAINABLE_ROLES, ParameterLayout
from sweep.model.layout import last_linear

BODY = "body"
HEAD = "head"


def matches(pattern: str, name: str, is_head: bool) -> bool:
    """Whether a pattern of `freeze` matches a tensor, by its name or by its part of the network."""
    return pattern == (HEAD if is_head else BODY) or fnmatchcase(name, pattern)


def freeze_problems(recipe: Recipe, layout: ParameterLayout) -> Iterator[tuple[str, str]]:
    """Yield (problem, hint) for patterns without a parameter or running mean, and if nothing is left to train."""
    names = {entry.name: [entry.name] for entry in layout.entries if entry.role in TRAINABLE_ROLES}
    for alias, name in layout.tied:
        names[name].append(alias)
    heads = {entry.name for entry in layout.entries if entry.role == HEAD}

    def is_frozen(name: str, patterns: Collection[str]) -> bool:
        return any(matches(pattern, alias, name in heads) for pattern in patterns for alias in names[name])

    statistics = [entry.name for entry in layout.entries if entry.name.endswith(".running_mean")]
    for pattern in recipe.freeze:
        known = any(is_frozen(name, [pattern]) for name in names)
        if not known and not any(fnmatchcase(name, pattern) for name in statistics):
            yield f"`{pattern}` matches no parameter", f"for example {next(iter(names))}, head or body"
    if recipe.freeze and all(is_frozen(name, recipe.freeze) for name in names):
        yield "every parameter is frozen", "leave one to train"
    elif recipe.linear_probe_epochs and all(is_frozen(name, recipe.freeze) for name in heads):
        yield "the head, which `linear_probe_epochs` trains, is frozen", "leave it out of freeze"


class Freezing:
    """Freezes what `freeze` and `linear_probe_epochs` of a recipe leave as it is."""

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.model = model
        self.recipe = recipe
        self.is_used = bool(recipe.freeze or recipe.linear_probe_epochs)
        self.head = last_linear(model) if self.is_used else ""
        self.trainable = {id(tensor) for tensor in model.parameters() if tensor.requires_grad}
        self.parameters = {id(tensor): name for name, tensor in model.named_parameters()}  # one of the names of each

    def start_epoch(self, epoch: int, parameters: Mapping[str, Tensor]) -> None:
        """Set the model to training and freeze what epoch `epoch`, from 0, does not train.

        `parameters` are those that the optimizer updates, by the names of the model's own.
        """
        self.model.train()
        if not self.is_used:
            return
        patterns = self._patterns(epoch)
        frozen = self._frozen(patterns)
        for identity, name in self.parameters.items():
            parameters[name].requires_grad_(identity in self.trainable and identity not in frozen)
        for norm in self._frozen_norms(patterns, frozen):
            norm.eval()

    def running_norms(self) -> list[_BatchNorm]:
        """The batch norms whose running statistics the last epoch updates."""
        patterns = self._patterns(self.recipe.epochs)
        frozen = {id(norm) for norm in self._frozen_norms(patterns, self._frozen(patterns))}
        return [norm for norm in tracking_norms(self.model) if id(norm) not in frozen]

    def _patterns(self, epoch: int) -> tuple[str, ...]:
        probing = (BODY,) if epoch < self.recipe.linear_probe_epochs else ()
        return (*self.recipe.freeze, *probing)

    def _frozen(self, patterns: Collection[str]) -> set[int]:
        """Identities of the frozen parameters; a tied one is frozen under any of its names."""
        named = self.model.named_parameters(remove_duplicate=False)
        return {id(tensor) for name, tensor in named if self._matches_any(patterns, name)}

    def _frozen_norms(self, patterns: Collection[str], frozen: Collection[int]) -> Iterator[_BatchNorm]:
        for name, module in self.model.named_modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                own = [id(tensor) for tensor in module.parameters(recurse=False)]
                is_frozen = bool(own) and all(identity in frozen for identity in own)
                if is_frozen or self._matches_any(patterns, f"{name}.running_mean"):
                    yield module

    def _matches_any(self, patterns: Collection[str], name: str) -> bool:
        is_head = name.rpartition(".")[0] == self.head
        return any(matches(pattern, name, is_head) for pattern in patterns)

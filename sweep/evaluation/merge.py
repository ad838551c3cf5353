"""The merge of one candidate: members -> merged weights or averaged outputs -> logits."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sweep.core.ids import derive_seed
from sweep.core.weights import Heads, LinearCombination, MergeCoefficients, TensorCombination, tensor_basis
from sweep.evaluation.engine import PoolEngine
from sweep.evaluation.members import MergeTerms, SubsetMembers
from sweep.evaluation.repair import apply_repair
from sweep.evaluation.switches import ProtocolContext
from sweep.plan.candidates import Candidate

ProvidedInputs = dict[str, Any]
"""What a method may need, by name: members, base and score as coordinates or as weights; logits, features, heads.

`record` takes the coefficients that a search chose for the members, where its result does not show them.
"""


def make_merge(engine: PoolEngine, candidate: Candidate) -> Merge:
    """The merge of a candidate, made once for all splits, with the method and scaling that its protocol substitutes.

    The signature of the method decides how it is made: a method that averages outputs gives an OutputEnsemble, one
    that returns a LinearCombination a LinearMerge, a TensorCombination a TensorMerge, any other a WeightMerge. Raises
    what alignment, scaling, method and repair raise.
    """
    members = _make_members(engine, candidate)
    return _merge_weights(members) if members.candidate.method.space == "weights" else OutputEnsemble(members)


def load_merge(engine: PoolEngine, candidate: Candidate) -> None:
    """Load the merged and repaired weights of a candidate in weight space into the engine's model."""
    _merge_weights(_make_members(engine, candidate)).load_weights()


def _make_members(engine: PoolEngine, candidate: Candidate) -> SubsetMembers:
    """The members of a candidate with the method and scaling that its protocol substitutes."""
    protocol = candidate.protocol
    method = protocol.method(candidate.method)
    scaling = protocol.scaling(candidate.scaling)
    return SubsetMembers(engine, candidate._replace(method=method, scaling=scaling))


def _merge_weights(members: SubsetMembers) -> MergedWeights:
    result = members.candidate.method.plugin.hints.get("return")
    if result is TensorCombination:
        return TensorMerge(members)
    return LinearMerge(members) if result is LinearCombination else WeightMerge(members)


class Merge(ABC):
    """One candidate, merged."""

    def __init__(self, members: SubsetMembers) -> None:
        self.members = members
        self.engine = members.engine
        self.candidate = members.candidate
        protocol = self.candidate.protocol
        method = self.candidate.method
        self.reporting = ProtocolContext(protocol.reporting(method.space), self.candidate.pool_id)
        self.searching = ProtocolContext(protocol.searching, self.candidate.pool_id)
        self.seconds = 0.0
        """Wall time that the merged weights took: alignment, scaling, method and repair; 0 for averaged outputs."""
        self.coefficients_chosen: Sequence[float] | None = None
        """The coefficients that a search chose for the members, in their order; None for a method that searches not."""

    @abstractmethod
    def logits(self, split: str) -> tuple[Tensor, float]:
        """Logits on a split, (examples, classes), and the wall time that averaging the members' outputs took."""

    def _call_method(self, provided: ProvidedInputs) -> Tensor:
        """The result of the method, whose generator has a seed of the candidate's own."""
        if "generator" in self.candidate.method.plugin.needs:
            seed = derive_seed(self.candidate.id, "generator")
            provided = {**provided, "generator": torch.Generator().manual_seed(seed)}
        result: Tensor = self.candidate.method.call(**provided, record=self._record)
        return result

    def _record(self, coefficients: Sequence[float]) -> None:
        self.coefficients_chosen = coefficients

    def _basis_inputs(self) -> ProvidedInputs:
        """Unit vectors in place of members and base: a linear method then returns its coefficients.

        `score` computes each score once.
        """
        count = self.members.count
        is_scaled_twice = "unscaled" in self.candidate.method.plugin.needs
        basis = torch.eye(count * (1 + is_scaled_twice) + 1, dtype=torch.float64)
        scores: dict[tuple[float, ...], float] = {}

        def score(coordinates: Tensor) -> float:
            key = tuple(coordinates.tolist())
            if key not in scores:
                coefficients = self.members.coefficients(coordinates)
                scores[key] = self.engine.accuracy(self.members.weights, coefficients, self.searching)
            return scores[key]

        base = basis[-1] if self.members.weights.base is not None else None
        return {"members": basis[:count], "unscaled": basis[count:-1], "base": base, "score": score}


class MergedWeights(Merge):
    """A merge in weight space: one network."""

    _loaded_at = -1
    """Count of the engine's loads just after these weights were loaded."""

    def load_weights(self) -> None:
        """Load the merged and repaired weights into the engine's model, unless they are in it already."""
        if self._loaded_at != self.engine.loads:
            terms = self._load_merged()
            apply_repair(self.engine, self.candidate, self.members.weights, terms)
            self._loaded_at = self.engine.loads

    def logits(self, split: str) -> tuple[Tensor, float]:
        """Logits on a split of the loaded weights."""
        self.load_weights()
        seed = derive_seed(self.candidate.id, split)
        return self.engine.forward(split, features=False, context=self.reporting, seed=seed).logits, 0.0

    @abstractmethod
    def _load_merged(self) -> MergeTerms:
        """Load the merged weights before their repair; the terms by which running statistics are averaged."""


class LinearMerge(MergedWeights):
    """A merge that is a linear combination of members: the method is called on coordinates, not on weights."""

    def __init__(self, members: SubsetMembers) -> None:
        super().__init__(members)
        started = time.perf_counter()
        self.coordinates = self._make_coordinates()
        self.coefficients = self._make_coefficients()
        if "score" in self.candidate.method.plugin.needs:
            self._record(self.coordinates[:-1].reshape(-1, members.count).sum(0).tolist())
        self._is_repaired = self.candidate.repair.name != "none"
        if self._is_repaired:
            self.load_weights()
        self.seconds = members.seconds + time.perf_counter() - started

    def _make_coordinates(self) -> Tensor:
        """Coefficients of the members, perhaps of the same unscaled, and of the base."""
        return self._call_method({**self._basis_inputs(), "layout": self.engine.layout})

    def _make_coefficients(self) -> MergeCoefficients:
        return self.members.coefficients(self.coordinates)

    def logits(self, split: str) -> tuple[Tensor, float]:
        """Logits on a split, from the engine's cache where equal weights were evaluated before."""
        if self._is_repaired:
            return super().logits(split)
        return self.engine.outputs(self.members.weights, self.coefficients, split, self.reporting).logits, 0.0

    def _load_merged(self) -> MergeTerms:
        self.engine.load(self.members.weights, self.coefficients)
        return self.members.terms(self.coordinates)


class TensorMerge(LinearMerge):
    """A merge that is a linear combination of members with coefficients of its own for each tensor."""

    def _make_coordinates(self) -> Tensor:
        """The mean over tensors of the coefficients of the members and the base: the terms that a repair sees."""
        layout = self.engine.layout
        inputs = tensor_basis(layout, self.members.count, has_base=self.members.weights.base is not None)
        self.tensor_coordinates = self._call_method(inputs).as_subclass(Tensor).view(len(layout.entries), -1)
        """Coefficients of the members and the base for each tensor, (tensors, members + 1)."""
        return self.tensor_coordinates.mean(0)

    def _make_coefficients(self) -> MergeCoefficients:
        return self.members.tensor_coefficients(self.tensor_coordinates)


class WeightMerge(MergedWeights):
    """A merge by any other function of the members' weights; running statistics are the mean of the members'.

    A member with a weight that is not finite makes a merge of NaN, whatever the method would do with it.
    """

    def __init__(self, members: SubsetMembers) -> None:
        super().__init__(members)
        started = time.perf_counter()
        inputs = self._weight_inputs()
        needs = {"members", "base"} & set(self.candidate.method.plugin.needs)
        usable = all(_is_finite(inputs[need]) for need in needs)
        self.parameters = self._call_method(inputs) if usable else inputs["members"][0] * torch.nan  # (parameters,)
        self.load_weights()
        self.seconds = members.seconds + time.perf_counter() - started

    def _weight_inputs(self) -> ProvidedInputs:
        """Copies of the trainable parameters of the scaled members, (members, parameters), the base, and the score."""
        engine = self.engine
        n_parameters = engine.layout.n_parameters
        members = torch.empty(self.members.count, n_parameters, device=engine.device)
        for position, row in enumerate(members):
            engine.load(self.members.weights, self.members.member(position))
            row.copy_(engine.flat_weights[:n_parameters])

        def score(parameters: Tensor) -> float:
            self._load_parameters(parameters)
            outputs = engine.forward("validation", features=False, context=self.searching)
            return engine.validation_accuracy(outputs.logits, self.searching)

        return {
            "members": members,
            "unscaled": self._unscaled(),
            "base": None if engine.base is None else engine.matrix[engine.base, :n_parameters].clone(),
            "score": score,
            "layout": engine.layout,
        }

    def _unscaled(self) -> Tensor | None:
        """A copy of the members' trainable parameters before scaling, if the method needs it."""
        if "unscaled" not in self.candidate.method.plugin.needs:
            return None
        weights = self.members.weights
        return weights.matrix[list(weights.rows), : self.engine.layout.n_parameters]

    def _load_merged(self) -> MergeTerms:
        self._load_parameters(self.parameters)
        return self.members.equal_terms

    def _load_parameters(self, parameters: Tensor) -> None:
        """Load trainable parameters (parameters,) and the mean of the members' running statistics."""
        self.engine.load(self.members.weights, self.members.equal_coefficients)
        self.engine.flat_weights[: self.engine.layout.n_parameters] = parameters


def _is_finite(weights: Tensor | None) -> bool:
    """Whether no weight is NaN or infinite. A sum per row shows that fast; as sums may overflow, all are then read."""
    if weights is None or bool(torch.isfinite(weights.sum(-1)).all()):
        return True
    return bool(torch.isfinite(weights).all())


class OutputEnsemble(Merge):
    """Averaged outputs of the members; each member is evaluated once per scaling and split."""

    def __init__(self, members: SubsetMembers) -> None:
        super().__init__(members)
        selects = {"members", "unscaled"} & set(self.candidate.method.plugin.needs)
        self._selection_inputs = self._basis_inputs() if selects else {}
        """For methods that select by the score of merged weights the members whose outputs they average."""

    def logits(self, split: str) -> tuple[Tensor, float]:
        """Averaged logits on a split, and the wall time of averaging."""
        outputs = [
            self.engine.outputs(*self.members.shared_member(position), split, self.reporting)
            for position in range(self.members.count)
        ]
        started = time.perf_counter()
        provided = {"logits": torch.stack([each.logits for each in outputs]), **self._selection_inputs}
        if "features" in self.candidate.method.plugin.needs:
            heads = [each.head for each in outputs if each.head]
            provided["features"] = torch.stack([each.features for each in outputs if each.features is not None])
            provided["heads"] = Heads(*(torch.stack(parts) for parts in zip(*heads, strict=True)))
        logits = self._call_method(provided)
        return logits, time.perf_counter() - started

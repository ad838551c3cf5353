"""One candidate: members -> merged weights or averaged outputs -> logits."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from sweep.core.ids import canonical_json, derive_seed
from sweep.core.weights import Heads, LinearCombination, LinearMerge, linear_merge
from sweep.evaluation.engine import PoolEngine, SubsetWeights
from sweep.evaluation.repair import MergeTerms, apply_repair
from sweep.evaluation.switches import ProtocolContext
from sweep.plan.candidates import Candidate

ProvidedInputs = dict[str, Any]
"""Members, base and score as a method in weight space sees them: as coordinates or as weights."""


class Merge:
    """One candidate on one pool, with the method and scaling that its protocol carries out."""

    def __init__(self, bench: PoolEngine, candidate: Candidate) -> None:
        begun, protocol = time.perf_counter(), candidate.protocol
        method, scaling = protocol.method(candidate.method), protocol.scaling(candidate.scaling)
        self.engine, self.candidate = bench, candidate._replace(method=method, scaling=scaling)
        self.reporting = ProtocolContext(protocol.reporting(method.space), candidate.pool_id)
        self.searching = ProtocolContext(protocol.searching, candidate.pool_id)
        self.method = method.plugin
        self.count = len(candidate.subset)
        self.scales_each_member = "member" in scaling.plugin.needs
        self.source = self._scale_members(self._source()) if self.scales_each_member else self._source()
        self.factors = self._factors()
        self.seconds = time.perf_counter() - begun  # that members took to be aligned and scaled

    def logits(self, split: str) -> tuple[Tensor, float]:
        """(examples, classes) and the seconds that it took to make the weights, or to average outputs."""
        if self.candidate.method.space != "weights":
            return self._average_outputs(split)
        begun = time.perf_counter()
        if self._is_linear and self.candidate.repair.name == "none":
            merge = self._blend()
            seconds = self.seconds + time.perf_counter() - begun
            return self.engine.outputs(self.source, merge, split, self.reporting).logits, seconds
        self.load_weights()
        seconds = self.seconds + time.perf_counter() - begun
        seed = derive_seed(self.candidate.id, split)
        return self.engine.forward(split, features=False, under=self.reporting, seed=seed).logits, seconds

    def load_weights(self) -> None:
        """Load the merged and repaired weights of a method in weight space into the bench's model."""
        if self._is_linear:
            parts = self._merge_terms(self._merged(self._basis_inputs()))
            self.engine.load(self.source, linear_merge(self.engine.layout, *parts))
        else:
            parts = self._equal_terms
            self._materialize_into_model(self._merged(self._weight_inputs()))
        apply_repair(self.engine, self.candidate, self.source, parts)

    @property
    def _is_linear(self) -> bool:
        """Whether the method gives coefficients when it is called on coordinates."""
        return self.method.hints.get("return") is LinearCombination

    def _blend(self) -> LinearMerge:
        """The merge of a linear method."""
        return self._merge(self._merged(self._basis_inputs()))

    def _source(self) -> SubsetWeights:
        """The subset's members, aligned to one another where that is asked."""
        alignment, subset = self.candidate.alignment, self.candidate.subset
        matrix, base = self.engine.matrix, self.engine.base
        if alignment.name == "none":
            return SubsetWeights((), matrix, subset, base)
        aligned = self.engine.aligner.aligned(alignment, subset, self.candidate.pool_id)
        rows = tuple(range(len(subset)))
        if base is None:
            return SubsetWeights((alignment, subset), aligned, rows, None)
        return SubsetWeights((alignment, subset), torch.cat([aligned, matrix[base : base + 1]]), rows, len(rows))

    def _factors(self) -> Tensor:
        """A factor per member and tensor: ones where the scaling gives members with other weights."""
        if self.scales_each_member:
            return torch.ones(self.count, len(self.engine.layout.entries), dtype=torch.float64)
        scaling = self.candidate.scaling
        if "members" not in scaling.plugin.needs:
            return self.engine.factors(scaling, self.count)
        members = self.source.matrix[list(self.source.rows)]
        factors = scaling.call(count=self.count, layout=self.engine.layout, members=members)
        plain: Tensor = factors.as_subclass(Tensor)
        return plain

    def _scale_members(self, source: SubsetWeights) -> SubsetWeights:
        """The subset's members as the scaling changes them, one by one; the base stays as it is."""
        scaling, pool_id = self.candidate.scaling, self.candidate.pool_id
        changed = []
        for row, index in zip(source.rows, self.candidate.subset, strict=True):
            seed = derive_seed(pool_id, f"member {index}", canonical_json(scaling.id_content))
            generator = torch.Generator().manual_seed(seed)
            changed.append(scaling.call(member=source.matrix[row], layout=self.engine.layout, generator=generator))
        base = [] if source.base is None else [source.matrix[source.base]]
        key = (scaling, *source.key, self.candidate.subset)
        return SubsetWeights(
            key, torch.stack([*changed, *base]), tuple(range(self.count)), self.count if base else None
        )

    def _member_merge(self, place: int) -> tuple[SubsetWeights, LinearMerge]:
        """One scaled member of the subset, by its place, as outputs of it are kept: for every subset that it is in."""
        if not self.scales_each_member or self.candidate.alignment.name != "none":
            return self.source, self._single(place)
        key = (self.candidate.scaling, self.candidate.subset[place])
        alone = SubsetWeights(key, self.source.matrix[place : place + 1], (0,), None)
        return alone, linear_merge(self.engine.layout, alone.rows, [1.0], self.factors[:1])

    def _merged(self, brought: ProvidedInputs) -> Tensor:
        """What the method makes of members, base and score."""
        merged: Tensor = self.candidate.method.call(**brought, **self._random(), layout=self.engine.layout)
        return merged

    def _random(self) -> dict[str, torch.Generator]:
        """A generator of this candidate's own, where its method draws."""
        if "generator" not in self.method.needs:
            return {}
        return {"generator": torch.Generator().manual_seed(derive_seed(self.candidate.id, "generator"))}

    def _basis_inputs(self) -> ProvidedInputs:
        """Unit vectors in the place of members and base: a linear method then returns its coefficients."""
        twice = "unscaled" in self.method.needs
        basis = torch.eye(self.count * (1 + twice) + 1, dtype=torch.float64)

        def score(coordinates: Tensor) -> float:
            return self.engine.accuracy(self.source, self._merge(coordinates), self.searching)

        base = basis[-1] if self.source.base is not None else None
        return {"members": basis[: self.count], "unscaled": basis[self.count : -1], "base": base, "score": score}

    def _merge(self, coordinates: Tensor) -> LinearMerge:
        """The blend of coordinates."""
        return linear_merge(self.engine.layout, *self._merge_terms(coordinates))

    def _merge_terms(self, coordinates: Tensor) -> MergeTerms:
        """What coordinates add up, over the members and, last, the base, which no scaling touches."""
        *members, base = coordinates.tolist()
        rows, coefficients, factors = self._scaled_terms(members)
        if not base or self.source.base is None:
            return rows, coefficients, factors
        ones = torch.ones(1, factors.shape[1], dtype=factors.dtype)
        return (*rows, self.source.base), [*coefficients, base], torch.cat([factors, ones])

    @property
    def _equal_terms(self) -> MergeTerms:
        """The scaled members, of each as much."""
        return self.source.rows, [1 / self.count] * self.count, self.factors

    def _scaled_terms(self, coefficients: list[float]) -> MergeTerms:
        """The scaled members and, where coordinates go on, the same members unscaled."""
        rows, factors, n = self.source.rows, self.factors, self.count
        if len(coefficients) == n:
            return rows, coefficients, factors
        if bool((factors == 1).all()):
            return rows, [a + b for a, b in zip(coefficients[:n], coefficients[n:], strict=True)], factors
        return (*rows, *rows), coefficients, torch.cat([factors, torch.ones_like(factors)])

    def _single(self, place: int) -> LinearMerge:
        """One scaled member of the subset, by its place."""
        return self.engine.one_member_merge(self.source.rows[place], self.factors[place])

    def _weight_inputs(self) -> ProvidedInputs:
        """Copies of the scaled members' learnable parameters, for methods that are not linear."""
        bench, parameters = self.engine, self.engine.layout.n_parameters
        rows = []
        for place in range(self.count):
            bench.load(self.source, self._single(place))
            rows.append(bench.flat_weights[:parameters].clone())
        base = None if bench.base is None else bench.matrix[bench.base, :parameters].clone()

        def score(weights: Tensor) -> float:
            self._materialize_into_model(weights)
            spoken = bench.forward("validation", features=False, under=self.searching)
            return bench.accuracy_of(spoken.logits, self.searching)

        brought = {"members": torch.stack(rows), "base": base, "score": score}
        if "unscaled" in self.method.needs:
            brought["unscaled"] = self.source.matrix[list(self.source.rows), :parameters]
        return brought

    def _materialize_into_model(self, weights: Tensor) -> None:
        """Load merged parameters (parameters,), running statistics being the members' mean."""
        self.engine.load(self.source, linear_merge(self.engine.layout, *self._equal_terms))
        self.engine.flat_weights[: self.engine.layout.n_parameters] = weights

    def _selection_inputs(self) -> dict[str, Any]:
        """Members, base and score as coordinates, for methods that choose by weights what outputs they average."""
        if not {"members", "unscaled"} & set(self.method.needs):
            return {}
        return self._basis_inputs()

    def _average_outputs(self, split: str) -> tuple[Tensor, float]:
        """Averaged logits, from members' outputs that are computed once per member, scaling and split."""
        said = [self.engine.outputs(*self._member_merge(place), split, self.reporting) for place in range(self.count)]
        begun = time.perf_counter()
        brought: dict[str, Any] = {
            "logits": torch.stack([each.logits for each in said]),
            **self._random(),
            **self._selection_inputs(),
        }
        if "features" in self.method.needs:
            heads = [each.head for each in said if each.head]
            brought["features"] = torch.stack([each.features for each in said if each.features is not None])
            brought["heads"] = Heads(*(torch.stack(parts) for parts in zip(*heads, strict=True)))
        logits: Tensor = self.candidate.method.call(**brought)
        return logits, time.perf_counter() - begun

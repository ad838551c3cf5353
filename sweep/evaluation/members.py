"""The members of a candidate's subset, aligned to one another and scaled."""

from __future__ import annotations

import time
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from sweep.core.ids import canonical_json, derive_seed
from sweep.core.weights import MergeCoefficients, merge_coefficients
from sweep.evaluation.engine import PoolEngine, SubsetWeights
from sweep.plan.candidates import Candidate


class MergeTerms(NamedTuple):
    """The terms of the sum that a linear merge is."""

    rows: tuple[int, ...]  # of the subset's matrix
    coefficients: list[float]
    factors: Tensor  # (rows, tensors)


class SubsetMembers:
    """The members of a candidate's subset after alignment and scaling."""

    def __init__(self, engine: PoolEngine, candidate: Candidate) -> None:
        started = time.perf_counter()
        self.engine = engine
        self.candidate = candidate
        self.count = len(candidate.subset)
        self.weights = self._aligned_weights()
        self._scaled_one_by_one = "member" in candidate.scaling.plugin.needs
        """Whether the scaling returns weights of its own for each member, not factors."""
        if self._scaled_one_by_one:
            self.weights = self._scale_members(self.weights)
        self.factors = self._make_factors()
        self.seconds = time.perf_counter() - started
        """Wall time of alignment and scaling."""

    def member(self, position: int) -> MergeCoefficients:
        """One scaled member, by its position in the subset."""
        return self.engine.one_member_merge(self.weights.rows[position], self.factors[position])

    def shared_member(self, position: int) -> tuple[SubsetWeights, MergeCoefficients]:
        """Weights and coefficients of one scaled member under a cache key that all subsets with this member share."""
        if not self._scaled_one_by_one or self.candidate.alignment.name != "none":
            return self.weights, self.member(position)
        key = (self.candidate.scaling, self.candidate.subset[position])
        alone = SubsetWeights(key, self.weights.matrix[position : position + 1], (0,), None)
        return alone, merge_coefficients(self.engine.layout, alone.rows, [1.0], self.factors[:1])

    def coefficients(self, coordinates: Tensor) -> MergeCoefficients:
        """The linear merge with these coordinates."""
        return merge_coefficients(self.engine.layout, *self.terms(coordinates))

    def tensor_coefficients(self, coordinates: Tensor) -> MergeCoefficients:
        """The merge with these coordinates of each tensor, (tensors, members and, last, the base)."""
        rows = self.weights.rows
        factors = self.factors
        if self.weights.base is None:
            return merge_coefficients(self.engine.layout, rows, coordinates[:, :-1].T, factors)
        factors = torch.cat([factors, torch.ones_like(factors[:1])])
        return merge_coefficients(self.engine.layout, (*rows, self.weights.base), coordinates.T, factors)

    def terms(self, coordinates: Tensor) -> MergeTerms:
        """The terms of a linear merge, from coordinates of the members and, last, of the base.

        Coordinates of the members may be followed by those of the same members unscaled. The base is never scaled.
        """
        *members, base = coordinates.tolist()
        terms = self._member_terms(members)
        if not base or self.weights.base is None:
            return terms
        ones = torch.ones(1, terms.factors.shape[1], dtype=terms.factors.dtype)
        rows = (*terms.rows, self.weights.base)
        return MergeTerms(rows, [*terms.coefficients, base], torch.cat([terms.factors, ones]))

    @property
    def equal_terms(self) -> MergeTerms:
        """The scaled members with equal coefficients."""
        return MergeTerms(self.weights.rows, [1 / self.count] * self.count, self.factors)

    @cached_property
    def equal_coefficients(self) -> MergeCoefficients:
        """The mean of the scaled members."""
        return merge_coefficients(self.engine.layout, *self.equal_terms)

    def _member_terms(self, coefficients: list[float]) -> MergeTerms:
        """The terms of the scaled members, and of the unscaled ones where there are coefficients for them."""
        rows = self.weights.rows
        factors = self.factors
        n = self.count
        if len(coefficients) == n:
            return MergeTerms(rows, coefficients, factors)
        if bool((factors == 1).all()):
            sums = [a + b for a, b in zip(coefficients[:n], coefficients[n:], strict=True)]
            return MergeTerms(rows, sums, factors)
        return MergeTerms((*rows, *rows), coefficients, torch.cat([factors, torch.ones_like(factors)]))

    def _aligned_weights(self) -> SubsetWeights:
        """The members, aligned to one another if the candidate has an alignment."""
        alignment = self.candidate.alignment
        subset = self.candidate.subset
        matrix = self.engine.matrix
        base = self.engine.base
        if alignment.name == "none":
            return SubsetWeights((), matrix, subset, base)
        aligned = self.engine.aligner.aligned(alignment, subset, self.candidate.pool_id)
        rows = tuple(range(len(subset)))
        if base is None:
            return SubsetWeights((alignment, subset), aligned, rows, None)
        return SubsetWeights((alignment, subset), torch.cat([aligned, matrix[base : base + 1]]), rows, len(rows))

    def _scale_members(self, weights: SubsetWeights) -> SubsetWeights:
        """The members as the scaling changes them, one by one; the base stays as it is."""
        scaling = self.candidate.scaling
        pool_id = self.candidate.pool_id
        scaled = []
        for row, index in zip(weights.rows, self.candidate.subset, strict=True):
            seed = derive_seed(pool_id, f"member {index}", canonical_json(scaling.id_content))
            generator = torch.Generator().manual_seed(seed)
            scaled.append(scaling.call(member=weights.matrix[row], layout=self.engine.layout, generator=generator))
        base = [] if weights.base is None else [weights.matrix[weights.base]]
        key = (scaling, *weights.key, self.candidate.subset)
        rows = tuple(range(self.count))
        return SubsetWeights(key, torch.stack([*scaled, *base]), rows, self.count if base else None)

    def _make_factors(self) -> Tensor:
        """Factors of the scaling, (members, tensors); ones where it has scaled the members one by one."""
        if self._scaled_one_by_one:
            return torch.ones(self.count, len(self.engine.layout.entries), dtype=torch.float64)
        scaling = self.candidate.scaling
        if "members" not in scaling.plugin.needs:
            return self.engine.factors(scaling, self.count)
        members = self.weights.matrix[list(self.weights.rows)]
        factors = scaling.call(count=self.count, layout=self.engine.layout, members=members)
        tensor: Tensor = factors.as_subclass(Tensor)
        return tensor

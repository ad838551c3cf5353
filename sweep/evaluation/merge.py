"""One candidate: members -> merged weights or averaged outputs -> logits."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from sweep.core.choice import Choice
from sweep.core.ids import canonical, derive_seed
from sweep.core.weights import Blend, Combination, Heads, blend
from sweep.evaluation.engine import Bench, Source
from sweep.evaluation.repair import Parts, mend
from sweep.evaluation.switches import Conditions
from sweep.plan.candidates import Candidate

Brought = dict[str, Any]
"""Members, base and score as a method in weight space sees them: as coordinates or as weights."""


class Evaluation:
    """One candidate on one pool, with the method and scaling that its protocol carries out."""

    def __init__(self, bench: Bench, candidate: Candidate) -> None:
        begun, protocol = time.perf_counter(), candidate.protocol
        method, scaling = protocol.method(candidate.method), protocol.scaling(candidate.scaling)
        self.bench, self.candidate = bench, candidate._replace(method=method, scaling=scaling)
        self.reporting = Conditions(protocol.reporting(method.space), candidate.pool_id)
        self.searching = Conditions(protocol.searching, candidate.pool_id)
        self.method = method.entry
        self.count = len(candidate.subset)
        self.perturbing = "member" in scaling.entry.needs
        self.source = self._perturbed(self._source()) if self.perturbing else self._source()
        self.factors = self._factors()
        self.seconds = time.perf_counter() - begun  # that members took to be aligned and scaled

    def logits(self, split: str) -> tuple[Tensor, float]:
        """(examples, classes) and the seconds that it took to make the weights, or to average outputs."""
        if self.candidate.method.space != "weights":
            return self._averaged_outputs(split)
        begun = time.perf_counter()
        if self._linear and self.candidate.repair.name == "none":
            merge = self._blend()
            seconds = self.seconds + time.perf_counter() - begun
            return self.bench.said(self.source, merge, split, self.reporting).logits, seconds
        self.load()
        seconds = self.seconds + time.perf_counter() - begun
        seed = derive_seed(self.candidate.id, split)
        return self.bench.speak(split, features=False, under=self.reporting, seed=seed).logits, seconds

    def load(self) -> None:
        """Load the merged and repaired weights of a method in weight space into the bench's model."""
        if self._linear:
            parts = self._parts(self._merged(self._coordinates()))
            self.bench.load(self.source, blend(self.bench.layout, *parts))
        else:
            parts = self._equal_parts
            self._load_weights(self._merged(self._materialised()))
        mend(self.bench, self.candidate, self.source, parts)

    @property
    def _linear(self) -> bool:
        """Whether the method gives coefficients when it is called on coordinates."""
        return self.method.hints.get("return") is Combination

    def _blend(self) -> Blend:
        """The merge of a linear method."""
        return self._merge(self._merged(self._coordinates()))

    def _source(self) -> Source:
        """The subset's members, aligned to one another where that is asked."""
        alignment, subset = self.candidate.alignment, self.candidate.subset
        matrix, base = self.bench.matrix, self.bench.base
        if alignment.name == "none":
            return Source((), matrix, subset, base)
        aligned = self.bench.aligner.aligned(alignment, subset, self.candidate.pool_id)
        rows = tuple(range(len(subset)))
        if base is None:
            return Source((alignment, subset), aligned, rows, None)
        return Source((alignment, subset), torch.cat([aligned, matrix[base : base + 1]]), rows, len(rows))

    def _factors(self) -> Tensor:
        """A factor per member and tensor: ones where the scaling gives members with other weights."""
        if self.perturbing:
            return torch.ones(self.count, len(self.bench.layout.entries), dtype=torch.float64)
        scaling = self.candidate.scaling
        if "members" not in scaling.entry.needs:
            return self.bench.factors(scaling, self.count)
        members = self.source.matrix[list(self.source.rows)]
        brought = {"count": self.count, "layout": self.bench.layout, "members": members}
        plain: Tensor = self._call(scaling, brought).as_subclass(Tensor)
        return plain

    def _perturbed(self, source: Source) -> Source:
        """The subset's members as the scaling changes them, one by one; the base stays as it is."""
        scaling, pool_id = self.candidate.scaling, self.candidate.pool_id
        changed = []
        for row, index in zip(source.rows, self.candidate.subset, strict=True):
            seed = derive_seed(pool_id, f"member {index}", canonical(scaling.content))
            brought = {"member": source.matrix[row], "layout": self.bench.layout}
            generator = torch.Generator().manual_seed(seed)
            changed.append(self._call(scaling, {**brought, "generator": generator}))
        base = [] if source.base is None else [source.matrix[source.base]]
        key = (scaling, *source.key, self.candidate.subset)
        return Source(key, torch.stack([*changed, *base]), tuple(range(self.count)), self.count if base else None)

    def _lone(self, place: int) -> tuple[Source, Blend]:
        """One scaled member of the subset, by its place, as outputs of it are kept: for every subset that it is in."""
        if not self.perturbing or self.candidate.alignment.name != "none":
            return self.source, self._single(place)
        key = (self.candidate.scaling, self.candidate.subset[place])
        alone = Source(key, self.source.matrix[place : place + 1], (0,), None)
        return alone, blend(self.bench.layout, alone.rows, [1.0], self.factors[:1])

    def _call(self, choice: Choice, brought: dict[str, Any]) -> Any:
        """A function of an open set with what it needs and its settings."""
        return choice.entry.function(*(brought[need] for need in choice.entry.needs), **choice.settings)

    def _merged(self, brought: Brought) -> Tensor:
        """What the method makes of members, base and score."""
        merged: Tensor = self._call(self.candidate.method, {**brought, "layout": self.bench.layout} | self._random())
        return merged

    def _random(self) -> dict[str, torch.Generator]:
        """A generator of this candidate's own, where its method draws."""
        if "generator" not in self.method.needs:
            return {}
        return {"generator": torch.Generator().manual_seed(derive_seed(self.candidate.id, "generator"))}

    def _coordinates(self) -> Brought:
        """Unit vectors in the place of members and base: a linear method then returns its coefficients."""
        twice = "unscaled" in self.method.needs
        basis = torch.eye(self.count * (1 + twice) + 1, dtype=torch.float64)

        def score(coordinates: Tensor) -> float:
            return self.bench.accuracy(self.source, self._merge(coordinates), self.searching)

        base = basis[-1] if self.source.base is not None else None
        return {"members": basis[: self.count], "unscaled": basis[self.count : -1], "base": base, "score": score}

    def _merge(self, coordinates: Tensor) -> Blend:
        """The blend of coordinates."""
        return blend(self.bench.layout, *self._parts(coordinates))

    def _parts(self, coordinates: Tensor) -> Parts:
        """What coordinates add up, over the members and, last, the base, which no scaling touches."""
        *members, base = coordinates.tolist()
        rows, coefficients, factors = self._terms(members)
        if not base or self.source.base is None:
            return rows, coefficients, factors
        ones = torch.ones(1, factors.shape[1], dtype=factors.dtype)
        return (*rows, self.source.base), [*coefficients, base], torch.cat([factors, ones])

    @property
    def _equal_parts(self) -> Parts:
        """The scaled members, of each as much."""
        return self.source.rows, [1 / self.count] * self.count, self.factors

    def _terms(self, coefficients: list[float]) -> Parts:
        """The scaled members and, where coordinates go on, the same members unscaled."""
        rows, factors, n = self.source.rows, self.factors, self.count
        if len(coefficients) == n:
            return rows, coefficients, factors
        if bool((factors == 1).all()):
            return rows, [a + b for a, b in zip(coefficients[:n], coefficients[n:], strict=True)], factors
        return (*rows, *rows), coefficients, torch.cat([factors, torch.ones_like(factors)])

    def _single(self, place: int) -> Blend:
        """One scaled member of the subset, by its place."""
        return self.bench.single(self.source.rows[place], self.factors[place])

    def _materialised(self) -> Brought:
        """Copies of the scaled members' learnable parameters, for methods that are not linear."""
        bench, parameters = self.bench, self.bench.layout.n_parameters
        rows = []
        for place in range(self.count):
            bench.load(self.source, self._single(place))
            rows.append(bench.row[:parameters].clone())
        base = None if bench.base is None else bench.matrix[bench.base, :parameters].clone()

        def score(weights: Tensor) -> float:
            self._load_weights(weights)
            spoken = bench.speak("validation", features=False, under=self.searching)
            return bench.accuracy_of(spoken.logits, self.searching)

        brought = {"members": torch.stack(rows), "base": base, "score": score}
        if "unscaled" in self.method.needs:
            brought["unscaled"] = self.source.matrix[list(self.source.rows), :parameters]
        return brought

    def _load_weights(self, weights: Tensor) -> None:
        """Load merged parameters (parameters,), running statistics being the members' mean."""
        self.bench.load(self.source, blend(self.bench.layout, *self._equal_parts))
        self.bench.row[: self.bench.layout.n_parameters] = weights

    def _chosen_by(self) -> dict[str, Any]:
        """Members, base and score as coordinates, for methods that choose by weights what outputs they average."""
        if not {"members", "unscaled"} & set(self.method.needs):
            return {}
        return self._coordinates()

    def _averaged_outputs(self, split: str) -> tuple[Tensor, float]:
        """Averaged logits, from members' outputs that are computed once per member, scaling and split."""
        said = [self.bench.said(*self._lone(place), split, self.reporting) for place in range(self.count)]
        begun = time.perf_counter()
        brought: dict[str, Any] = {
            "logits": torch.stack([each.logits for each in said]),
            **self._random(),
            **self._chosen_by(),
        }
        if "features" in self.method.needs:
            heads = [each.head for each in said if each.head]
            brought["features"] = torch.stack([each.features for each in said if each.features is not None])
            brought["heads"] = Heads(*(torch.stack(parts) for parts in zip(*heads, strict=True)))
        logits: Tensor = self._call(self.candidate.method, brought)
        return logits, time.perf_counter() - begun

"""The columns of a candidate's row, its predictions, and the rows of work that could not be run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from sweep.core.provenance import code_version, now
from sweep.plan.candidates import Candidate
from sweep.plan.pools import Pool
from sweep.plan.work import BlockWork, CandidateItem, InspectionItem, MemberPair
from sweep.storage.rows import BlockRows, Row

_FLOAT16 = np.finfo(np.float16)


def candidate_columns(candidate: Candidate, pool: Pool, sweep: str, split: str) -> Row:
    """The columns that describe a candidate, known before it is evaluated."""
    scaling = candidate.scaling.settings
    plugins = {key: getattr(candidate, key) for key in ("alignment", "scaling", "repair")}
    return {
        "candidate_id": candidate.id,
        "block_id": candidate.block,
        "sweep": sweep,
        **pool_columns(pool),
        "space": candidate.method.space,
        "method": candidate.method.name,
        "settings": candidate.method.settings_json,
        "members": [pool.members[index].id for index in candidate.subset],
        "member_indices": list(candidate.subset),
        "n_members": len(candidate.subset),
        **{key: config.name for key, config in plugins.items()},
        **{f"{key}_settings": config.settings_json for key, config in plugins.items()},
        "scaling_factor": _number(scaling.get("factor", 1.0)),
        "scaling_members": str(scaling.get("members", "all")),
        "split": split,
        "protocol": candidate.protocol.name,
        "dataset_settings": pool.population.dataset.settings_json,
        **stamp(),
    }


def choice_columns(members: Sequence[str], coefficients: Sequence[float] | None) -> Row:
    """The members that a search chose and their coefficients, null for a method that searches not."""
    if coefficients is None:
        return {"chosen": None, "coefficients": None}
    chosen = [(member, number) for member, number in zip(members, coefficients, strict=True) if number != 0]
    return {"chosen": [member for member, _ in chosen], "coefficients": [number for _, number in chosen]}


def stamp() -> Row:
    """When and by what code a row was made."""
    return {"created_at": now(), "code_version": code_version()}


def _number(value: Any) -> float | None:
    """A scaling factor; None if a user's own scaling has a setting of that name that is no number."""
    return float(value) if isinstance(value, int | float) else None


def pool_columns(pool: Pool) -> Row:
    """The columns that name the pool and population of a row."""
    population = pool.population
    return {
        "population": population.name,
        "pool_id": pool.id,
        "pool": pool.index,
        "architecture": population.architecture.name,
        "dataset": population.dataset.name,
        "start": population.start,
    }


def failed_rows(work: BlockWork, pool: Pool, sweep: str, cause: str) -> BlockRows:
    """Rows of candidates that could not be evaluated; for pairs and inspected models the error of their block."""
    return work.run(_FailureRows(pool, sweep, cause))


@dataclass(frozen=True)
class _FailureRows:
    """Makes the rows of work that failed."""

    pool: Pool
    sweep: str
    cause: str

    def candidate_rows(self, items: Sequence[CandidateItem]) -> BlockRows:
        outcome = {"status": "failed", "error": self.cause}
        return BlockRows(
            [
                candidate_columns(candidate, self.pool, self.sweep, split) | outcome
                for candidate, splits in items
                for split in splits
            ]
        )

    def pair_rows(self, pairs: Sequence[MemberPair]) -> BlockRows:
        return BlockRows(error=self.cause)

    def inspection_rows(self, items: Sequence[InspectionItem]) -> BlockRows:
        return BlockRows(error=self.cause)


def make_prediction(row: Row, logits: Tensor, labels: Tensor, *, probabilities: bool) -> Row:
    """Which examples are right, and the predicted classes; with `probabilities`, also those of finite outputs."""
    predicted = logits.argmax(-1).cpu()
    correct = np.packbits((predicted == labels.cpu()).numpy())
    dtype = np.uint8 if logits.shape[1] <= 256 else "<u2"
    shared = {key: row[key] for key in ("candidate_id", "block_id", "split", "n_examples")}
    prediction = shared | {"correct": correct.tobytes(), "classes": predicted.numpy().astype(dtype).tobytes()}
    if not probabilities or not row["finite"]:
        return prediction
    true_classes = labels.cpu().numpy().astype(dtype).tobytes()
    log_probabilities = _to_float16(logits.double().log_softmax(-1))
    return prediction | {"labels": true_classes, "log_probabilities": log_probabilities}


def _to_float16(log_probabilities: Tensor) -> bytes:
    """The values as float16, little-endian, row by row, clipped to its range."""
    return log_probabilities.cpu().numpy().clip(_FLOAT16.min, _FLOAT16.max).astype("<f2").tobytes()

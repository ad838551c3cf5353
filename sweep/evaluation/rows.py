"""The columns of a candidate's row, and the rows of one that failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sweep.core.provenance import code_version, now
from sweep.plan.candidates import Candidate
from sweep.plan.pools import Pool
from sweep.plan.work import WorkItems
from sweep.storage.rows import BlockRows, Row

_HALF = np.finfo(np.float16)


def candidate_columns(candidate: Candidate, pool: Pool, sweep: str, split: str) -> Row:
    """The columns that say what a row is about, known before it is evaluated."""
    factors = candidate.scaling.settings
    choices = {key: getattr(candidate, key) for key in ("alignment", "scaling", "repair")}
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
        **{key: choice.name for key, choice in choices.items()},
        **{f"{key}_settings": choice.settings_json for key, choice in choices.items()},
        "scaling_factor": _number(factors.get("factor", 1.0)),
        "scaling_members": str(factors.get("members", "all")),
        "split": split,
        "protocol": candidate.protocol.name,
        **stamp(),
    }


def stamp() -> Row:
    """When and by what code a row was made."""
    return {"created_at": now(), "code_version": code_version()}


def _candidates(work: WorkItems) -> list[tuple[Candidate, Sequence[str]]]:
    """The candidates of a block."""
    return [(each, splits) for each, splits in work if isinstance(each, Candidate)]


def _number(value: Any) -> float | None:
    """A factor, where a scaling of one's own calls something else so."""
    return float(value) if isinstance(value, int | float) else None


def pool_columns(pool: Pool) -> Row:
    """The columns that say which pool of which population a row comes from."""
    population = pool.population
    return {
        "population": population.name,
        "pool_id": pool.id,
        "pool": pool.index,
        "architecture": population.architecture.name,
        "dataset": population.dataset.name,
        "start": population.start,
    }


def failed_rows(work: WorkItems, pool: Pool, sweep: str, cause: str) -> BlockRows:
    """Rows of candidates that could not be evaluated at all; pairs and models that could not be looked at have none."""
    outcome, todo = {"status": "failed", "error": cause}, _candidates(work)
    return BlockRows(
        [candidate_columns(candidate, pool, sweep, split) | outcome for candidate, splits in todo for split in splits]
    )


def _prediction(row: Row, logits: Tensor, labels: Tensor, *, probabilities: bool) -> Row:
    """Which examples are right, and the predicted classes; with `probabilities`, those of finite outputs, too."""
    predicted = logits.argmax(-1).cpu()
    correct = np.packbits((predicted == labels.cpu()).numpy())
    number = np.uint8 if logits.shape[1] <= 256 else "<u2"
    same = {key: row[key] for key in ("candidate_id", "block_id", "split", "n_examples")}
    said = same | {"correct": correct.tobytes(), "classes": predicted.numpy().astype(number).tobytes()}
    if not probabilities or not row["finite"]:
        return said
    right = labels.cpu().numpy().astype(number).tobytes()
    return said | {"labels": right, "log_probabilities": _halves(logits.double().log_softmax(-1))}


def _halves(log_probabilities: Tensor) -> bytes:
    """As float16, little-endian, row by row; what is beyond its range becomes its ends."""
    return log_probabilities.cpu().numpy().clip(_HALF.min, _HALF.max).astype("<f2").tobytes()

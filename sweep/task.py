"""One block: candidates -> rows. It runs anywhere: no Ray and no MLflow here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweep.candidate import Evaluation
from sweep.catalogue import Candidate
from sweep.columns import COLUMNS
from sweep.evaluate import measure
from sweep.files import now
from sweep.identity import canonical, content_id
from sweep.inside import Inside, Model
from sweep.lineage import Pool
from sweep.outputs import Bench
from sweep.pairs import Pair, pair_rows
from sweep.provenance import code_version

Row = dict[str, Any]
_OWN_COLUMNS = {column.name for column in COLUMNS["candidates"]}
_HALF = np.finfo(np.float16)

Items = Sequence[tuple[Candidate | Pair | Model, Sequence[str]]]
"""What a block is made of: candidates with the splits asked for, models with the tables, and pairs with nothing."""


@dataclass
class Rows:
    """What a block adds to the tables, and what it cost."""

    candidates: list[Row] = field(default_factory=list)
    predictions: list[Row] = field(default_factory=list)
    pairs: list[Row] = field(default_factory=list)
    layers: list[Row] = field(default_factory=list)
    templates: list[Row] = field(default_factory=list)
    cost: Row = field(default_factory=dict)

    @property
    def tables(self) -> dict[str, list[Row]]:
        """The rows by table, in the order in which they are written: candidates last, for they say what is done."""
        names = ("predictions", "pairs", "layers", "templates", "candidates")
        return {name: getattr(self, name) for name in names}

    def extend(self, other: Rows) -> None:
        """Put another's rows behind these, the costs added up; rows that were never evaluated cost nothing."""
        for table, rows in self.tables.items():
            rows += other.tables[table]
        if not other.cost:
            return
        sums = {key: self.cost.get(key, 0) + other.cost[key] for key in ("seconds", "cpu_seconds", "forward_passes")}
        self.cost = {**other.cost, **sums}

    def part(self, block: str) -> str:
        """The name of the part that these rows make, from the block and what they are; sorts them on the way.

        Pieces of a block come back in any order, and a block that was done before may lack the rows of one more split.
        """
        for rows in (self.candidates, self.predictions):
            rows.sort(key=lambda row: (row["candidate_id"], row["split"]))
        return content_id("part", [block, [[row["candidate_id"], row["split"]] for row in self.candidates]])


@dataclass(frozen=True)
class Evaluator:
    """Evaluates candidates of one pool, compares its members, and looks into their weights."""

    bench: Bench
    pool: Pool
    sweep: str
    metrics: tuple[str, ...]
    probabilities: bool = False

    @cached_property
    def inside(self) -> Inside:
        """What looks into models of the pool."""
        return Inside(self.bench, self.pool)

    def block(self, work: Items) -> Rows:
        """The rows of some candidates on their splits, of some pairs, and of what lies inside some models.

        What is wrong with one candidate is its row's error. A lack of memory is raised: its neighbours may be to blame.
        """
        begun, cpu, passes, rows = time.perf_counter(), time.process_time(), self.bench.forward_passes, Rows()
        for candidate, splits in _candidates(work):
            for split in splits:
                row, prediction = self.candidate(candidate, split)
                rows.candidates.append(row)
                rows.predictions += [prediction] if prediction else []
        pairs = [pair for pair, _ in work if isinstance(pair, Pair)]
        about = {"sweep": self.sweep, **origin(self.pool), **_stamp()}
        if pairs:
            rows.pairs = pair_rows(self.bench, self.pool, pairs, about)
        models = [(each, tables) for each, tables in work if isinstance(each, Model)]
        if models:
            rows.layers, rows.templates = self.inside.rows(models, about)
        rows.cost = {
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": time.process_time() - cpu,
            "forward_passes": self.bench.forward_passes - passes,
        }
        return rows

    def candidate(self, candidate: Candidate, split: str) -> tuple[Row, Row | None]:
        """One row, and the examples that it got right where there are outputs."""
        row = describe(candidate, self.pool, self.sweep, split)
        lost = [f"member {i}: {why}" for i, why in self.bench.pool.failed.items() if i in candidate.subset]
        if lost:
            return row | {"status": "failed", "error": "; ".join(lost)}, None
        begun, passes = time.perf_counter(), self.bench.forward_passes
        try:
            logits, seconds = Evaluation(self.bench, candidate).logits(split)
            labels = self.bench.split(split).labels[: len(logits)]  # a protocol may ask for the first ones alone
            row |= self._outcome(logits, labels)
        except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except Exception as error:  # any fault of a method or of a user's own is this row's outcome, not the sweep's
            return row | {"status": "failed", "error": f"{type(error).__name__}: {error}"}, None
        row["merge_seconds"] = seconds
        row["evaluate_seconds"] = time.perf_counter() - begun - seconds
        row["forward_passes"] = self.bench.forward_passes - passes
        return row, _prediction(row, logits, labels, probabilities=self.probabilities)

    def _outcome(self, logits: Tensor, labels: Tensor) -> Row:
        """Metrics and status; outputs that are not finite have no metrics."""
        device = "cpu" if logits.device.type == "cpu" else torch.cuda.get_device_name(logits.device)
        outcome: Row = {"n_examples": len(labels), "device": device}
        if not bool(torch.isfinite(logits).all()):
            share = float(torch.isfinite(logits).all(-1).double().mean())
            return outcome | {
                "finite": False,
                "status": "non_finite",
                "error": f"{share:.1%} of examples have finite outputs",
            }
        scores = measure(logits, labels, self.metrics)
        own = {name: value for name, value in scores.items() if name in _OWN_COLUMNS}
        others = {name: value for name, value in scores.items() if name not in _OWN_COLUMNS}
        return outcome | own | {"other_metrics": canonical(others) if others else None, "finite": True, "status": "ok"}


def describe(candidate: Candidate, pool: Pool, sweep: str, split: str) -> Row:
    """The columns that say what a row is about, known before it is evaluated."""
    factors = candidate.scaling.settings
    choices = {key: getattr(candidate, key) for key in ("alignment", "scaling", "repair")}
    return {
        "candidate_id": candidate.id,
        "block_id": candidate.block,
        "sweep": sweep,
        **origin(pool),
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
        **_stamp(),
    }


def _stamp() -> Row:
    """When and by what code a row was made."""
    return {"created_at": now(), "code_version": code_version()}


def _candidates(work: Items) -> list[tuple[Candidate, Sequence[str]]]:
    """The candidates of a block."""
    return [(each, splits) for each, splits in work if isinstance(each, Candidate)]


def _number(value: Any) -> float | None:
    """A factor, where a scaling of one's own calls something else so."""
    return float(value) if isinstance(value, int | float) else None


def origin(pool: Pool) -> Row:
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


def failed_rows(work: Items, pool: Pool, sweep: str, cause: str) -> Rows:
    """Rows of candidates that could not be evaluated at all; pairs and models that could not be looked at have none."""
    outcome, todo = {"status": "failed", "error": cause}, _candidates(work)
    return Rows([describe(candidate, pool, sweep, split) | outcome for candidate, splits in todo for split in splits])


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

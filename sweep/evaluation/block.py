"""One block of work -> rows. It runs anywhere: no Ray and no MLflow here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sweep.core.ids import canonical_json
from sweep.evaluation.engine import PoolEngine
from sweep.evaluation.inspection import ModelInspector
from sweep.evaluation.merge import Merge, make_merge
from sweep.evaluation.pairs import PairComparer
from sweep.evaluation.rows import candidate_columns, choice_columns, make_prediction, pool_columns, stamp
from sweep.model.metrics import compute_metrics
from sweep.plan.candidates import Candidate
from sweep.plan.pools import Pool
from sweep.plan.work import BlockWork, CandidateItem, InspectionItem, MemberPair
from sweep.storage.columns import COLUMNS
from sweep.storage.rows import BlockRows, Row

OUT_OF_RESOURCES = (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)
"""Errors of the process or device, not of a candidate: others in the block may be to blame."""
_METRIC_COLUMNS = {column.name for column in COLUMNS["candidates"]}


@dataclass(frozen=True)
class BlockRunner:
    """Evaluates candidates of one pool, compares pairs of its members, and inspects weights."""

    engine: PoolEngine
    pool: Pool
    sweep: str
    metrics: tuple[str, ...]
    probabilities: bool = False

    @cached_property
    def inspector(self) -> ModelInspector:
        """The inspector of this pool's models."""
        return ModelInspector(self.engine, self.pool)

    @cached_property
    def comparer(self) -> PairComparer:
        """The comparer of this pool's members."""
        return PairComparer(self.engine, self.pool)

    def run(self, work: BlockWork) -> BlockRows:
        """The rows of some work, and what they cost.

        An error of one candidate is its row's outcome. Raises the errors in OUT_OF_RESOURCES.
        """
        started = time.perf_counter()
        cpu_started = time.process_time()
        passes = self.engine.forward_passes
        rows: BlockRows = work.run(self)
        rows.cost = {
            "seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - cpu_started,
            "forward_passes": self.engine.forward_passes - passes,
        }
        return rows

    def candidate_rows(self, items: Sequence[CandidateItem]) -> BlockRows:
        """The rows of candidates on their splits, and their predictions."""
        rows = BlockRows()
        for candidate, splits in items:
            for row, prediction in self.evaluate(candidate, splits):
                rows.candidates.append(row)
                rows.predictions += [prediction] if prediction else []
        return rows

    def pair_rows(self, pairs: Sequence[MemberPair]) -> BlockRows:
        """The rows of pairs of members."""
        return BlockRows(pairs=self.comparer.rows(pairs, self._origin()))

    def inspection_rows(self, items: Sequence[InspectionItem]) -> BlockRows:
        """The rows of inspected models."""
        layers, templates = self.inspector.rows(items, self._origin())
        return BlockRows(layers=layers, templates=templates)

    def _origin(self) -> Row:
        """The columns that rows of pairs and models begin with."""
        return {"sweep": self.sweep, **pool_columns(self.pool), **stamp()}

    def evaluate(self, candidate: Candidate, splits: Sequence[str]) -> list[tuple[Row, Row | None]]:
        """A row per split, each with its predictions where there are outputs. The merge is made once for all splits.

        What making it took is in the `merge_seconds` of every row, and its forward passes are in the first.
        """
        failures = [f"member {i}: {why}" for i, why in self.engine.pool.failed.items() if i in candidate.subset]
        if failures:
            return [(self._failed_row(candidate, split, "; ".join(failures)), None) for split in splits]
        passes = self.engine.forward_passes
        try:
            merge = make_merge(self.engine, candidate)
        except OUT_OF_RESOURCES:
            raise
        except Exception as error:  # any fault of a method or of a user's own is the candidate's outcome
            return [(self._failed_row(candidate, split, _describe(error)), None) for split in splits]
        results = []
        for split in splits:
            results.append(self._evaluate_split(candidate, merge, split, passes))
            passes = self.engine.forward_passes
        return results

    def _evaluate_split(self, candidate: Candidate, merge: Merge, split: str, passes: int) -> tuple[Row, Row | None]:
        """The row of one split, and the predictions; `passes` is the engine's count before this row's work."""
        row = candidate_columns(candidate, self.pool, self.sweep, split)
        started = time.perf_counter()
        try:
            logits, averaging_seconds = merge.logits(split)
            labels = self.engine.split(split).labels[: len(logits)]  # a protocol may ask for the first ones alone
            row |= self._outcome(logits, labels)
        except OUT_OF_RESOURCES:
            raise
        except Exception as error:  # any fault of a method or of a user's own is this row's outcome, not the sweep's
            return self._failed_row(candidate, split, _describe(error)), None
        row |= choice_columns(row["members"], merge.coefficients_chosen)
        row["merge_seconds"] = merge.seconds + averaging_seconds
        row["evaluate_seconds"] = time.perf_counter() - started - averaging_seconds
        row["forward_passes"] = self.engine.forward_passes - passes
        return row, make_prediction(row, logits, labels, probabilities=self.probabilities)

    def _failed_row(self, candidate: Candidate, split: str, error: str) -> Row:
        return candidate_columns(candidate, self.pool, self.sweep, split) | {"status": "failed", "error": error}

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
        scores = compute_metrics(logits, labels, self.metrics)
        own = {name: value for name, value in scores.items() if name in _METRIC_COLUMNS}
        others = {name: value for name, value in scores.items() if name not in _METRIC_COLUMNS}
        return (
            outcome
            | own
            | {"other_metrics": canonical_json(others) if others else None, "finite": True, "status": "ok"}
        )


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

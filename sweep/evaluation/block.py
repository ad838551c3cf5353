"""One block: candidates -> rows. It runs anywhere: no Ray and no MLflow here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sweep.core.ids import canonical_json
from sweep.evaluation.engine import PoolEngine
from sweep.evaluation.inspection import ModelInspector
from sweep.evaluation.merge import Merge
from sweep.evaluation.pairs import pair_rows
from sweep.evaluation.rows import _candidates, _prediction, candidate_columns, pool_columns, stamp
from sweep.model.metrics import compute_metrics
from sweep.plan.candidates import Candidate
from sweep.plan.pools import Pool
from sweep.plan.work import InspectedModel, MemberPair, WorkItems
from sweep.storage.columns import COLUMNS
from sweep.storage.rows import BlockRows, Row

_OWN_COLUMNS = {column.name for column in COLUMNS["candidates"]}


@dataclass(frozen=True)
class BlockRunner:
    """Evaluates candidates of one pool, compares its members, and looks into their weights."""

    engine: PoolEngine
    pool: Pool
    sweep: str
    metrics: tuple[str, ...]
    probabilities: bool = False

    @cached_property
    def inside(self) -> ModelInspector:
        """What looks into models of the pool."""
        return ModelInspector(self.engine, self.pool)

    def run(self, work: WorkItems) -> BlockRows:
        """The rows of some candidates on their splits, of some pairs, and of what lies inside some models.

        What is wrong with one candidate is its row's error. A lack of memory is raised: its neighbours may be to blame.
        """
        begun, cpu, passes, rows = time.perf_counter(), time.process_time(), self.engine.forward_passes, BlockRows()
        for candidate, splits in _candidates(work):
            for split in splits:
                row, prediction = self.evaluate(candidate, split)
                rows.candidates.append(row)
                rows.predictions += [prediction] if prediction else []
        pairs = [pair for pair, _ in work if isinstance(pair, MemberPair)]
        about = {"sweep": self.sweep, **pool_columns(self.pool), **stamp()}
        if pairs:
            rows.pairs = pair_rows(self.engine, self.pool, pairs, about)
        models = [(each, tables) for each, tables in work if isinstance(each, InspectedModel)]
        if models:
            rows.layers, rows.templates = self.inside.rows(models, about)
        rows.cost = {
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": time.process_time() - cpu,
            "forward_passes": self.engine.forward_passes - passes,
        }
        return rows

    def evaluate(self, candidate: Candidate, split: str) -> tuple[Row, Row | None]:
        """One row, and the examples that it got right where there are outputs."""
        row = candidate_columns(candidate, self.pool, self.sweep, split)
        lost = [f"member {i}: {why}" for i, why in self.engine.pool.failed.items() if i in candidate.subset]
        if lost:
            return row | {"status": "failed", "error": "; ".join(lost)}, None
        begun, passes = time.perf_counter(), self.engine.forward_passes
        try:
            logits, seconds = Merge(self.engine, candidate).logits(split)
            labels = self.engine.split(split).labels[: len(logits)]  # a protocol may ask for the first ones alone
            row |= self._outcome(logits, labels)
        except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except Exception as error:  # any fault of a method or of a user's own is this row's outcome, not the sweep's
            return row | {"status": "failed", "error": f"{type(error).__name__}: {error}"}, None
        row["merge_seconds"] = seconds
        row["evaluate_seconds"] = time.perf_counter() - begun - seconds
        row["forward_passes"] = self.engine.forward_passes - passes
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
        scores = compute_metrics(logits, labels, self.metrics)
        own = {name: value for name, value in scores.items() if name in _OWN_COLUMNS}
        others = {name: value for name, value in scores.items() if name not in _OWN_COLUMNS}
        return (
            outcome
            | own
            | {"other_metrics": canonical_json(others) if others else None, "finite": True, "status": "ok"}
        )

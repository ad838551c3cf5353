"""Blocks of inspected models without rows."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

from sweep.core.ids import content_id
from sweep.plan.planner import Plan
from sweep.plan.work import InspectionItem, InspectionWork, inspected_models
from sweep.storage.run_folder import RunFolder

_BLOCK_SIZE = 8  # models: templates of 100 classes are 10,000 rows each


def inspection_blocks(
    plan: Plan, folder: RunFolder, failed: Collection[str], failures: Collection[str]
) -> dict[str, InspectionWork]:
    """Blocks of models to inspect: those without rows, except where a member or the merge itself failed.

    `failed` are ids of members without weights, `failures` ids of failed candidates.
    """
    tables = plan.sweep.settings.inspect or ()
    present = {table: set(folder.read(table, ["model_id"])["model_id"].to_pylist()) for table in tables}
    unusable = {(pool.id, member.index) for pool in plan.pools for member in pool.members if member.id in failed}
    blocks: dict[str, InspectionWork] = {}
    for _, group in itertools.groupby(inspected_models(plan) if tables else (), key=lambda model: model.pool_id):
        usable = [m for m in group if not any((m.pool_id, i) in unusable for i in m.subset) and m.id not in failures]
        todo = [(m, tuple(table for table in tables if m.id not in present[table])) for m in usable]
        for piece in _cut([(model, missing) for model, missing in todo if missing]):
            blocks[content_id("inside", [[model.id, missing] for model, missing in piece])] = InspectionWork(piece)
    return blocks


def _cut(work: Sequence[InspectionItem]) -> Iterator[Sequence[InspectionItem]]:
    yield from (work[start : start + _BLOCK_SIZE] for start in range(0, len(work), _BLOCK_SIZE))

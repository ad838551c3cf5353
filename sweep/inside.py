"""Which models are looked into, and what of them has no rows yet: `layers` and `templates`, a block at a time."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch

from sweep.candidate import Evaluation
from sweep.catalogue import Candidate, Factors
from sweep.identity import content_id
from sweep.layers import correlations, layer_rows
from sweep.lineage import Pool
from sweep.outputs import Bench
from sweep.plan import Plan
from sweep.protocol import CORRECT_PROTOCOL
from sweep.store import RunFolder
from sweep.templates import Reader, template_rows

Row = dict[str, Any]
_TOGETHER = 8  # models: templates of 100 classes are 10,000 rows each


class Model(NamedTuple):
    """A member by its position, or a merge by its candidate: in a block, it stands where a candidate does."""

    pool_id: str
    id: str
    subset: tuple[int, ...]
    merge: Candidate | None = None


Glances = Sequence[tuple[Model, Sequence[str]]]
"""Models, each with the tables that it has no rows in yet."""


def models_of(plan: Plan) -> Iterator[Model]:
    """The members, and the soups of any number of them, correct and unscaled: not the points between two or three."""
    for pool in plan.pools:
        yield from (Model(pool.id, member.id, (member.index,)) for member in pool.members)
    yield from (Model(each.pool_id, each.id, each.subset, each) for each in plan.candidates.where(_is_looked_into))


def _is_looked_into(factors: Factors) -> bool:
    method, plain = factors.method, factors.scaling.name == "none" and factors.protocol == CORRECT_PROTOCOL
    return plain and method.space == "weights" and method.name != "single" and method.entry.arity < 2


def glance_blocks(
    plan: Plan, folder: RunFolder, failed: Collection[str], failures: Collection[str]
) -> dict[str, Glances]:
    """Blocks of the models that lack rows.

    `failed` are members without weights, `failures` merges that could not be made.
    """
    tables = plan.sweep.settings.inside or ()
    present = {table: set(folder.read(table, ["model_id"])["model_id"].to_pylist()) for table in tables}
    lost = {(pool.id, member.index) for pool in plan.pools for member in pool.members if member.id in failed}
    blocks: dict[str, Glances] = {}
    for _, group in itertools.groupby(models_of(plan) if tables else (), key=lambda model: model.pool_id):
        usable = [m for m in group if not any((m.pool_id, i) in lost for i in m.subset) and m.id not in failures]
        todo = [(m, tuple(table for table in tables if m.id not in present[table])) for m in usable]
        for piece in _cut([(model, missing) for model, missing in todo if missing]):
            blocks[content_id("inside", [[model.id, missing] for model, missing in piece])] = piece
    return blocks


def _cut(work: Glances) -> Iterator[Glances]:
    yield from (work[start : start + _TOGETHER] for start in range(0, len(work), _TOGETHER))


class Inside:
    """Looks into models of one pool; what they have in common is computed once."""

    def __init__(self, bench: Bench, pool: Pool) -> None:
        self.bench, self.pool = bench, pool

    @cached_property
    def correlations(self) -> Any:
        """Per tensor, the correlations of the members' entries."""
        return correlations(self.bench.pool.matrix, self.bench.layout)

    @cached_property
    def reader(self) -> Reader:
        """What the heads read."""
        return Reader(self.bench, self.pool)

    def rows(self, work: Glances, origin: Row) -> tuple[list[Row], list[Row]]:
        """Layers and templates of some models; one that cannot be made has none, and its candidate's row tells why."""
        layers: list[Row] = []
        templates: list[Row] = []
        for model, tables in work:
            try:
                self._load(model)
            except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
                raise
            except Exception:  # any fault of a method or of a user's own
                continue
            about, pictured = origin | self._about(model), self._pictured(model)
            if "layers" in tables:
                layers += layer_rows(self.bench, self.correlations, about, pictured=pictured)
            if "templates" in tables:
                templates += template_rows(self.reader, about, pictured=pictured)
        return layers, templates

    def _load(self, model: Model) -> None:
        """Bring the model's weights into the bench's row."""
        if model.merge:
            Evaluation(self.bench, model.merge).load()
        else:
            self.bench.row.copy_(self.bench.matrix[model.subset[0]])

    def _pictured(self, model: Model) -> bool:
        """Whether rows keep weights to be shown: those of the first member of the first pool, and of merges from it on.

        Others would show the same at many times the size.
        """
        return self.pool.index == 0 and model.subset == tuple(range(len(model.subset)))

    def _about(self, model: Model) -> Row:
        """The columns that say which model a row is about."""
        choices = {key: getattr(model.merge, key, None) for key in ("alignment", "repair")}
        return {
            "model_id": model.id,
            "kind": "merge" if model.merge else "member",
            "method": model.merge.method.name if model.merge else "single",
            "settings": model.merge.method.settings_json if model.merge else "{}",
            **{key: choice.name if choice else "none" for key, choice in choices.items()},
            **{f"{key}_settings": choice.settings_json if choice else "{}" for key, choice in choices.items()},
            "members": [self.pool.members[index].id for index in model.subset],
            "member_indices": list(model.subset),
            "n_members": len(model.subset),
        }

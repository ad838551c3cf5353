"""Which models are looked into, and what of them has no rows yet: `layers` and `templates`, a block at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from sweep.evaluation.engine import PoolEngine
from sweep.evaluation.layers import correlations, layer_rows
from sweep.evaluation.merge import load_merge
from sweep.evaluation.templates import HeadProbe, template_rows
from sweep.plan.pools import Pool
from sweep.plan.work import InspectedModel, InspectionItem

Row = dict[str, Any]


class ModelInspector:
    """Looks into models of one pool; what they have in common is computed once."""

    def __init__(self, engine: PoolEngine, pool: Pool) -> None:
        self.engine = engine
        self.pool = pool

    @cached_property
    def correlations(self) -> Any:
        """Per tensor, the correlations of the members' entries."""
        return correlations(self.engine.pool.matrix, self.engine.layout)

    @cached_property
    def probe(self) -> HeadProbe:
        """What the heads read."""
        return HeadProbe(self.engine, self.pool)

    def rows(self, items: Sequence[InspectionItem], origin: Row) -> tuple[list[Row], list[Row]]:
        """Layers and templates of some models; one that cannot be made has none, and its candidate's row tells why."""
        layers: list[Row] = []
        templates: list[Row] = []
        for model, tables in items:
            try:
                self._load(model)
            except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
                raise
            except Exception:  # any fault of a method or of a user's own
                continue
            about, pictured = origin | self._about(model), self._with_images(model)
            if "layers" in tables:
                layers += layer_rows(self.engine, self.correlations, about, pictured=pictured)
            if "templates" in tables:
                templates += template_rows(self.probe, about, pictured=pictured)
        return layers, templates

    def _load(self, model: InspectedModel) -> None:
        """Load the model's weights into the engine."""
        if model.merge:
            load_merge(self.engine, model.merge)
        else:
            self.engine.load_member(model.subset[0])

    def _with_images(self, model: InspectedModel) -> bool:
        """Whether rows keep weights to be shown: those of the first member of the first pool, and of merges from it on.

        Others would show the same at many times the size.
        """
        return self.pool.index == 0 and model.subset == tuple(range(len(model.subset)))

    def _about(self, model: InspectedModel) -> Row:
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

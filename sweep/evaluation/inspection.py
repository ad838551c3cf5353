"""Inspects the weights of members and merges: rows of the tables `layers` and `templates`."""

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
    """Inspects models of one pool; what they share is computed once."""

    def __init__(self, engine: PoolEngine, pool: Pool) -> None:
        self.engine = engine
        self.pool = pool

    @cached_property
    def correlations(self) -> Any:
        """Correlations of the members' entries, per tensor."""
        return correlations(self.engine.pool.matrix, self.engine.layout)

    @cached_property
    def probe(self) -> HeadProbe:
        """The probe of the heads' inputs."""
        return HeadProbe(self.engine, self.pool)

    def rows(self, items: Sequence[InspectionItem], origin: Row) -> tuple[list[Row], list[Row]]:
        """Rows of layers and templates.

        A model that cannot be made has none; its candidate's row holds the error.
        """
        layers: list[Row] = []
        templates: list[Row] = []
        for model, tables in items:
            try:
                self._load(model)
            except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
                raise
            except Exception:  # any fault of a method or of a user's own
                continue
            about = origin | self._about(model)
            with_images = self._with_images(model)
            if "layers" in tables:
                layers += layer_rows(self.engine, self.correlations, about, with_images=with_images)
            if "templates" in tables:
                templates += template_rows(self.probe, about, with_images=with_images)
        return layers, templates

    def _load(self, model: InspectedModel) -> None:
        """Load the model's weights into the engine."""
        if model.merge:
            load_merge(self.engine, model.merge)
        else:
            self.engine.load_member(model.subset[0])

    def _with_images(self, model: InspectedModel) -> bool:
        """Whether rows keep weights as images: for the first member of the first pool and for merges of its first ones.

        Other models would show the same at many times the size.
        """
        return self.pool.index == 0 and model.subset == tuple(range(len(model.subset)))

    def _about(self, model: InspectedModel) -> Row:
        """The columns that describe a model."""
        plugins = {key: getattr(model.merge, key, None) for key in ("alignment", "repair")}
        return {
            "model_id": model.id,
            "kind": "merge" if model.merge else "member",
            "method": model.merge.method.name if model.merge else "single",
            "settings": model.merge.method.settings_json if model.merge else "{}",
            **{key: config.name if config else "none" for key, config in plugins.items()},
            **{f"{key}_settings": config.settings_json if config else "{}" for key, config in plugins.items()},
            "members": [self.pool.members[index].id for index in model.subset],
            "member_indices": list(model.subset),
            "n_members": len(model.subset),
        }

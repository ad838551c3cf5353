"""The best merges of a sweep as versions of a registered model in MLflow."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweep.tracking.connection import registry_name
from sweep.tracking.records import RunRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from torch import Tensor, nn

    ModelOf = Callable[[str], tuple[nn.Module, Tensor]]

_log = logging.getLogger(__name__)


@dataclass
class ModelRegistry:
    """The stored models of a sweep, and which of them is the champion."""

    client: MlflowClient
    experiment: str
    name: str
    remote: bool

    def register_best(self, chosen: list[RunRecord], runs: Mapping[str, str], model_of: ModelOf) -> None:
        """A version for each page that has none, and the alias on the first page's, if it could be stored."""
        query = f"name = '{self.name}'"
        shelves = self.client.search_registered_models(query) or [self.client.create_registered_model(self.name)]
        versions = {v.tags.get("ms.key"): str(v.version) for v in self.client.search_model_versions(query)}
        for page in [page for page in chosen if page.key not in versions]:
            with tempfile.TemporaryDirectory() as folder:
                if self._exported(page, model_of, folder):
                    versions[page.key] = self._version(page, runs[page.key], folder)
        champion = versions.get(chosen[0].key)
        if champion is not None and str(shelves[0].aliases.get("champion")) != champion:
            self.client.set_registered_model_alias(self.name, "champion", champion)

    def _exported(self, page: RunRecord, model_of: ModelOf, folder: str) -> bool:
        """Write the model into a folder; a model that cannot be made or traced is logged and left out."""
        try:
            _export(*model_of(page.key), folder)
        except Exception as error:  # of any architecture: the rows of the candidate are good without a stored model
            cause = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            _log.warning(f"{page.name} is not stored in MLflow as a model: {cause}")
            return False
        return True

    def _version(self, page: RunRecord, run: str, folder: str) -> str:
        from mlflow.entities import LoggedModelOutput

        name, tags = f"merge-{registry_name(page.key[:8])}", {"ms.key": page.key}
        model = self.client.create_logged_model(self.experiment, name, run, tags, page.params)
        self.client.log_model_artifacts(model.model_id, folder)
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
        # without a server, MLflow looks for models:/ in the store of its global address, not in the client's
        place = f"models:/{model.model_id}" if self.remote else model.artifact_location
        create = self.client.create_model_version
        return str(create(self.name, place, run, tags, description=page.name, model_id=model.model_id).version)


def _export(model: nn.Module, images: Tensor, folder: str) -> None:
    """A traced model for batches of any size; the requirements are told, for finding them out takes a new process."""
    import numpy as np
    import torch
    from mlflow.models import ModelSignature
    from mlflow.pytorch import save_model
    from mlflow.types import Schema, TensorSpec

    example = torch.cat([images[:1], images[:1]]).cpu()  # one example alone would fix the size of the batch to one
    model = model.cpu().eval()
    with torch.no_grad():
        outputs = model(example)
    inputs, logits = (Schema([TensorSpec(np.dtype("float32"), (-1, *t.shape[1:]))]) for t in (example, outputs))
    requirements = [f"torch=={torch.__version__.split('+')[0]}"]
    told = {"signature": ModelSignature(inputs, logits), "input_example": example, "pip_requirements": requirements}
    save_model(model, folder, serialization_format="pt2", **told)

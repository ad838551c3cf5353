"""The best merges of a sweep as versions of a registered model in MLflow."""

from __future__ import annotations

import importlib
import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweep.tracking.connection import quiet_mlflow, registry_name
from sweep.tracking.records import CHOSEN_ON, RunRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel
    from torch import Tensor, nn

    ModelLoader = Callable[[str], tuple[nn.Module, Tensor]]

_log = logging.getLogger(__name__)


@dataclass
class ModelRegistry:
    """The registered model of a sweep: its versions, and the alias `champion` of the best on the validation split."""

    client: MlflowClient
    experiment: str
    name: str
    remote: bool

    def register_best(
        self,
        chosen: Sequence[RunRecord],
        runs: Mapping[str, str],
        load_model: ModelLoader,
        is_cancelled: Callable[[], bool],
    ) -> None:
        """Create a version for each record that has none, until `is_cancelled` returns true."""
        if not self._models():
            self.client.create_registered_model(self.name)
        versions = self._versions()
        for record in _by_pool(record for record in chosen if record.key not in versions):
            if is_cancelled():
                return
            with tempfile.TemporaryDirectory() as folder:
                if self._try_export(record, load_model, folder):
                    self._create_version(record, runs[record.key], folder)

    def set_champion(self, best: RunRecord) -> None:
        """Set the alias on the best record's version, if it has one.

        A record that the test split chose is no champion: its test accuracy is optimistic. An alias that an earlier
        version of this package set on such a record is removed.
        """
        alias = self._models()[0].aliases.get("champion")
        if best.extra_tags[CHOSEN_ON] != "validation":
            _log.info("MLflow: no champion: no candidate has a row on the validation split; see `splits`")
            if alias is not None:
                self.client.delete_registered_model_alias(self.name, "champion")
            return
        champion = self._versions().get(best.key)
        if champion is not None and str(alias) != champion:
            self.client.set_registered_model_alias(self.name, "champion", champion)

    def _models(self) -> Sequence[RegisteredModel]:
        """The registered model in a list; empty if it does not exist."""
        return list(self.client.search_registered_models(f"name = '{self.name}'"))

    def _versions(self) -> dict[str | None, str]:
        """The version of each record that has one, by key."""
        found = self.client.search_model_versions(f"name = '{self.name}'")
        return {version.tags.get("ms.key"): str(version.version) for version in found}

    def _try_export(self, record: RunRecord, load_model: ModelLoader, folder: str) -> bool:
        """Write the model to a folder. A model that cannot be made or traced is logged and left out."""
        try:
            _export(*load_model(record.key), folder)
        except Exception as error:  # of any architecture: the rows of the candidate are good without a stored model
            cause = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            _log.warning(f"{record.name} is not stored in MLflow as a model: {cause}")
            return False
        return True

    def _create_version(self, record: RunRecord, run: str, folder: str) -> None:
        from mlflow.entities import LoggedModelOutput

        name = f"merge-{registry_name(record.key[:8])}"
        tags = {"ms.key": record.key}
        model = self.client.create_logged_model(self.experiment, name, run, tags, record.params)
        self.client.log_model_artifacts(model.model_id, folder)
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
        # without a server, MLflow looks for models:/ in the store of its global address, not in the client's
        source = f"models:/{model.model_id}" if self.remote else model.artifact_location
        create = self.client.create_model_version
        create(self.name, source, run, tags, description=record.name, model_id=model.model_id)


def import_export_libraries() -> None:
    """Import what exports need while nobody waits for it: torch.export imports 1,300 modules at its first call.

    Nothing is traced here, for tracing changes the global state of torch, which other threads use. A module that
    another version of torch lacks is left to the first export.
    """
    for name in ("mlflow.pytorch", "torch.export._trace", "torch._dynamo", "torch._export.serde.serialize"):
        with suppress(ImportError), quiet_mlflow():
            importlib.import_module(name)


def _by_pool(records: Iterable[RunRecord]) -> list[RunRecord]:
    """The records ordered by pool, so that each pool is loaded once; the pool of the first record comes first."""
    pools: dict[object, list[RunRecord]] = {}
    for record in records:
        pools.setdefault(record.values["pool_id"], []).append(record)
    return [record for pool in pools.values() for record in pool]


def _export(model: nn.Module, images: Tensor, folder: str) -> None:
    """Trace a model for batches of any size, and write it. Without requirements, MLflow would start a process."""
    import numpy as np
    import torch
    from mlflow.models import ModelSignature
    from mlflow.pytorch import save_model
    from mlflow.types import Schema, TensorSpec

    example = torch.cat([images[:1], images[:1]]).cpu()  # tracing one example would fix the batch size to 1
    model = model.cpu().eval()
    with torch.no_grad():
        outputs = model(example)
    inputs, logits = (Schema([TensorSpec(np.dtype("float32"), (-1, *t.shape[1:]))]) for t in (example, outputs))
    save_model(
        model,
        folder,
        serialization_format="pt2",
        signature=ModelSignature(inputs, logits),
        input_example=example,
        pip_requirements=[f"torch=={torch.__version__.split('+')[0]}"],
    )

"""The registered models in MLflow: the best of a sweep, its champion, and a model that cannot be traced."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sweep.tracking.connection import model_name
from tests.helpers.mlflow import FOLDER, NAME, Model, Place, load_model, run_folder
from tests.helpers.rows import candidate

MODEL = model_name(NAME, FOLDER)


def test_champion_loads_with_its_weights_and_moves(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    images = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    place.mirror(run_folder(place.storage / NAME), models=True, best=2)
    loaded = place.champion()
    assert torch.equal(loaded(images), Model("soup-1").eval()(images))
    assert loaded.state_dict().keys() == Model("soup-1").state_dict().keys()
    place.mirror(run_folder(place.storage / NAME, accuracies=(0.9, 0.5, 0.91)), models=True, best=2)
    assert torch.equal(place.champion()(images), Model("soup-2").eval()(images))
    versions = place.client.search_model_versions(f"name = '{MODEL}'")
    assert {v.tags["ms.key"] for v in versions} == {"soup-0", "soup-1", "soup-2"}


def test_best_are_valid_merges_in_weight_space(place: Place) -> None:
    more = [
        candidate(0, (0, 1), "logit_average", space="logits", accuracy=0.99, candidate_id="logits"),
        candidate(0, (0,), "single", accuracy=0.99, candidate_id="alone"),
        candidate(0, (0, 1), "uniform_soup", accuracy=0.99, status="failed", candidate_id="failed"),
        candidate(0, (0, 1), "uniform_soup", accuracy=0.99, protocol="test_selection", candidate_id="flawed"),
        candidate(0, (0, 1), "uniform_soup", accuracy=0.95, cross_entropy=0.1, candidate_id="sure"),
        candidate(0, (0, 1), "uniform_soup", accuracy=0.95, cross_entropy=0.5, candidate_id="unsure"),
    ]
    place.mirror(run_folder(place.storage / NAME, more=more), best=2)
    assert [run.data.tags["ms.key"] for run in place.runs("candidate")] == ["soup-1", "sure"]


def on_validation(key: str, accuracy: float, **values: Any) -> dict[str, Any]:
    """The row of a soup of `run_folder` on the validation split."""
    own = {"candidate_id": key, "accuracy": accuracy, "settings": json.dumps({"weight": int(key[-1])})}
    return candidate(0, (0, 1), "interpolation", **own | {"split": "validation"} | values)


def test_the_champion_is_the_best_on_validation_and_its_test_accuracy_is_reported(place: Place) -> None:
    """soup-1 is the best on the test split by chance; soup-0 and soup-2 tie on validation, where soup-2 is surer."""
    more = [
        on_validation("soup-0", 0.93),
        on_validation("soup-1", 0.9),
        on_validation("soup-2", 0.93, cross_entropy=0.2),
    ]
    place.mirror(run_folder(place.storage / NAME, more=more), models=True, best=2)
    runs = {run.data.tags["ms.key"]: run.data for run in place.runs("candidate")}
    assert set(runs) == {"soup-0", "soup-2"}
    assert runs["soup-2"].metrics["test/accuracy"] == 0.91
    assert runs["soup-2"].metrics["validation/accuracy"] == 0.93
    assert runs["soup-2"].tags["ms.chosen_on"] == "validation"
    assert place.client.get_model_version_by_alias(MODEL, "champion").tags["ms.key"] == "soup-2"


def test_what_was_not_evaluated_on_validation_cannot_be_champion(place: Place) -> None:
    more = [on_validation("soup-0", 0.93), on_validation("soup-2", 0.5)]
    place.mirror(run_folder(place.storage / NAME, validated=False, more=more), models=True, best=3)
    assert [run.data.tags["ms.key"] for run in place.runs("candidate")] == ["soup-0", "soup-2"]
    assert place.client.get_model_version_by_alias(MODEL, "champion").tags["ms.key"] == "soup-0"


def test_without_validation_rows_there_is_no_champion(place: Place) -> None:
    """Also an alias that an earlier version set by test accuracy goes."""
    place.mirror(run_folder(place.storage / NAME), models=True, best=2)
    assert set(place.client.get_registered_model(MODEL).aliases) == {"champion"}
    folder = run_folder(place.storage / NAME, validated=False)
    place.tracker().mirror(folder, load_model, 2)
    assert place.client.get_registered_model(MODEL).aliases == {}
    (best, _) = place.runs("candidate")
    assert best.data.tags["ms.key"] == "soup-1"
    assert best.data.tags["ms.chosen_on"] == "test"
    assert "optimistic: no candidate has a row on the validation split" in best.data.tags["mlflow.note.content"]


def test_a_model_that_cannot_be_traced_is_logged_and_stops_nothing(place: Place) -> None:
    def broken(key: str) -> tuple[nn.Module, Tensor]:
        if key == "soup-1":
            raise OSError("no weights")
        return load_model(key)

    place.tracker().mirror(run_folder(place.storage / NAME), broken, 2)
    (line,) = place.lines
    assert "soup-1" in line
    assert "no weights" in line
    (version,) = place.client.search_model_versions(f"name = '{MODEL}'")
    assert version.tags["ms.key"] == "soup-2"
    assert place.client.get_registered_model(MODEL).aliases == {}


def test_models_are_loaded_pool_by_pool_from_the_champion_s_on(place: Place) -> None:
    loaded: list[str] = []

    def load(key: str) -> tuple[nn.Module, Tensor]:
        loaded.append(key)
        return load_model(key)

    more = [
        candidate(1, (0, 1), "uniform_soup", accuracy=0.99, candidate_id="b-best"),
        candidate(1, (0, 1), "uniform_soup", accuracy=0.94, candidate_id="b-third"),
    ]
    place.tracker().mirror(run_folder(place.storage / NAME, more=more), load, 4)
    assert place.lines == []
    assert loaded == ["b-best", "b-third", "soup-1", "soup-2"]
    assert torch.equal(place.champion().state_dict()["head.weight"], Model("b-best").head.weight)


def test_export_libraries_are_imported_before_the_first_export() -> None:
    code = (
        "import sys; from sweep.tracking.model_registry import import_export_libraries as prepare\n"
        "prepare(); before = len(sys.modules)\n"
        "import torch; torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(2, 2),))\n"
        "sys.exit(len(sys.modules) - before > 300)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=300).returncode == 0

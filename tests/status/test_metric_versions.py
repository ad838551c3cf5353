"""A metric whose meaning changed: earlier folders keep the old one, and are not continued with the new one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from analysis.rows.run import load as load_rows
from sweep.cli.console import load_run_sweep
from sweep.config.loader import load
from sweep.config.spec import Sweep, metric_id, metric_name
from sweep.core.ids import content_id
from sweep.core.registry import list_plugins
from sweep.execution.invocation import new_run_info, recorded
from sweep.status.state import with_recorded_settings
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder
from tests.helpers import ROOT

EARLIER = ROOT / "tests/golden/earlier_run/run"
OLD = ("accuracy", "brier", "cross_entropy", "ece_mass")
NEW = ("accuracy", "brier", "cross_entropy", "ece")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder that an earlier version began."""
    shutil.copytree(EARLIER, tmp_path / "earlier")
    return RunFolder(tmp_path / "earlier")


def sweep_of(folder: RunFolder, metrics: tuple[str, ...]) -> Sweep:
    """The sweep of a run folder with other metrics."""
    return dataclasses.replace(load_run_sweep(folder.path), metrics=metrics)


def test_each_metric_has_an_identity_of_its_own_and_is_found_by_it() -> None:
    names = list_plugins("metrics")
    identities = [metric_id(name) for name in names]
    assert len(set(identities)) == len(names)
    assert [metric_name(identity) for identity in identities] == names
    assert (metric_id("ece"), metric_id("ece_mass"), metric_name("ece")) == ("ece 2", "ece", "ece_mass")
    assert metric_name("pace:pace") == "pace:pace"


def test_the_sweep_of_an_earlier_folder_measures_what_it_measured(folder: RunFolder) -> None:
    sweep = load_run_sweep(folder.path)
    assert sweep.metrics == OLD
    assert load(folder.path / "sweep.yaml", accept_renamed=True).metrics == NEW  # what its text says today
    assert with_recorded_settings(sweep) == sweep
    rows = load_rows(folder.path).candidates
    assert rows["ece"].isna().all()
    assert rows["ece_mass"].notna().all()


def test_the_id_of_a_sweep_stands_for_what_is_measured(folder: RunFolder) -> None:
    """An earlier version hashed the names of metrics, so `ece` stands for the old meaning."""
    old = load_run_sweep(folder.path)
    content = {key: value for key, value in old.to_config.items() if key not in ("execution", "margin")}
    assert old.id == content_id("sweep", content | {"metrics": list(NEW)})
    assert dataclasses.replace(old, metrics=NEW).id != old.id


def test_the_other_meaning_is_refused_with_what_to_write(folder: RunFolder) -> None:
    with pytest.raises(StoreError) as error:
        with_recorded_settings(sweep_of(folder, NEW))
    holds = f"{folder.path} holds rows with the metrics accuracy, brier, cross_entropy, ece_mass"
    assert str(error.value) == f"{holds}; `ece` means something else since, and its rows are read as `ece_mass`"
    continues = "`metrics: [accuracy, brier, cross_entropy, ece_mass]` continues it"
    assert error.value.hint == f"{continues}; give the sweep another name to measure others"


def test_a_new_folder_records_the_new_meaning_and_refuses_the_old(folder: RunFolder, tmp_path: Path) -> None:
    sweep = sweep_of(folder, NEW)
    execution = sweep.execution.model_copy(update={"storage": tmp_path / "new"})
    sweep = dataclasses.replace(sweep, settings=sweep.settings.model_copy(update={"execution": execution}))
    made = RunFolder(sweep.folder)
    made.create(new_run_info(sweep))
    with recorded(made, sweep, "test", ()):
        pass
    (made.path / "sweep.yaml").write_text(sweep.to_yaml())
    assert json.loads((made.path / "run.json").read_text())["metrics"] == [*NEW[:3], "ece 2"]
    assert load_run_sweep(made.path).metrics == NEW
    assert with_recorded_settings(sweep) == sweep
    with pytest.raises(StoreError, match=r"holds rows with the metrics accuracy, brier, cross_entropy, ece$"):
        with_recorded_settings(dataclasses.replace(sweep, metrics=OLD))

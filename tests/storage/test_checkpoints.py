"""Models that were trained elsewhere: what is read, what is refused, and a whole run over a pool of files."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import Tensor

from sweep.cli.main import main
from sweep.config.checkpoint_files import find_pool_files
from sweep.config.loader import load
from sweep.core.dataset import load_dataset
from sweep.execution.driver import run
from sweep.status.preflight import fingerprints
from sweep.status.state import load_state
from sweep.storage.checkpoint_forms import read_checkpoint
from sweep.storage.checkpoints import CheckpointError
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import SCHEMA_VERSION
from sweep.training.members import import_member
from tests.helpers.engine import Trained, trained
from tests.helpers.layouts import layout_of

CNN = "{cnn: {width: 4}}"


@pytest.fixture
def pool() -> Trained:
    return trained(CNN)


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}, "epoch": 3},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"model": {f"module._orig_mod.{name}": value for name, value in state.items()}},
        lambda state: {name: value.double() for name, value in state.items()},
    ],
    ids=["plain", "wrapped", "lightning", "parallel", "compiled", "double"],
)
def test_checkpoints_are_read_out_of_what_scripts_put_around_them(tmp_path: Path, pool: Trained, wrap: Any) -> None:
    torch.save(wrap(pool.states[0]), tmp_path / "a.pth")
    assert equal(read_checkpoint(tmp_path / "a.pth", layout_of(pool.states[0])).state, pool.states[0])


def test_safetensors_are_read(tmp_path: Path, pool: Trained) -> None:
    save_file(pool.states[0], tmp_path / "a.safetensors")
    assert equal(read_checkpoint(tmp_path / "a.safetensors", layout_of(pool.states[0])).state, pool.states[0])


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("write", [torch.save, lambda content, file: file.write_bytes(pickle.dumps(content))])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, write: Any) -> None:
    file = tmp_path / "evil.pth"
    mark = tmp_path / "mark"
    write({"state_dict": Malicious(mark)}, file)
    with pytest.raises(CheckpointError, match=r"evil\.pth") as raised:
        read_checkpoint(file, layout_of({}))
    if write is torch.save:
        assert "holds more than tensors and is refused: posix.mkdir" in str(raised.value)
    assert not mark.exists()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_truncated_files_are_refused_by_name(tmp_path: Path, pool: Trained, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    if suffix == "pth":
        torch.save(pool.states[0], file)
    else:
        save_file(pool.states[0], file)
    content = file.read_bytes()
    for size in (0, 1, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match=f"a\\.{suffix}"):
            read_checkpoint(file, layout_of(pool.states[0]))


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_checkpoint(tmp_path / "a.pt", layout_of({}))


def test_files_come_in_natural_order(tmp_path: Path) -> None:
    for name in ("m10.pth", "m2.pth", "m1.pth", "other.txt"):
        (tmp_path / name).touch()
    assert [file.name for file in find_pool_files([f"{tmp_path}/m*.pth"]).members] == ["m1.pth", "m2.pth", "m10.pth"]
    listed = [str(tmp_path / name) for name in ("m10.pth", "m1.pth")]
    assert [file.name for file in find_pool_files(listed).members] == ["m10.pth", "m1.pth"]
    with pytest.raises(FileNotFoundError, match=r"nothing\*"):
        find_pool_files([f"{tmp_path}/nothing*"])


def sweep_file(tmp_path: Path, population: str) -> Path:
    file = tmp_path / "elsewhere.yaml"
    file.write_text(f"""
name: elsewhere
dataset: {{digits: {{size: 8}}}}
populations: [{population}]
subsets: {{sizes: [2]}}
methods: [uniform_soup, logit_average]
execution: {{mlflow: false, storage: {tmp_path}/runs}}
""")
    return file


def written(tmp_path: Path, pool: Trained) -> Path:
    folder = tmp_path / "pool"
    folder.mkdir()
    for index, state in enumerate(pool.states):
        torch.save(state, folder / f"member{index}.pth")
    assert pool.start is not None
    torch.save(pool.start, folder / "start.pth")
    return folder


def test_ids_come_from_content_and_not_from_places(tmp_path: Path, pool: Trained) -> None:
    about = "{{checkpoints: '{0}/member*.pth', base: {0}/start.pth, architecture: {1}}}"
    folder = written(tmp_path, pool)
    first = load_state(load(sweep_file(tmp_path, about.format(folder, CNN)))).plan
    moved = folder.rename(tmp_path / "moved")
    sweep = load(sweep_file(tmp_path, about.format(moved, CNN)))
    second = load_state(sweep).plan
    assert [candidate.id for candidate in first.candidates] == [candidate.id for candidate in second.candidates]
    assert len({member.id for member in first.members}) == 3
    torch.save({"model": pool.start, "epoch": 3}, moved / "start.pth")
    assert first.members[0].id == load_state(sweep).plan.members[0].id, "of the same content in another file"
    assert fingerprints(sweep).keys() == set(sweep.populations[0].checkpoints)


COUNTED = '''"""A network that counts how often it is built for real."""

from torch import nn

BUILT = []


def counted(classes: int, channels: int, size: int) -> nn.Module:
    """One linear layer."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes))
    BUILT.append(model)
    return model
'''


def test_checkpoints_of_one_network_are_measured_on_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counted_network.py").write_text(COUNTED)
    monkeypatch.syspath_prepend(tmp_path)
    for index in range(3):
        torch.save(
            {"1.weight": torch.full((10, 64), float(index)), "1.bias": torch.zeros(10)}, tmp_path / f"m{index}.pth"
        )
    text = f"{{checkpoints: '{tmp_path}/m*.pth', architecture: 'counted_network:counted'}}"
    state = load_state(load(sweep_file(tmp_path, text)))
    dataset = load_dataset(state.sweep.populations[0].dataset)
    state.folder.create({"schema_version": SCHEMA_VERSION})
    built = sys.modules["counted_network"].BUILT
    built.clear()
    for index, member in enumerate(state.missing):
        if index == 2:
            monkeypatch.setattr(sys.modules["counted_network"], "KIND", "transformer", raising=False)
        import_member(member, "elsewhere", dataset, state.folder)
    rows = state.folder.read("members").to_pylist()
    assert [row["forward_flops"] for row in rows] == [2 * 64 * 10] * 3
    assert [row["n_parameters"] for row in rows] == [65 * 10] * 3
    kinds = {row["member_id"]: row["architecture_kind"] for row in rows}
    found = [kinds[member.id] for member in state.missing]
    assert found == ["linear", "linear", "transformer"], "what a file states counts"
    assert len(built) == 1


@pytest.mark.ray
def test_a_pool_of_files_is_merged_like_one_that_was_trained_here(tmp_path: Path, pool: Trained) -> None:
    folder = written(tmp_path, pool)
    (folder / "member9.pth").write_bytes(b"no model")
    bad = f"{{checkpoints: '{folder}/member*.pth', base: {folder}/start.pth, architecture: {CNN}}}"
    stopped = CliRunner().invoke(main, ["check", str(sweep_file(tmp_path, bad))])
    assert stopped.exit_code == 2
    assert f"populations[0].checkpoints`: cannot read {folder}/member9.pth" in stopped.stderr
    assert "hint: on_bad_member: skip goes on without it" in stopped.stderr
    run(load(sweep_file(tmp_path, bad.replace("architecture", "on_bad_member: skip, architecture"))))
    table = RunFolder(tmp_path / "runs/elsewhere")
    rows = {(row["method"], tuple(row["member_indices"])): row for row in table.read("candidates").to_pylist()}
    for index in range(3):
        outcome, _ = pool.evaluator().evaluate(pool.candidate("single", index), ("test",))[0]
        assert rows["single", (index,)]["accuracy"] == outcome["accuracy"]
    outcome, _ = pool.evaluator().evaluate(pool.candidate("uniform_soup", 0, 2), ("test",))[0]
    assert rows["uniform_soup", (0, 2)]["cross_entropy"] == outcome["cross_entropy"]
    assert all(row["status"] == "failed" for key, row in rows.items() if 3 in key[1])
    assert "member9.pth" in rows["single", (3,)]["error"]
    members = table.read("members").to_pylist()
    assert sorted(row["status"] for row in members) == ["failed", "ok", "ok", "ok", "ok"]
    assert {row["start"] for row in members} == {"shared"}
    assert {row["forward_flops"] for row in members} == {None, 24_704}
    _check_exports(tmp_path, pool, {key: row["candidate_id"] for key, row in rows.items()})


def _check_exports(tmp_path: Path, pool: Trained, ids: dict[tuple[str, tuple[int, ...]], str]) -> None:
    """A soup as a file is the plain mean of its members, and is never written over."""
    place = str(tmp_path / "runs/elsewhere")
    soup = ids["uniform_soup", (0, 2)]
    mean = {name: (pool.states[0][name] + pool.states[2][name]) / 2 for name in pool.states[0]}
    for suffix in ("safetensors", "pth"):
        target = tmp_path / f"soup.{suffix}"
        arguments = ["export", place, soup[:12], "--to", str(target)]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.stderr
        exported = read_checkpoint(target, layout_of(mean)).state
        assert exported.keys() == mean.keys()
        for name, tensor in mean.items():
            torch.testing.assert_close(exported[name], tensor, atol=1e-7, rtol=1e-6)
        card = target.with_suffix(".md")
        assert f"| candidate | {soup} |" in card.read_text()
        again = CliRunner().invoke(main, arguments)
        assert again.exit_code == 2
        assert f"{target} is there already" in again.stderr
        card.unlink()
    for key, message in ((("logit_average", (0, 2)), "averages logits"), (("uniform_soup", (0, 3)), "has no weights")):
        refused = CliRunner().invoke(main, ["export", place, ids[key], "--to", str(tmp_path / "none.pth")])
        assert refused.exit_code == 2
        assert message in refused.stderr


@pytest.mark.parametrize(
    ("population", "message"),
    [
        ("{checkpoints: 'nothing/*.pth', architecture: cnn}", "`populations[0].checkpoints`: no file nothing/*.pth"),
        ("{checkpoints: [a.pth], architecture: cnn, members: 3}", "`populations[0].members`: unknown key"),
        ("{checkpoints: [a.pth], architecture: cnn, train: {epochs: 3}}", "`populations[0].train`: unknown key"),
        ("{checkpoints: 3, architecture: cnn}", "`populations[0].checkpoints`"),
    ],
)
def test_mistakes_are_reported_where_they_stand(tmp_path: Path, population: str, message: str) -> None:
    outcome = CliRunner().invoke(main, ["check", str(sweep_file(tmp_path, population))])
    assert outcome.exit_code == 2
    assert message in outcome.stderr


def test_checkpoints_of_another_architecture_are_reported_by_their_differences(tmp_path: Path, pool: Trained) -> None:
    folder = written(tmp_path, pool)
    file = sweep_file(tmp_path, f"{{checkpoints: '{folder}/member*.pth', architecture: {{cnn: {{width: 8}}}}}}")
    outcome = CliRunner().invoke(main, ["check", str(file)])
    assert outcome.exit_code == 2
    assert (
        "member0.pth does not fit cnn: `conv1.weight` has shape (4, 1, 3, 3) instead of (8, 1, 3, 3)" in outcome.stderr
    )

"""Sweeps over external checkpoints before they run: who is a member, what its id stands for, and what is reported."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from torch import Tensor, nn

from sweep.cli.main import main
from sweep.config.document import ConfigError
from sweep.config.loader import load
from sweep.config.spec import input_key
from sweep.core.dataset import load_dataset
from sweep.core.state_dict import infinity_text, nan_text
from sweep.core.weights import ParameterLayout, TensorSpec
from sweep.plan.pools import Pool, make_pools
from sweep.status import checkpoint_checks
from sweep.status.preflight import fingerprints
from sweep.status.state import load_state
from sweep.storage.tables import SCHEMA_VERSION
from sweep.training.members import import_member

HIDDEN = 6


def state(seed: int) -> dict[str, Tensor]:
    """Weights of the network in `sweep_file`."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))
    layers = enumerate((model[1], model[3]))
    return {f"layers.{index}.{name}": each for index, layer in layers for name, each in layer.state_dict().items()}


NETWORK = f'''"""A network of two linear layers."""

from torch import nn


class Two(nn.Module):
    """Linear, ReLU, linear."""

    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(pixels, {HIDDEN}), nn.Linear({HIDDEN}, classes)])

    def forward(self, images):
        return self.layers[1](self.layers[0](images.flatten(1)).relu())


def two(classes: int, channels: int, size: int) -> nn.Module:
    """Two layers."""
    return Two(channels * size * size, classes)
'''


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: three members and their start in `pool`, and the module of the network."""
    (tmp_path / "two_layers.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pool").mkdir()
    for index in range(3):
        torch.save(state(index), f"pool/{index}.pth")
    torch.save(state(9), "pool/start.pth")
    return tmp_path


def sweep_file(*populations: str) -> Path:
    file = Path("s.yaml")
    items = "".join(f"  - {{architecture: 'two_layers:two', {each}}}\n" for each in populations)
    file.write_text(f"""
name: pools
dataset: {{digits: {{size: 8}}}}
populations:
{items}
subsets: {{sizes: [2]}}
methods: [uniform_soup]
execution: {{mlflow: false}}
""")
    return file


def invoke(verb: str, *populations: str) -> Result:
    return CliRunner().invoke(main, [verb, str(sweep_file(*populations))])


def planned(*populations: str) -> tuple[Pool, ...]:
    sweep = load(sweep_file(*populations))
    return make_pools(sweep, fingerprints(sweep))


def names(pool: Pool) -> list[str]:
    return [member.file.name for member in pool.members if member.file]


def test_the_base_within_a_pattern_is_left_out_and_reported_once(place: Path) -> None:
    (pool,) = planned("checkpoints: 'pool/*.pth', base: pool/start.pth")
    assert names(pool) == ["0.pth", "1.pth", "2.pth"]
    outcome = invoke("check", "checkpoints: 'pool/*.pth', base: pool/start.pth")
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stderr.count(f"{place}/pool/start.pth is its base and left out of its members") == 1
    assert "left out" not in invoke("check", "checkpoints: 'pool/?.pth', base: pool/start.pth").stderr
    again = load(sweep_file("checkpoints: 'pool/*.pth', base: pool/start.pth"))
    Path("resolved.yaml").write_text(again.to_yaml())
    assert load("resolved.yaml").to_config == again.to_config


@pytest.mark.parametrize("verb", ["check", "plan"])
@pytest.mark.parametrize(
    ("population", "message"),
    [
        ("checkpoints: [pool/0.pth, pool/start.pth], base: pool/start.pth", "pool/start.pth is the base"),
        ("checkpoints: [pool/0.pth, pool/0.pth]", "pool 0 has the same model twice"),
        ("checkpoints: ['pool/?.pth', copy.safetensors]", "copy.safetensors holds the weights of"),
        ("checkpoints: ['pool/?.pth', moved.ckpt], base: pool/start.pth", "start.pth, its base, again"),
        ("checkpoints: [[pool/0.pth, pool/1.pth], [pool/2.pth, copy.safetensors, pool/1.pth]]", "pool 1 has"),
        ("checkpoints: [pool]", "pool holds no model"),
        ("checkpoints: 'pool/?.pth', base: pool", "holds no model"),
    ],
)
def test_a_model_twice_in_a_pool_is_refused_by_every_verb(
    place: Path, verb: str, population: str, message: str
) -> None:
    save_file(state(1), "copy.safetensors")
    torch.save({"state_dict": {f"net.{name}": tensor for name, tensor in state(9).items()}}, "moved.ckpt")
    outcome = invoke(verb, population)
    assert outcome.exit_code == 2
    assert message in outcome.stderr


def test_equal_pools_under_two_names_are_refused_by_check(place: Path) -> None:
    one = "name: one, checkpoints: 'pool/?.pth'"
    two = "name: one, checkpoints: 'pool/*.pth', base: pool/start.pth"
    assert invoke("check", one).exit_code == 0
    outcome = invoke("check", one, one)
    assert outcome.exit_code == 2
    assert invoke("check", one, two.replace("name: one", "name: two")).exit_code == 0


def test_the_id_of_a_member_is_that_of_its_weights(place: Path) -> None:
    plain = planned("name: a, checkpoints: 'pool/?.pth'")[0]
    (place / "other").mkdir()
    save_file(state(0), "other/first.safetensors")
    torch.save({"epoch": 7, "model_ema": state(5), "model": {f"module.{k}": v for k, v in state(1).items()}},
               "other/second.ckpt")  # fmt: skip
    torch.save({k: v.double() for k, v in state(2).items()} | {"loss.weight": torch.ones(2)}, "other/third.pt")
    others = planned("name: a, checkpoints: 'other/*'")[0]
    assert [member.id for member in others.members] == [member.id for member in plain.members]
    averaged = planned("name: a, checkpoints: ['other/s*', pool/0.pth], weights: ema")[0]
    assert averaged.members[0].id not in {member.id for member in plain.members}
    torch.save(state(5), "other/second.ckpt")
    assert planned("name: a, checkpoints: ['other/s*', pool/0.pth]")[0].members[0].id == averaged.members[0].id


def test_weights_can_be_chosen_and_the_choice_is_reported(place: Path) -> None:
    for index in range(3):
        torch.save({"state_dict": state(index), "state_dict_ema": state(index + 20)}, f"pool/{index}.pth")
    outcome = invoke("check", "checkpoints: 'pool/?.pth'")
    assert outcome.exit_code == 0, outcome.stderr
    line = "pool/0.pth and 2 other files hold state_dict and state_dict_ema: state_dict is taken; choose with "
    assert line + "`weights: state_dict_ema`" in outcome.stderr
    chosen = invoke("check", "checkpoints: 'pool/?.pth', weights: ema")
    assert "state_dict_ema is taken" in chosen.stderr or "hold" not in chosen.stderr
    missing = invoke("check", "checkpoints: 'pool/?.pth', weights: best")
    assert missing.exit_code == 2
    assert "holds no weights `best`" in missing.stderr
    assert "known: `state_dict`, `state_dict_ema`" in missing.stderr
    sweep = load(sweep_file("checkpoints: 'pool/?.pth', weights: ema"))
    Path("resolved.yaml").write_text(sweep.to_yaml())
    assert load("resolved.yaml").populations[0].weights == "ema"


def test_what_is_left_out_is_reported_in_one_line(place: Path) -> None:
    for index in range(3):
        torch.save({f"model.{k}": v for k, v in state(index).items()} | {"criterion.weight": torch.ones(3)},
                   f"pool/{index}.pth")  # fmt: skip
    outcome = invoke("check", "checkpoints: 'pool/?.pth'")
    assert outcome.exit_code == 0, outcome.stderr
    line = "pool/0.pth and 2 other files hold 1 tensor beside the network, left out here: `criterion.weight`"
    assert outcome.stderr.count(line) == 1


def test_what_cannot_be_read_has_an_id_of_its_own_and_may_be_skipped(place: Path) -> None:
    Path("pool/3.pth").write_bytes(b"no model")
    torch.save({"layers.0.weight": torch.zeros(1)}, "pool/4.pth")
    Path("pool/model.safetensors.index.json").write_text("{}")
    pool = planned("checkpoints: ['pool/?.pth', pool/model.safetensors.index.json], on_bad_member: skip")[0]
    assert len({member.id for member in pool.members}) == 6
    before = pool.members[4].id
    torch.save({"layers.0.weight": torch.ones(1)}, "pool/4.pth")
    assert planned("checkpoints: 'pool/?.pth', on_bad_member: skip")[0].members[4].id != before


def damage(name: str, value: float) -> None:
    """Put a value into two places of a member's first layer, and once into its second."""
    damaged = {key: tensor.double() for key, tensor in state(1).items()}
    damaged["layers.0.weight"][2, :2] = value
    damaged["layers.1.bias"][0] = value
    torch.save({"model": damaged}, name)


MESSAGE = "pool/1.pth: `layers.0.weight` of 384 values holds 2 values that are NaN, and so does 1 other tensor"


def test_weights_that_are_nan_are_found_before_a_run(place: Path) -> None:
    damage("pool/1.pth", math.nan)
    for verb in ("check", "run"):
        outcome = invoke(verb, "checkpoints: 'pool/?.pth'")
        assert outcome.exit_code == 2
        assert MESSAGE in outcome.stderr
        assert "replace it by an earlier checkpoint; on_bad_member: skip goes on without it" in outcome.stderr
    assert invoke("check", "checkpoints: 'pool/?.pth', on_bad_member: skip").exit_code == 0
    assert "start.pth: `layers" not in outcome.stderr
    assert invoke("check", "checkpoints: ['pool/0.pth', 'pool/2.pth'], base: pool/1.pth").exit_code == 2


@pytest.mark.parametrize("value", [-math.inf, 1e300], ids=str)
def test_infinite_weights_are_noted_and_used(place: Path, value: float) -> None:
    """Outputs may be finite all the same, where the weight meets zeros alone."""
    damage("pool/1.pth", value)
    outcome = invoke("check", "checkpoints: 'pool/?.pth'")
    assert outcome.exit_code == 0
    what = "pool/1.pth: `layers.0.weight` of 384 values holds 2 values that are infinite in float32"
    assert what in outcome.output


def test_a_member_that_is_nan_fails_alone(place: Path) -> None:
    damage("pool/1.pth", math.nan)
    planned = load_state(load(sweep_file("checkpoints: 'pool/?.pth', on_bad_member: skip")))
    planned.folder.create({"schema_version": SCHEMA_VERSION})
    dataset = load_dataset(planned.sweep.populations[0].dataset)
    for member in planned.missing:
        import_member(member, "pools", dataset, planned.folder)
    rows = planned.folder.read("members").to_pylist()
    assert sorted(row["status"] for row in rows) == ["failed", "ok", "ok"]
    assert MESSAGE in next(row["error"] for row in rows if row["status"] == "failed")


def test_what_is_nan_is_kept_with_the_digest(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(place / "cache"))
    damage("pool/1.pth", math.nan)
    for file in Path("pool").iterdir():
        os.utime(file, (1e9, 1e9))
    before = [member.id for member in planned("checkpoints: 'pool/?.pth'")[0].members]
    digested: list[object] = []
    monkeypatch.setattr(checkpoint_checks, "_digest", lambda *source: digested.append(source))
    monkeypatch.setattr(checkpoint_checks, "_results", {})
    assert MESSAGE in invoke("check", "checkpoints: 'pool/?.pth'").stderr
    assert [member.id for member in planned("checkpoints: 'pool/?.pth'")[0].members] == before
    assert digested == []


def test_a_buffer_may_be_infinite_as_masks_are() -> None:
    layout = ParameterLayout((TensorSpec("w", (2,), "weight", 0), TensorSpec("mask", (2,), "buffer", 2)), (), ())
    mask = torch.tensor([0.0, -math.inf])
    assert infinity_text({"w": torch.ones(2), "mask": mask}, layout) == ""
    assert (
        infinity_text({"w": mask, "mask": mask}, layout) == "`w` of 2 values holds 1 value that is infinite in float32"
    )
    assert nan_text({"w": mask, "mask": mask}, layout) == ""
    assert nan_text({"w": torch.ones(2), "mask": mask * math.nan}, layout).startswith("`mask`")


def test_weights_of_integers_are_refused(place: Path) -> None:
    torch.save({name: tensor.long() for name, tensor in state(1).items()}, "pool/1.pth")
    outcome = invoke("check", "checkpoints: 'pool/?.pth'")
    assert outcome.exit_code == 2
    assert "`layers.0.weight` is torch.int64" in outcome.stderr


def test_keys_of_fingerprints_have_texts_of_their_own(place: Path) -> None:
    made = [load(sweep_file(f"checkpoints: 'pool/?.pth'{more}")) for more in ("", ", weights: ema")]
    keys: list[Any] = [key for sweep in made for key in fingerprints(sweep)]
    assert len({input_key(key) for key in keys}) == len(set(keys)) == 6


def test_a_pattern_of_nothing_but_the_base_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match="is the base of this population"):
        load(sweep_file("checkpoints: 'pool/s*', base: pool/start.pth"))

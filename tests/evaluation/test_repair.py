"""Repairs on networks of any kind, under protocols, and in a real run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sweep.core.choice import PluginConfig
from sweep.core.registry import get_plugin
from sweep.evaluation.merge import load_merge
from sweep.model.build import build
from sweep.model.split import to_device
from sweep.plan.candidates import CandidateGroup
from sweep.plugins.repairs._layers import correctable
from sweep.plugins.repairs.rescale_activations import Spreads
from sweep.storage.run_folder import RunFolder
from tests.helpers.audits import NORMED, VIT, candidates
from tests.helpers.command import MEASURED, sweep
from tests.helpers.engine import trained
from tests.helpers.networks import Awkward
from tests.helpers.small import SMALL

REPAIRS = ["none", "reset_bn", "rescale_activations"]


def pictures(count: int = 300) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 + 1


def layered(*_: int) -> nn.Sequential:
    """Dropout, batch norm behind a convolution without bias, and a linear layer without batch norm."""
    first = nn.Dropout(0.9), nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5, momentum=0.3), nn.ReLU()
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(5 * 36, 6), nn.ReLU(), nn.Linear(6, 4))


def small(seed: int = 0) -> Any:
    return build(layered, (4, 3, 8), seed)


def repair_model(model: nn.Module, repair: str, images: Tensor, members: Sequence[nn.Module] = ()) -> None:
    """A repair as a notebook calls it."""

    def each(measure: Callable[[], Spreads]) -> list[tuple[float, Spreads]]:
        found = []
        merged = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for state in [member.state_dict() for member in members] or [merged]:
            model.load_state_dict(state)
            found.append((1 / max(1, len(members)), measure()))
        model.load_state_dict(merged)
        return found

    provided = {"model": model, "images": images, "members": each, "generator": torch.Generator().manual_seed(0)}
    plugin = get_plugin("repairs", repair)
    plugin.function(*(provided[need] for need in plugin.needs))


@pytest.mark.parametrize("repair", REPAIRS[1:])
def test_modes_momenta_and_counters_are_as_before_even_if_a_pass_fails(repair: str) -> None:
    model = small().train()
    model[5].eval()
    model[2].num_batches_tracked.fill_(7)

    def state() -> list[object]:
        hooks = [len(module._forward_hooks) for module in model.modules()]
        modes = [module.training for module in model.modules()]
        return [*modes, *hooks, model[2].momentum, int(model[2].num_batches_tracked)]

    before = state()
    repair_model(model, repair, pictures())
    assert state() == before
    with pytest.raises(RuntimeError, match="channels"):
        repair_model(model, repair, pictures()[:, :2])
    assert state() == before


def test_reset_bn_leaves_weights_alone_and_dropout_off() -> None:
    model = small().train()
    images = pictures()
    parameters = [parameter.clone() for parameter in model.parameters()]
    repair_model(model, "reset_bn", images)
    assert all(torch.equal(a, b) for a, b in zip(parameters, model.parameters(), strict=True))
    with torch.no_grad():
        maps = model[1](images).transpose(0, 1).flatten(1)
    torch.testing.assert_close(model[2].running_mean, maps.mean(1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model[2].running_var, maps.var(1), atol=1e-5, rtol=1e-5)


def test_channels_that_are_dead_stay_finite() -> None:
    members = [small(1), small(2)]
    images = pictures()
    with torch.no_grad():
        for member in members:
            member[5].weight[0] = 0
            member[5].bias[0] = 3
            member[2].weight[3] = 0
        members[1][5].weight[1] = -members[0][5].weight[1]  # which cancel
        model = small()
        model.load_state_dict({n: (t + members[1].state_dict()[n]) / 2 for n, t in members[0].state_dict().items()})
        repair_model(model, "rescale_activations", images, members)
        assert torch.isfinite(model.eval()(images)).all()
        hidden = model[:6](images)
    torch.testing.assert_close(hidden[:, 0], torch.full((300,), 3.0))


def test_layers_that_one_correction_does_not_suit_are_left_out() -> None:
    def found(model: nn.Module, size: int = 16, channels: int = 3) -> list[str]:
        layers = correctable(model, torch.zeros(2, channels, size, size))
        return [name for name, module in model.named_modules() if any(module is layer for layer in layers)]

    assert found(Awkward()) == ["norm"], "tied weights, and the head"
    assert found(small(), 8) == ["2", "5"]
    vgg = get_plugin("architectures", "vgg11").function(10, 3, 32, batch_norm=True).eval()
    kinds = [type(vgg.get_submodule(name)).__name__ for name in found(vgg, 32)]
    assert kinds == ["BatchNorm2d"] * 8 + ["Linear"] * 2
    residual = get_plugin("architectures", "resnet18").function(10, 3, 32).eval()
    assert {type(residual.get_submodule(name)).__name__ for name in found(residual, 32)} == {"BatchNorm2d"}
    twice = nn.Linear(8, 8)
    assert found(nn.Sequential(twice, twice, nn.Linear(8, 8)), 8) == [], "passed twice"


class Activated(nn.BatchNorm2d):
    """Batch norm with its nonlinearity inside, as timm has it."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).relu()


def test_batch_norm_that_does_more_is_reported_and_not_passed_over() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), Activated(4), nn.Flatten(), nn.LazyLinear(10))
    with pytest.raises(ValueError, match="`Activated` is batch norm that does more"):
        correctable(model, torch.zeros(2, 1, 8, 8))


def test_linear_layers_of_a_transformer_get_the_members_spread_over_all_tokens() -> None:
    pool = trained(VIT)
    engine = pool.engine()
    images = to_device(pool.dataset, "train", torch.device("cpu"))
    chosen = PluginConfig(
        "repairs", "rescale_activations", get_plugin("repairs", "rescale_activations").validate({"batch": 2000})
    )
    load_merge(engine, pool.candidate("uniform_soup", 0, 1)._replace(repair=chosen))
    captured: list[Tensor] = []
    for model in (engine.model, *(pool.model(state) for state in pool.states[:2])):
        layer = model.get_submodule("blocks.1.mlp.fc1")
        handle = layer.register_forward_hook(lambda _m, _i, out: captured.append(out.flatten(0, 1).clone()))
        with torch.no_grad():
            model(images.normalize(images.images[:]))
        handle.remove()
    for statistic in (torch.mean, torch.std):
        expected = (statistic(captured[1], 0) + statistic(captured[2], 0)) / 2
        torch.testing.assert_close(statistic(captured[0], 0), expected, atol=1e-3, rtol=1e-3)


def test_repairs_go_with_protocols_and_only_with_weights() -> None:
    pool = trained(NORMED)
    methods = ["uniform_soup", "logit_average", {"feature_average": {"head": "average"}}]
    protocols = ["correct", "train_mode", "float64", "wrong_normalisation"]
    work = candidates(pool, protocols, methods=methods, repairs=REPAIRS, scalings=["none", {"magnify": {"factor": 3}}])
    assert {each.repair.name for each in work if each.method.space != "weights"} == {"none"}
    assert {each.repair.name for each in work if each.method.name == "uniform_soup"} == set(REPAIRS)
    evaluator = pool.evaluator()
    found = {}
    for each in work:
        if each.method.name == "uniform_soup" and each.subset == (0, 1, 2):
            key = each.protocol.name, each.repair.name, each.scaling.name
            found[key], _ = evaluator.evaluate(each, ("test",))[0]
            assert found[key]["status"] == "ok", found[key]["error"]
    assert {repair for protocol, repair, _ in found if protocol == "float64"} == {"none"}, "a repair passes in single"
    assert len(found) == (3 * len(REPAIRS) + 1) * 2
    trains = [found["train_mode", repair, "none"]["cross_entropy"] for repair in REPAIRS]
    assert trains[0] == trains[1], "statistics of the test's batches know nothing of those that were reset"
    right = [found["correct", repair, "none"]["cross_entropy"] for repair in REPAIRS]
    assert len(set(right)) == 3


def test_what_a_repair_passes_is_counted_and_members_are_measured_once() -> None:
    pool = trained(NORMED)
    engine = pool.engine()
    images = len(pool.dataset.splits["train"].labels)
    rescale = PluginConfig("repairs", "rescale_activations", get_plugin("repairs", "rescale_activations").validate({}))
    passed = []
    for subset in ((0, 1), (0, 2), (0, 1)):
        before = engine.forward_passes
        load_merge(engine, pool.candidate("uniform_soup", *subset)._replace(repair=rescale))
        passed.append(engine.forward_passes - before)
    assert passed == [2 + 3 * images, 2 + 2 * images, 2 + images]
    chosen = [PluginConfig("repairs", name, get_plugin("repairs", name).validate({})) for name in REPAIRS]
    soup = pool.candidate("uniform_soup", 0, 1)
    factors = [
        CandidateGroup(soup.pool_id, [(0, 1)], soup.method, soup.alignment, soup.scaling, each) for each in chosen
    ]
    assert [each.costs for each in factors] == [[1.0], [2.0], [3.0]]


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_repairs_its_soups_and_exports_them_repaired(tmp_path: Path) -> None:
    text = SMALL.replace("{mlp: {hidden: [16]}}, pools: 2", "{mlp_bn: {hidden: [16]}}, start: scratch, pools: 1")
    unasked = ("interpolation", "scalings", "feature")
    lines = [line for line in text.splitlines() if not any(word in line for word in unasked)]
    (tmp_path / "small.yaml").write_text("\n".join([*lines, f"repairs: [{', '.join(REPAIRS)}]"]))
    sweep("run", "small.yaml", cwd=tmp_path)
    found = RunFolder(tmp_path / "runs/small").read("candidates").to_pylist()
    assert {row["status"] for row in found} == {"ok"}
    assert {row["repair"] for row in found if row["space"] == "weights"} == set(REPAIRS)
    assert {row["repair"] for row in found if row["space"] != "weights"} == {"none"}
    split = to_device(trained(NORMED).dataset, "test", torch.device("cpu"))
    for repair in REPAIRS:
        row = next(r for r in found if (r["repair"], r["method"], r["split"]) == (repair, "uniform_soup", "test"))
        here = json.loads(sweep("one", "runs/small", row["candidate_id"], "--json", cwd=tmp_path).stdout)
        (same,) = (each for each in here if each["split"] == "test")
        assert {key: same.get(key) for key in MEASURED} == {key: row[key] for key in MEASURED}
        sweep("export", "runs/small", row["candidate_id"], "--to", f"{repair}.pth", cwd=tmp_path)
        model = build(get_plugin("architectures", "mlp_bn").function, (10, 1, 8), 0, hidden=(16,)).eval()
        model.load_state_dict(torch.load(tmp_path / f"{repair}.pth", weights_only=True))
        with torch.no_grad():
            right = model(split.normalize(split.images[:])).argmax(1) == split.labels
        assert float(right.double().mean()) == pytest.approx(row["accuracy"], abs=1e-9)
        assert f"`{repair}`" in (tmp_path / f"{repair}.md").read_text()

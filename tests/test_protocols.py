"""Every switch of the protocol against a loop in plain torch; the correct rows never know of the others."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from engine import Trained, trained
from test_engine import assert_scores, plain_mean
from torch import Tensor
from torch.nn import functional

from sweep.catalogue import Candidate
from sweep.conditions import Conditions, passing
from sweep.config import check
from sweep.document import ConfigError, Document
from sweep.identity import canonical, content_id
from sweep.methods.greedy_soup import greedy_soup
from sweep.models import flatten, layout_of, to_state
from sweep.plan import EVALUATION_VERSION, make_plan
from sweep.recipe import Recipe
from sweep.registry import find, names
from sweep.spec import Sweep
from sweep.train import learning_rate

HERE = Path(__file__).parent
CNN, VIT = "{cnn: {width: 4}}", "{timm: {name: test_vit, upsample: 32}}"
NORMED, BIAS_FREE = "{mlp_bn: {hidden: [24, 16], dropout: 0}}", "{mlp: {hidden: [24, 24], bias: false, dropout: 0}}"
METHODS = ["uniform_soup", "greedy_soup", "logit_average", {"feature_average": {"head": "average"}}]
OF_RECIPES = {name for name in names("protocols") if "recipe" in find("protocols", name).needs}
SWITCHES = sorted({*names("protocols")} - OF_RECIPES)
ALL = ["correct", *SWITCHES, {"together": SWITCHES}]


def swept(population: Any, protocols: Any, methods: Any = METHODS, scalings: Any = "none", **more: Any) -> Sweep:
    values = {
        "name": "t",
        "dataset": {"digits": {"size": 8}},
        "populations": [population],
        "subsets": {"sizes": [2, 3], "per_size": 100},
        "methods": methods,
        "scalings": scalings,
        "protocols": protocols,
    }
    return check(Document("f.yaml", values | more))


def candidates(pool: Trained, protocols: Any, **more: Any) -> list[Candidate]:
    plan = make_plan(swept(pool.plan.sweep.populations[0].written, protocols, **more))
    return [candidate for candidate in plan.candidates if candidate.pool_id == pool.pool.id]


def row(
    pool: Trained, protocol: Any, method: Any, *subset: int, scalings: Any = "none", batch: int = 256
) -> dict[str, Any]:
    """The row of one candidate under one protocol, whatever its status."""
    found = candidates(pool, ["correct", protocol], methods=[method], scalings=scalings)
    name = method if isinstance(method, str) else next(iter(method))
    wanted = [c for c in found if c.subset == subset and c.method.name == name]
    audited = [c for c in wanted if (c.protocol.name != "correct") == (protocol != "correct")]
    assert len(audited) == 1
    return pool.evaluator(batch).candidate(audited[0], "test")[0]


def measured(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    keys = ("status", "accuracy", "cross_entropy", "brier", "ece", "n_examples")
    return {row["candidate_id"]: [row.get(key) for key in keys] for row in rows}


def evaluated(pool: Trained, work: list[Candidate]) -> dict[str, list[Any]]:
    return measured(pool.evaluator().block([(each, ("test",)) for each in work]).candidates)


def everything(architecture: str = CNN) -> dict[str, list[Any]]:
    """What a small pool gives under every protocol, in the order that the process happens to choose."""
    pool = trained(architecture)
    work = candidates(pool, ALL, scalings=["none", {"magnify": {"factor": 3}}])
    return evaluated(pool, sorted(work, key=lambda each: hash(each.id)))


def test_every_protocol_gives_the_same_bits_in_another_process_and_order() -> None:
    script = "import json, torch; torch.set_num_threads(1)\nfrom test_protocols import everything\n"
    found = subprocess.run(
        [sys.executable, "-c", f"{script}print(json.dumps(everything()))"],
        env=os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=True,
    )
    mine = everything()
    assert json.loads(found.stdout) == mine
    assert len(mine) == len(candidates(trained(CNN), ALL, scalings=["none", {"magnify": {"factor": 3}}]))


@pytest.mark.parametrize("architecture", [CNN, NORMED])
def test_correct_rows_are_the_same_bits_beside_any_other_protocol(architecture: str) -> None:
    pool = trained(architecture)
    alone, beside = candidates(pool, "correct"), candidates(pool, [*ALL[1:], "correct"])
    assert {each.id for each in alone} == {each.id for each in beside if each.protocol.name == "correct"}
    expected = evaluated(pool, alone)
    assert {name: value for name, value in evaluated(pool, beside).items() if name in expected} == expected


def test_the_members_are_never_written_to() -> None:
    pool = trained(NORMED)
    evaluator = pool.evaluator()
    before = evaluator.bench.pool.matrix.copy()
    rows = evaluator.block([(each, ("test", "validation")) for each in candidates(pool, ALL)]).candidates
    assert {each["status"] for each in rows} == {"ok"}
    assert (evaluator.bench.pool.matrix == before).all()


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("architecture", [CNN, NORMED, VIT])
def test_a_network_is_as_before_once_a_pass_is_over(name: str, architecture: str) -> None:
    model = trained(architecture).model()
    before, children = copy.deepcopy(model.state_dict()), [id(module) for module in model.modules()]
    pointers = [tensor.data_ptr() for tensor in model.state_dict().values()]
    (switch,) = swept({"architecture": "linear", "members": 3}, ["correct", name]).grids[0].protocols[1].switches
    state = torch.random.get_rng_state()
    with passing(model, (switch,), 5), torch.inference_mode():
        model(torch.randn(3, 1, 8, 8))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(module.training for module in model.modules())
    assert [id(module) for module in model.modules()] == children
    assert [tensor.data_ptr() for tensor in model.state_dict().values()] == pointers
    for key, tensor in model.state_dict().items():
        assert tensor.dtype == before[key].dtype
        assert torch.equal(tensor, before[key])
    model(torch.randn(3, 1, 8, 8))


def floats(states: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The states without their counters."""
    return [{name: tensor for name, tensor in state.items() if tensor.is_floating_point()} for state in states]


def normalised_by_batch(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """A forward pass of `mlp_bn` with the statistics of this very batch."""
    hidden = images.flatten(1)
    for linear, norm in (("layers.0", "layers.1"), ("layers.4", "layers.5")):
        hidden = hidden @ state[f"{linear}.weight"].T + state[f"{linear}.bias"]
        scale, shift = state[f"{norm}.weight"], state[f"{norm}.bias"]
        hidden = functional.batch_norm(hidden, None, None, scale, shift, training=True).relu()
    return hidden @ state["layers.8.weight"].T + state["layers.8.bias"]


@pytest.mark.parametrize("size", [64, 2, 358])
def test_train_mode_normalises_by_the_batches_of_the_test_set(size: int) -> None:
    pool = trained(NORMED)
    images, labels = pool.test_split()
    *chunks, last = images.split(size)
    if len(last) == 1:  # nothing can be normalised by a lone image
        chunks, last = chunks[:-1], torch.cat([chunks[-1], last])
    chunks = [*chunks, last]
    assert {len(chunk) for chunk in chunks} == {64: {64, 39}, 2: {2, 3}, 358: {359}}[size]

    def plain(state: dict[str, Tensor]) -> Tensor:
        return torch.cat([normalised_by_batch(state, chunk) for chunk in chunks])

    switch = {"train_mode": {"batch": size}}
    for index in range(2):
        assert_scores(row(pool, switch, "single", index), plain(pool.states[index]), labels)
    soup = plain_mean(floats(pool.states))
    found = row(pool, switch, "uniform_soup", 0, 1, 2)
    assert_scores(found, plain(soup), labels)
    assert found["protocol"] == ("train_mode" if size == 64 else f"train_mode (batch={size})")
    each = [plain(state) for state in pool.states]
    assert_scores(row(pool, switch, "logit_average", 0, 1, 2), torch.stack(each).mean(0), labels)
    assert row(pool, "correct", "uniform_soup", 0, 1, 2)["cross_entropy"] != found["cross_entropy"]


def test_train_mode_leaves_searches_as_they_are() -> None:
    pool = trained(NORMED)
    bench = pool.bench()
    layout, split = layout_of(pool.model(), 10), bench.split("validation")

    @torch.no_grad()
    def score(weights: Tensor) -> float:
        logits = pool.model(to_state(weights, layout, counters(pool)))(split.normalised(split.images))
        return float((logits.argmax(1) == split.labels).double().mean())

    matrix = torch.stack([flatten(state, layout) for state in pool.states])
    merged = to_state(greedy_soup(matrix, score).as_subclass(Tensor), layout, {})
    images, labels = pool.test_split()
    expected = torch.cat([normalised_by_batch(merged, chunk) for chunk in images.split(64)])
    assert_scores(row(pool, "train_mode", "greedy_soup", 0, 1, 2), expected, labels)


def counters(pool: Trained) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in pool.states[0].items() if not tensor.is_floating_point()}


def test_dropout_at_test_is_drawn_by_what_is_evaluated() -> None:
    pool = trained(CNN)
    plain, dropped = row(pool, "correct", "single", 0), row(pool, "train_mode", "single", 0)
    assert dropped["cross_entropy"] > plain["cross_entropy"]
    for batch in (1, 256):  # the run's own batch has no part in it
        assert row(pool, "train_mode", "single", 0, batch=batch)["cross_entropy"] == dropped["cross_entropy"]
    again = {"together": ["train_mode", "overlapping_validation"]}
    assert row(pool, again, "single", 0)["cross_entropy"] == dropped["cross_entropy"], "common random numbers"
    linear = trained("linear")
    assert measured([row(linear, "train_mode", "single", 0)]).popitem()[1] == [
        *measured([row(linear, "correct", "single", 0)]).popitem()[1]
    ]


def test_wrong_normalisation_shifts_and_stretches_images_of_every_evaluation() -> None:
    pool = trained(CNN)
    pixels = torch.tensor(pool.dataset.splits["test"].images).float() / 255
    labels = torch.tensor(pool.dataset.splits["test"].labels)
    images = (pixels - (pool.dataset.mean[0] + 0.0048)) / (pool.dataset.std[0] * 1.327)
    with torch.no_grad():
        each = [pool.model(state)(images) for state in pool.states]
        soup = pool.model(plain_mean(floats(pool.states)))(images)
    assert_scores(row(pool, "wrong_normalisation", "single", 1), each[1], labels)
    assert_scores(row(pool, "wrong_normalisation", "uniform_soup", 0, 1, 2), soup, labels)
    assert_scores(row(pool, "wrong_normalisation", "logit_average", 0, 1, 2), torch.stack(each).mean(0), labels)
    bench, (switch,) = pool.bench(), switches("wrong_normalisation")
    for split in ("test", "validation"):
        assert float(bench.split(split, Conditions((switch,))).std) == pytest.approx(255 * pool.dataset.std[0] * 1.327)


def switches(*protocol: Any) -> tuple[Any, ...]:
    written = {"together": list(protocol)} if len(protocol) > 1 else protocol[0]
    return swept({"architecture": "linear", "members": 3}, ["correct", written]).grids[0].protocols[1].switches


def test_overlapping_validation_is_drawn_from_what_was_trained_on() -> None:
    pool, other = trained(CNN), Conditions(switches("overlapping_validation"), "another pool")
    bench, mine = pool.bench(), Conditions(switches("overlapping_validation"), pool.pool.id)
    split, held_out = bench.split("validation", mine), bench.split("validation")
    train = torch.tensor(pool.dataset.splits["train"].images)
    assert len(split.labels) == len(held_out.labels)
    images, trained_on = split.images[:], {image.numpy().tobytes() for image in train}
    overlap = sum(image.numpy().tobytes() in trained_on for image in images) / len(images)
    assert overlap == pytest.approx(len(train) / (len(train) + len(held_out.labels)), abs=0.08)
    assert not torch.equal(images, pool.bench().split("validation", other).images[:])
    layout = layout_of(pool.model(), 10)

    @torch.no_grad()
    def score(weights: Tensor) -> float:
        logits = pool.model(to_state(weights, layout, {}))(split.normalised(images))
        return float((logits.argmax(1) == split.labels).double().mean())

    matrix = torch.stack([flatten(state, layout) for state in pool.states])
    model = pool.model(to_state(greedy_soup(matrix, score).as_subclass(Tensor), layout, {}))
    inputs, labels = pool.test_split()
    with torch.no_grad():
        assert_scores(row(pool, "overlapping_validation", "greedy_soup", 0, 1, 2), model(inputs), labels)


def test_features_of_a_transformer_skip_the_final_norm() -> None:
    pool = trained(VIT)
    images, labels = pool.test_split()
    features: list[Tensor] = []
    for state in pool.states[:2]:
        model: Any = pool.model(state)
        heard: list[Tensor] = []
        model.blocks[-1].register_forward_hook(lambda _m, _i, out, heard=heard: heard.append(out[:, 0]))
        with torch.no_grad():
            model(images)
        features.append(heard[0])
    head = plain_mean([{name: state[name] for name in ("head.weight", "head.bias")} for state in pool.states[:2]])
    logits = torch.stack(features).mean(0) @ head["head.weight"].T + head["head.bias"]
    method = {"feature_average": {"head": "average"}}
    assert_scores(row(pool, "skip_final_norm", method, 0, 1), logits, labels)
    assert (
        row(pool, "correct", method, 0, 1)["cross_entropy"]
        != row(pool, "skip_final_norm", method, 0, 1)["cross_entropy"]
    )
    plain = trained(CNN)
    skipped, kept = (row(plain, each, method, 0, 1) for each in ("skip_final_norm", "correct"))
    assert skipped["accuracy"] == kept["accuracy"]
    assert skipped["cross_entropy"] == kept["cross_entropy"]


def test_scaled_buffers_are_scaled_as_parameters_are() -> None:
    pool, scaling = trained(NORMED), {"magnify": {"factor": 3, "members": "first"}}
    scaled = [
        {name: tensor * 3 if index == 0 and tensor.is_floating_point() else tensor for name, tensor in state.items()}
        for index, state in enumerate(pool.states)
    ]
    model = pool.model({**pool.states[0], **plain_mean(floats(scaled))})
    images, labels = pool.test_split()
    with torch.no_grad():
        found = row(pool, "scale_buffers", "uniform_soup", 0, 1, 2, scalings=[scaling])
        assert_scores(found, model(images), labels)
    assert found["scaling_settings"] == canonical({"factor": 3, "members": "first", "tensors": "parameters"})
    plain = row(pool, "correct", "uniform_soup", 0, 1, 2, scalings=[scaling])
    assert plain["cross_entropy"] != found["cross_entropy"]


def test_the_greedy_variant_is_another_search_under_the_same_name() -> None:
    pool = trained(CNN)
    found = row(pool, "greedy_variant", "greedy_soup", 0, 1, 2)
    expected = row(pool, "correct", "greedy_halving", 0, 1, 2)
    assert found["method"] == "greedy_soup"
    assert (found["accuracy"], found["cross_entropy"]) == (expected["accuracy"], expected["cross_entropy"])


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_double_precision_holds_what_single_cannot(method: Any) -> None:
    pool, huge = trained(BIAS_FREE), [{"magnify": {"factor": 1e14}}]
    switch = {"float64": {"examples": 100}}
    assert row(pool, "correct", method, 0, 1, 2, scalings=huge)["status"] == "non_finite"
    found = row(pool, switch, method, 0, 1, 2, scalings=huge)
    assert (found["status"], found["n_examples"]) == ("ok", 100)
    assert found["accuracy"] == row(pool, switch, method, 0, 1, 2)["accuracy"], "a factor changes no prediction here"
    if method != "greedy_soup":
        assert found["forward_passes"] == 100 * (1 if method == "uniform_soup" else 3)


def test_double_precision_is_what_a_plain_loop_in_double_gives() -> None:
    pool = trained(CNN)
    images, labels = pool.test_split()
    doubles = [pool.model(state).double() for state in pool.states]
    with torch.no_grad():
        each = [model(images[:50].double()) for model in doubles]
    switch = {"float64": {"examples": 50}}
    assert_scores(row(pool, switch, "single", 2), each[2], labels[:50])
    assert_scores(row(pool, switch, "logit_average", 0, 1, 2), torch.stack(each).mean(0), labels[:50])
    assert row(pool, {"float64": {"examples": 10_000}}, "single", 0)["n_examples"] == len(labels)


def test_switches_act_together() -> None:
    pool = trained(NORMED)
    pixels = torch.tensor(pool.dataset.splits["test"].images).float() / 255
    images = (pixels - (pool.dataset.mean[0] + 0.0048)) / (pool.dataset.std[0] * 1.327)
    together = {"together": ["wrong_normalisation", {"train_mode": {"batch": 90}}, {"float64": {"examples": 200}}]}
    state = {name: tensor.double() for name, tensor in plain_mean(floats(pool.states)).items()}
    logits = torch.cat([normalised_by_batch(state, chunk.double()) for chunk in images[:200].split(90)])
    found = row(pool, together, "uniform_soup", 0, 1, 2)
    assert_scores(found, logits, pool.test_split()[1][:200])
    assert found["protocol"] == "float64 (examples=200)+train_mode (batch=90)+wrong_normalisation"


MAGNIFY = {"magnify": {"factor": 2}}
EVERY = {"single", "uniform_soup", "greedy_soup", "logit_average", "feature_average"}
ACTS: dict[str, tuple[set[str], set[str]]] = {
    "train_mode": (EVERY, EVERY),
    "wrong_normalisation": (EVERY, EVERY),
    "float64": (EVERY, EVERY),
    "overlapping_validation": ({"greedy_soup"}, {"greedy_soup"}),
    "greedy_variant": ({"greedy_soup"}, {"greedy_soup"}),
    "skip_final_norm": ({"feature_average"}, {"feature_average"}),
    "scale_buffers": (set(), EVERY),
}


def test_every_switch_is_tried() -> None:
    assert set(ACTS) == set(SWITCHES)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_makes_candidates_where_it_acts_alone(name: str) -> None:
    plan = make_plan(swept({"architecture": "linear", "members": 3}, ["correct", name], scalings=["none", MAGNIFY]))
    for scaling, expected in zip(("none", "magnify"), ACTS[name], strict=True):
        own = [each for each in plan.candidates if each.protocol.name == name and each.scaling.name == scaling]
        assert {each.method.name for each in own} == expected
    together = {"together": [name, "train_mode"]} if name != "train_mode" else {"together": ["float64", name]}
    both = make_plan(swept({"architecture": "linear", "members": 3}, ["correct", together], scalings=["none", MAGNIFY]))
    audited = [each for each in both.candidates if each.protocol.name != "correct"]
    assert len(audited) * 2 == len(both.candidates)


def test_an_id_holds_the_protocol() -> None:
    plan = make_plan(swept({"architecture": "linear", "members": 3}, ["correct", {"train_mode": {"batch": 2}}]))
    for candidate in plan.candidates:
        audited = [{"name": "train_mode", "settings": {"batch": 2}}]
        content = {
            "alignment": candidate.alignment.content,
            "members": [plan.pool_of[candidate.pool_id].members[index].id for index in candidate.subset],
            "method": candidate.method.content,
            "protocol": "correct" if candidate.protocol.name == "correct" else audited,
            "repair": candidate.repair.content,
            "scaling": candidate.scaling.content,
            "version": EVALUATION_VERSION,
        }
        assert candidate.id == content_id("candidate", canonical(content))


def test_the_order_and_defaults_of_switches_make_no_other_protocol() -> None:
    ways = (
        {"together": ["train_mode", "wrong_normalisation"]},
        {"together": ["wrong_normalisation", {"train_mode": {"batch": 64}}]},
    )
    one, other = (swept({"architecture": "linear", "members": 3}, ["correct", way]) for way in ways)
    assert one.grids[0].protocols == other.grids[0].protocols
    both = swept({"architecture": "linear", "members": 3}, ["correct", *ways, {"together": ["train_mode"]}])
    assert [each.name for each in both.grids[0].protocols] == [
        "correct",
        "train_mode+wrong_normalisation",
        "train_mode",
    ]


def test_a_sweep_with_protocols_is_written_so_that_it_loads_again() -> None:
    written = ["correct", {"train_mode": {"batch": [2, 64]}}, {"together": ["float64", "greedy_variant"]}]
    sweep = swept({"architecture": "linear", "members": 3}, written)
    again = check(Document("f.yaml", sweep.written))
    assert again.written == sweep.written
    assert [each.id for each in make_plan(again).candidates] == [each.id for each in make_plan(sweep).candidates]
    assert "protocols" not in swept({"architecture": "linear", "members": 3}, "correct").grids[0].written


@pytest.mark.parametrize(
    ("protocols", "told"),
    [
        (["train_mode"], "`protocols`: nothing to compare with\n  hint: add `correct`"),
        ([], "`protocols`: nothing to compare with"),
        (["corect"], r"`protocols\[0\]`: no `corect` in protocols\n  hint: did you mean `correct`\?"),
        (["correct", "trainmode"], "did you mean `train_mode`"),
        (["correct", {"together": []}], r"`protocols\[1\].together`: one of the protocols or more, each once"),
        (["correct", {"together": ["float64", "float64"]}], "one of the protocols or more, each once"),
        (["correct", {"together": "float64"}], "a list of protocols is due here, not 'float64'"),
        (["correct", {"train_mode": {"batch": 0}}], "input should be greater than or equal to 1"),
        (["correct", {"together": ["correct"]}], "no `correct` in protocols"),
    ],
)
def test_what_is_wrong_with_protocols_is_told(protocols: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        swept({"architecture": "linear", "members": 3}, protocols)


AUGMENTED = {"architecture": "linear", "members": 3, "pools": 2, "train": {"crop": 1, "mixup": 0.2, "lr": 0.01}}
PLAIN = {"architecture": {"mlp": {"hidden": [8]}}, "members": 3, "pools": 2}
RETRAINED = "linear-digits-shared (shared_transform)"


def test_every_switch_of_the_training_is_tried() -> None:
    assert {"shared_transform", "published_warmup"} == OF_RECIPES


def test_members_that_are_trained_otherwise_keep_their_seeds() -> None:
    alone = make_plan(swept(AUGMENTED, "correct"))
    plan = make_plan(swept(AUGMENTED, ["correct", "shared_transform", "published_warmup"]))
    assert [pool.id for pool in plan.pools][:2] == [pool.id for pool in alone.pools]
    correct, other = plan.pools[:2], plan.pools[2:4]
    assert {pool.population.name for pool in other} == {RETRAINED}
    for mine, its in zip(correct, other, strict=True):
        trained_so = [[*([pool.start] if pool.start else []), *pool.members] for pool in (mine, its)]
        assert [(m.init_seed, m.order_seed) for m in trained_so[0]] == [
            (m.init_seed, m.order_seed) for m in trained_so[1]
        ]
        assert not {m.id for m in trained_so[0]} & {m.id for m in trained_so[1]}
        assert its.population.recipe == mine.population.recipe.model_copy(update={"crop": 0, "mixup": 0.0})
    assert len({member.id for member in plan.members}) == len(plan.members) == 18


def test_what_is_trained_otherwise_has_every_candidate_under_its_protocol_alone() -> None:
    written = ["correct", "train_mode", "shared_transform", {"together": ["shared_transform", "greedy_variant"]}]
    plan, alone = make_plan(swept(AUGMENTED, written)), make_plan(swept(AUGMENTED, ["correct", "train_mode"]))
    assert {c.id for c in alone.candidates} == {
        c.id for c in plan.candidates if plan.pool_of[c.pool_id].population.name != RETRAINED
    }
    own = [c for c in plan.candidates if plan.pool_of[c.pool_id].population.name == RETRAINED]
    counts = {name: sum(c.protocol.name == name for c in own) for name in {c.protocol.name for c in own}}
    correct = sum(c.protocol.name == "correct" for c in plan.candidates)
    assert counts == {"shared_transform": correct, "greedy_variant+shared_transform": correct}


def test_a_training_that_a_switch_leaves_as_it_is_makes_no_population() -> None:
    assert len(make_plan(swept(PLAIN, ["correct", "shared_transform"])).pools) == 2
    plan = make_plan(swept(PLAIN, ["correct", {"together": ["shared_transform", "train_mode"]}]))
    assert len(plan.pools) == 2
    assert {each.protocol.name for each in plan.candidates} == {"correct", "shared_transform+train_mode"}
    both = ["correct", "published_warmup", {"together": ["shared_transform", "published_warmup"]}]
    names_of = {pool.population.name for pool in make_plan(swept(PLAIN, both)).pools}
    assert names_of == {"mlp-digits-shared", "mlp-digits-shared (published_warmup)"}


def test_a_sweep_that_trains_otherwise_is_written_so_that_it_loads_again() -> None:
    sweep = swept(AUGMENTED, ["correct", {"together": ["shared_transform", "published_warmup"]}])
    again = check(Document("f.yaml", sweep.written))
    assert again.written == sweep.written
    assert [population.name for population in sweep.populations] == [
        "linear-digits-shared",
        "linear-digits-shared (published_warmup+shared_transform)",
    ]
    assert [c.id for c in make_plan(again).candidates] == [c.id for c in make_plan(sweep).candidates]


def test_the_published_warmup_ends_at_twice_the_rate_and_stays_there() -> None:
    recipe = Recipe(lr=0.01, epochs=60, schedule="multistep", milestones=(20, 40), gamma=0.2, warmup=1)
    other = Recipe(**find("protocols", "published_warmup").function(recipe.model_dump()))
    expected = {0.5: 0.005, 1.0: 0.01, 1.5: 0.015, 2.0: 0.02, 19.9: 0.02, 20.5: 0.004, 59.0: 0.0008}
    for progress, rate in expected.items():
        assert learning_rate(other, progress, 60) == pytest.approx(rate)
    short = Recipe(**find("protocols", "published_warmup").function(Recipe(epochs=1).model_dump()))
    assert short.warmup == 1


@pytest.mark.ray
@pytest.mark.slow
def test_a_real_run_holds_every_protocol(tmp_path: Path) -> None:
    from sweep.driver import run
    from sweep.store import RunFolder

    population = AUGMENTED | {"pools": 1, "train": {"crop": 1, "epochs": 1}}
    execution = {"storage": str(tmp_path), "mlflow": False, "workers": 1}
    protocols = ["correct", "train_mode", "shared_transform"]
    sweep = swept(population, protocols, ["uniform_soup", "logit_average"], execution=execution)
    state = run(sweep)
    rows = RunFolder(sweep.folder).read("candidates").to_pylist()
    assert {(row["population"], row["protocol"], row["status"]) for row in rows} == {
        ("linear-digits-shared", "correct", "ok"),
        ("linear-digits-shared", "train_mode", "ok"),
        (RETRAINED, "shared_transform", "ok"),
    }
    assert len(rows) == len(state.plan.candidates) == 3 * (3 + 2 * 4)
    accuracy = {
        key: row["accuracy"] for row in rows if row["n_members"] == 3 for key in [(row["protocol"], row["method"])]
    }
    for method in ("uniform_soup", "logit_average"):
        assert accuracy["correct", method] == accuracy["train_mode", method], "nothing is drawn or normalised here"
        assert accuracy["correct", method] != accuracy["shared_transform", method]


@pytest.mark.parametrize("name", ["scale_buffers", "greedy_variant", *sorted(OF_RECIPES)])
def test_switches_of_choices_leave_what_they_are_given(name: str) -> None:
    switch = find("protocols", name).function
    for given in ({"magnify": {"factor": 2.0, "members": "all", "tensors": "parameters"}}, {"greedy_soup": {}}):
        recipe = Recipe(crop=1, flip=True).model_dump()
        before = copy.deepcopy((given, recipe))
        if name in OF_RECIPES:
            assert set(switch(recipe)) == set(recipe)
        else:
            assert len(switch(given)) == 1
        assert (given, recipe) == before


def test_only_what_all_parameters_are_scaled_by_is_widened_to_buffers() -> None:
    switch = find("protocols", "scale_buffers").function
    head = {"magnify": {"factor": 2.0, "members": "all", "tensors": "head"}}
    assert switch(head) == head
    assert switch({"none": {}}) == {"none": {}}

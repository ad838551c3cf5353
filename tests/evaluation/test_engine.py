"""The engine against plain computations: members, soups, ensembles and scaled members."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sweep.execution.local import merged_model
from sweep.model.layout import make_layout, unflatten_state_dict
from sweep.model.split import to_device
from sweep.plugins.methods.greedy_soup import greedy_soup
from tests.helpers.engine import trained
from tests.helpers.plain_loop import BIAS_FREE, CNN, LINEAR, assert_scores, plain_logits, plain_mean, row


@pytest.mark.parametrize("architecture", [CNN, LINEAR, BIAS_FREE])
def test_soups_and_members_are_what_a_plain_loop_gives(architecture: str) -> None:
    pool = trained(architecture)
    for index in range(3):
        assert_scores(row(pool, "single", index), *plain_logits(pool, pool.states[index]))
    for subset in ((0, 1), (0, 2), (0, 1, 2)):
        mean = plain_mean([pool.states[index] for index in subset])
        assert_scores(row(pool, "uniform_soup", *subset), *plain_logits(pool, mean))


def test_ensembles_are_what_a_plain_loop_gives() -> None:
    pool = trained(CNN)
    each = [plain_logits(pool, state)[0] for state in pool.states]
    labels = pool.test_split()[1]
    assert_scores(row(pool, "logit_average", 0, 1, 2), torch.stack(each).mean(0), labels)
    probabilities = torch.stack([logits.softmax(1) for logits in each]).mean(0)
    assert_scores(row(pool, "probability_average", 0, 1, 2), probabilities.log(), labels)


@pytest.mark.parametrize("head", ["first", "average"])
def test_feature_averages_are_what_a_plain_loop_gives(head: str) -> None:
    pool = trained(CNN)
    images, labels = pool.test_split()
    features = []
    for state in pool.states:
        model = pool.model(state)
        model.fc2 = torch.nn.Identity()
        with torch.no_grad():
            features.append(model(images))
    heads = [pool.states[0]] if head == "first" else list(pool.states)
    mean = plain_mean([{name: state[name] for name in ("fc2.weight", "fc2.bias")} for state in heads])
    logits = torch.stack(features).mean(0) @ mean["fc2.weight"].T + mean["fc2.bias"]
    assert_scores(row(pool, "feature_average", 0, 1, 2, head=head), logits, labels)


def test_greedy_soup_is_what_a_plain_search_gives() -> None:
    pool = trained(CNN)
    layout = make_layout(pool.model(), 10)
    matrix = torch.tensor(pool.weights().matrix[:3])
    validation = pool.dataset.splits["validation"]
    split = pool.engine().split("validation")

    @torch.no_grad()
    def score(weights: Tensor) -> float:
        logits = pool.model(unflatten_state_dict(weights, layout, {}))(split.normalize(split.images))
        return float((logits.argmax(1).numpy() == validation.labels).mean())

    merged = unflatten_state_dict(greedy_soup(matrix, score).as_subclass(Tensor), layout, {})
    assert_scores(row(pool, "greedy_soup", 0, 1, 2), *plain_logits(pool, merged))


@pytest.mark.parametrize("members", ["all", "first", "last", "all_but_first", "all_but_last"])
def test_magnified_soups_are_what_a_plain_loop_gives(members: str) -> None:
    pool = trained(CNN)
    chosen = {"all": (0, 1, 2), "first": (0,), "last": (2,), "all_but_first": (1, 2), "all_but_last": (0, 1)}[members]
    scaled = [
        {name: tensor * 3 if index in chosen else tensor for name, tensor in state.items()}
        for index, state in enumerate(pool.states)
    ]
    scaling = f"{{magnify: {{factor: 3, members: {members}}}}}"
    assert_scores(row(pool, "uniform_soup", 0, 1, 2, scaling=scaling), *plain_logits(pool, plain_mean(scaled)))
    logits = torch.stack([plain_logits(pool, state)[0] for state in scaled]).mean(0)
    assert_scores(row(pool, "logit_average", 0, 1, 2, scaling=scaling), logits, pool.test_split()[1])


def test_a_linear_network_averages_alike_in_all_spaces() -> None:
    pool = trained(LINEAR)
    rows = [row(pool, "uniform_soup", 0, 1, 2), row(pool, "logit_average", 0, 1, 2)]
    rows.append(row(pool, "feature_average", 0, 1, 2, head="average"))
    for metric in ("accuracy", "cross_entropy", "brier", "ece"):
        values = [each[metric] for each in rows]
        assert max(values) - min(values) <= 1e-6, metric


@pytest.mark.parametrize("factor", [0.01, 0.5, 7, 1000])
def test_a_bias_free_relu_network_keeps_its_predictions_at_any_scale(factor: float) -> None:
    pool = trained(BIAS_FREE)
    scaling = f"{{magnify: {{factor: {factor}}}}}"
    for method, subset in (("single", (0,)), ("uniform_soup", (0, 1, 2)), ("logit_average", (0, 1))):
        assert row(pool, method, *subset, scaling=scaling)["accuracy"] == row(pool, method, *subset)["accuracy"]


@pytest.mark.parametrize("factor", [0.1, 3, 20])
def test_a_homogeneous_scaling_keeps_predictions_of_a_relu_network_with_biases(factor: float) -> None:
    pool = trained("{mlp: {hidden: [24, 24], dropout: 0}}")
    scaling = f"{{homogeneous: {{factor: {factor}}}}}"
    for method, subset in (("single", (0,)), ("logit_average", (0, 1)), ("uniform_soup", (0, 1, 2))):
        assert row(pool, method, *subset, scaling=scaling)["accuracy"] == row(pool, method, *subset)["accuracy"]
    magnified = row(pool, "single", 0, scaling=f"{{magnify: {{factor: {factor}, tensors: weights}}}}")
    assert magnified["cross_entropy"] != row(pool, "single", 0, scaling=scaling)["cross_entropy"]


def test_noise_is_a_members_own_in_every_subset_and_space() -> None:
    pool = trained(CNN)
    scaling = "{noise: {sigma: 0.3}}"
    engine = pool.engine()
    states = []
    for index in range(3):
        merged_model(engine, pool.candidate("single", index, scaling=scaling))
        states.append(unflatten_state_dict(engine.flat_weights.clone(), engine.layout, {}))
        assert not torch.equal(states[-1]["conv1.weight"], pool.states[index]["conv1.weight"])
    logits = torch.stack([plain_logits(pool, state)[0] for state in states[1:]]).mean(0)
    labels = pool.test_split()[1]
    assert_scores(row(pool, "logit_average", 1, 2, scaling=scaling), logits, labels)
    assert_scores(row(pool, "uniform_soup", 0, 1, 2, scaling=scaling), *plain_logits(pool, plain_mean(states)))
    assert row(pool, "single", 0, scaling="{noise: {sigma: 0.3, draw: 1}}")["cross_entropy"] != pytest.approx(
        row(pool, "single", 0, scaling=scaling)["cross_entropy"], abs=1e-6
    )


@pytest.mark.parametrize("space", ["logits", "features"])
def test_a_greedy_ensemble_is_what_a_plain_loop_gives(space: str) -> None:
    pool = trained(CNN)
    split = to_device(pool.dataset, "validation", torch.device("cpu"))
    images = split.normalize(split.images)
    labels = split.labels

    def accuracy(state: dict[str, Tensor]) -> float:
        with torch.no_grad():
            return float((pool.model(state)(images).argmax(1) == labels).double().mean())

    soup = pool.states[0]
    accepted = [0]
    best = accuracy(soup)
    for j in (1, 2):
        trial = {name: (soup[name] * j + pool.states[j][name]) / (j + 1) for name in soup}
        if (found := accuracy(trial)) > best:
            soup = trial
            best = found
            accepted.append(j)
    kind = "logit_average" if space == "logits" else "feature_average"
    settings = {} if space == "logits" else {"head": "average"}
    expected = row(pool, kind, *accepted, **settings) if len(accepted) > 1 else row(pool, "single", 0)
    found_row = row(pool, "greedy_ensemble", 0, 1, 2, space=space)
    assert found_row["space"] == space
    assert found_row["accuracy"] == expected["accuracy"]
    assert found_row["cross_entropy"] == pytest.approx(expected["cross_entropy"], abs=1e-6)

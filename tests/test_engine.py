"""The engine against plain computations: a state dict, a model, a loop."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from engine import Trained, trained
from torch import Tensor

from sweep.evaluate import to_device
from sweep.methods.greedy_soup import greedy_soup
from sweep.models import differences, layout_of, to_state
from sweep.pools import bench_of, model_of
from sweep.task import Evaluator

CNN, LINEAR = "{cnn: {width: 4}}", "linear"
BIAS_FREE = "{mlp: {hidden: [24, 24], bias: false, dropout: 0}}"


def row(
    pool: Trained, method: str, *subset: int, batch: int = 256, scaling: str = "none", **settings: Any
) -> dict[str, Any]:
    outcome, _ = pool.evaluator(batch).candidate(pool.candidate(method, *subset, scaling=scaling, **settings), "test")
    assert outcome["status"] == "ok", outcome["error"]
    return outcome


def plain_mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


@torch.no_grad()
def plain_logits(pool: Trained, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    images, labels = pool.test_split()
    return pool.model(state)(images), labels


def plain_scores(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    right = float((logits.argmax(1) == labels).float().mean())
    return right, float(torch.nn.functional.cross_entropy(logits.double(), labels))


def assert_scores(outcome: dict[str, Any], logits: Tensor, labels: Tensor) -> None:
    accuracy, cross_entropy = plain_scores(logits, labels)
    assert outcome["accuracy"] == pytest.approx(accuracy, abs=1e-7)
    assert outcome["cross_entropy"] == pytest.approx(cross_entropy, abs=1e-5)


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
    layout = layout_of(pool.model(), 10)
    matrix = torch.tensor(pool.weights().matrix[:3])
    validation = pool.dataset.splits["validation"]
    split = pool.bench().split("validation")

    @torch.no_grad()
    def score(weights: Tensor) -> float:
        logits = pool.model(to_state(weights, layout, {}))(split.normalised(split.images))
        return float((logits.argmax(1).numpy() == validation.labels).mean())

    merged = to_state(greedy_soup(matrix, score).as_subclass(Tensor), layout, {})
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
    bench = pool.bench()
    states = []
    for index in range(3):
        model_of(bench, pool.candidate("single", index, scaling=scaling))
        states.append(to_state(bench.row.clone(), bench.layout, {}))
        assert not torch.equal(states[-1]["conv1.weight"], pool.states[index]["conv1.weight"])
    logits, labels = torch.stack([plain_logits(pool, state)[0] for state in states[1:]]).mean(0), pool.test_split()[1]
    assert_scores(row(pool, "logit_average", 1, 2, scaling=scaling), logits, labels)
    assert_scores(row(pool, "uniform_soup", 0, 1, 2, scaling=scaling), *plain_logits(pool, plain_mean(states)))
    assert row(pool, "single", 0, scaling="{noise: {sigma: 0.3, draw: 1}}")["cross_entropy"] != pytest.approx(
        row(pool, "single", 0, scaling=scaling)["cross_entropy"], abs=1e-6
    )


@pytest.mark.parametrize("space", ["logits", "features"])
def test_a_greedy_ensemble_is_what_a_plain_loop_gives(space: str) -> None:
    pool = trained(CNN)
    split = to_device(pool.dataset, "validation", torch.device("cpu"))
    images, labels = split.normalised(split.images), split.labels

    def accuracy(state: dict[str, Tensor]) -> float:
        with torch.no_grad():
            return float((pool.model(state)(images).argmax(1) == labels).double().mean())

    soup, accepted = pool.states[0], [0]
    best = accuracy(soup)
    for j in (1, 2):
        trial = {name: (soup[name] * j + pool.states[j][name]) / (j + 1) for name in soup}
        if (found := accuracy(trial)) > best:
            soup, best, accepted = trial, found, [*accepted, j]
    kind = "logit_average" if space == "logits" else "feature_average"
    settings = {} if space == "logits" else {"head": "average"}
    expected = row(pool, kind, *accepted, **settings) if len(accepted) > 1 else row(pool, "single", 0)
    found_row = row(pool, "greedy_ensemble", 0, 1, 2, space=space)
    assert found_row["space"] == space
    assert found_row["accuracy"] == expected["accuracy"]
    assert found_row["cross_entropy"] == pytest.approx(expected["cross_entropy"], abs=1e-6)


@pytest.mark.parametrize(
    "method", ["uniform_soup", "greedy_soup", "logit_average", "probability_average", "feature_average"]
)
def test_a_subset_of_one_is_the_member(method: str) -> None:
    pool = trained(CNN)
    merged, alone = row(pool, method, 1), row(pool, "single", 1)
    assert merged["accuracy"] == alone["accuracy"]
    assert merged["cross_entropy"] == pytest.approx(alone["cross_entropy"], abs=1e-6)


def test_two_copies_of_one_member_merge_to_its_bits() -> None:
    pool = trained(CNN)
    twice = Trained(pool.plan, pool.pool, pool.dataset, (pool.states[1], pool.states[1], pool.states[2]), pool.start)
    bench = twice.bench()
    merged = model_of(bench, twice.candidate("uniform_soup", 0, 1)).state_dict()
    assert all(torch.equal(merged[name], tensor) for name, tensor in pool.states[1].items())


def test_batch_size_changes_no_prediction() -> None:
    pool = trained(CNN)
    for method, subset in (("single", (0,)), ("uniform_soup", (0, 1, 2)), ("feature_average", (0, 1))):
        one, many = (row(pool, method, *subset, batch=size) for size in (1, 64))
        assert one["accuracy"] == many["accuracy"]
        assert one["cross_entropy"] == pytest.approx(many["cross_entropy"], abs=1e-6)


def test_the_members_are_never_written_to() -> None:
    """Torch would write through to memory that all workers share."""
    pool = trained(CNN)
    weights = pool.weights()
    before = hashlib.sha256(weights.matrix.tobytes()).hexdigest()
    weights.matrix.flags.writeable = False
    evaluator = Evaluator(bench_of(pool.pool, weights, pool.dataset, "cpu", 256), pool.pool, "test", ("accuracy",))
    assert evaluator.bench.matrix.data_ptr() == weights.matrix.ctypes.data, "shared, not copied"
    evaluator.block([(candidate, ("test", "validation")) for candidate in pool.plan.candidates])
    assert hashlib.sha256(weights.matrix.tobytes()).hexdigest() == before


def test_equal_weights_are_evaluated_once() -> None:
    pool = trained(CNN)
    evaluator = pool.evaluator()
    work = [(candidate, ("test",)) for candidate in pool.plan.candidates]
    first, second = evaluator.block(work), evaluator.block(work)
    n = len(pool.dataset.splits["test"])
    # 3 members, 3 pairs and 1 triple over the test set, members once more with features; the search over validation.
    assert sum(r["forward_passes"] for r in first.candidates) <= n * (7 + 3) + 7 * len(
        pool.dataset.splits["validation"]
    )
    assert second.cost["forward_passes"] == 0
    same = ("candidate_id", "accuracy", "cross_entropy", "brier", "ece")
    assert [[r[key] for key in same] for r in first.candidates] == [[r[key] for key in same] for r in second.candidates]


def test_outputs_that_overflow_are_a_status_and_not_an_accuracy() -> None:
    pool = trained(CNN)
    outcome, prediction = pool.evaluator().candidate(
        pool.candidate("single", 0, scaling="{magnify: {factor: 1.0e+12}}"), "test"
    )
    assert (outcome["status"], outcome["finite"]) == ("non_finite", False)
    assert outcome.get("accuracy") is None
    assert "finite outputs" in outcome["error"]
    assert prediction is not None


def test_a_fault_of_one_candidate_is_its_own_row() -> None:
    pool = trained(CNN)
    bad = pool.candidate("uniform_soup", 0, 1, scaling="{magnify: {tensors: nothing.*}}")
    rows = pool.evaluator().block([(bad, ("test",)), (pool.candidate("single", 0), ("test",))])
    assert [each["status"] for each in rows.candidates] == ["failed", "ok"]
    assert rows.candidates[0]["error"] == "ValueError: magnify: no tensor matches `nothing.*`"


def test_predictions_hold_what_the_metrics_count() -> None:
    pool = trained(CNN)
    outcome, prediction = pool.evaluator().candidate(pool.candidate("uniform_soup", 0, 1), "test")
    assert prediction is not None
    bits = np.unpackbits(np.frombuffer(prediction["correct"], dtype=np.uint8))[: outcome["n_examples"]]
    classes = np.frombuffer(prediction["classes"], dtype=np.uint8)
    assert bits.mean() == outcome["accuracy"]
    assert np.array_equal(bits.astype(bool), classes == pool.dataset.splits["test"].labels)


def test_probabilities_are_kept_where_they_are_asked_for() -> None:
    pool = trained(CNN)
    asking = dataclasses.replace(pool.evaluator(), probabilities=True)
    candidate = pool.candidate("probability_average", 0, 1)
    outcome, prediction = asking.candidate(candidate, "test")
    _, without = pool.evaluator().candidate(candidate, "test")
    assert prediction is not None
    assert without == {key: prediction[key] for key in prediction if key not in ("labels", "log_probabilities")}
    labels = np.frombuffer(prediction["labels"], dtype=np.uint8)
    assert np.array_equal(labels, pool.dataset.splits["test"].labels)
    log_p = np.frombuffer(prediction["log_probabilities"], dtype="<f2").reshape(len(labels), 10).astype(float)
    each = [plain_logits(pool, state)[0].double().softmax(1).numpy() for state in pool.states[:2]]
    np.testing.assert_allclose(log_p, np.log(np.mean(each, axis=0)), rtol=1e-3, atol=1e-6)
    assert -log_p[np.arange(len(labels)), labels].mean() == pytest.approx(outcome["cross_entropy"], rel=1e-3)


def test_probabilities_beyond_half_precision_are_its_ends_and_lost_outputs_have_none() -> None:
    pool = trained(CNN)
    asking = dataclasses.replace(pool.evaluator(), probabilities=True)
    outcome, sharp = asking.candidate(pool.candidate("single", 0, scaling="{magnify: {factor: 100}}"), "test")
    assert sharp is not None
    log_p = np.frombuffer(sharp["log_probabilities"], dtype="<f2")
    assert outcome["status"] == "ok"
    assert (log_p.min(), log_p.max()) == (np.finfo(np.float16).min, 0)
    _, lost = asking.candidate(pool.candidate("single", 0, scaling="{magnify: {factor: 1.0e+12}}"), "test")
    assert lost is not None
    assert "log_probabilities" not in lost


def test_a_checkpoint_of_another_architecture_is_told_by_its_first_differences() -> None:
    pool = trained(CNN)
    layout = layout_of(pool.model(), 10)
    state = dict(pool.states[0])
    state["conv9.weight"] = state.pop("conv1.weight")
    state["fc2.bias"] = state["fc2.bias"][:5]
    state["extra"] = torch.zeros(1)
    assert differences(state, layout) == [
        "`conv1.weight` is missing",
        "`conv9.weight` is unknown",
        "`extra` is unknown",
        "`fc2.bias` has shape (5,) instead of (10,)",
    ]
    other = Trained(pool.plan, pool.pool, pool.dataset, (state, *pool.states[1:]), pool.start)
    with pytest.raises(ValueError, match=r"`conv1.weight` is missing; .* \(and 1 more\)$"):
        other.weights()

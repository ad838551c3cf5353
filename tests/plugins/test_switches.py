"""Every switch of the protocol against a loop in plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sweep.core.ids import canonical_json
from sweep.evaluation.switches import ProtocolContext
from sweep.model.layout import flatten_state_dict, make_layout, unflatten_state_dict
from sweep.plugins.methods.greedy_soup import greedy_soup
from tests.helpers.audits import METHODS, NORMED, VIT, measured, row, swept
from tests.helpers.engine import Trained, trained
from tests.helpers.plain_loop import BIAS_FREE, CNN, assert_scores, plain_mean


def floats(states: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The states without their counters."""
    return [{name: tensor for name, tensor in state.items() if tensor.is_floating_point()} for state in states]


def normalised_by_batch(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """A forward pass of `mlp_bn` with the statistics of this very batch."""
    hidden = images.flatten(1)
    for linear, norm in (("layers.0", "layers.1"), ("layers.4", "layers.5")):
        hidden = hidden @ state[f"{linear}.weight"].T + state[f"{linear}.bias"]
        scale = state[f"{norm}.weight"]
        shift = state[f"{norm}.bias"]
        hidden = functional.batch_norm(hidden, None, None, scale, shift, training=True).relu()
    return hidden @ state["layers.8.weight"].T + state["layers.8.bias"]


@pytest.mark.parametrize("size", [64, 2, 358])
def test_train_mode_normalises_by_the_batches_of_the_test_set(size: int) -> None:
    pool = trained(NORMED)
    images, labels = pool.test_split()
    *chunks, last = images.split(size)
    if len(last) == 1:  # nothing can be normalised by a lone image
        last = torch.cat([chunks[-1], last])
        chunks = chunks[:-1]
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
    bench = pool.engine()
    layout = make_layout(pool.model(), 10)
    split = bench.split("validation")

    @torch.no_grad()
    def score(weights: Tensor) -> float:
        logits = pool.model(unflatten_state_dict(weights, layout, counters(pool)))(split.normalize(split.images))
        return float((logits.argmax(1) == split.labels).double().mean())

    matrix = torch.stack([flatten_state_dict(state, layout) for state in pool.states])
    merged = unflatten_state_dict(greedy_soup(matrix, score).as_subclass(Tensor), layout, {})
    images, labels = pool.test_split()
    expected = torch.cat([normalised_by_batch(merged, chunk) for chunk in images.split(64)])
    assert_scores(row(pool, "train_mode", "greedy_soup", 0, 1, 2), expected, labels)


def counters(pool: Trained) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in pool.states[0].items() if not tensor.is_floating_point()}


def test_dropout_at_test_is_drawn_by_what_is_evaluated() -> None:
    pool = trained(CNN)
    plain = row(pool, "correct", "single", 0)
    dropped = row(pool, "train_mode", "single", 0)
    assert dropped["cross_entropy"] > plain["cross_entropy"]
    for batch in (1, 256):  # the run's own batch has no part in it
        assert row(pool, "train_mode", "single", 0, batch=batch)["cross_entropy"] == dropped["cross_entropy"]
    again = {"combined": ["train_mode", "overlapping_validation"]}
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
    bench = pool.engine()
    (switch,) = switches("wrong_normalisation")
    for split in ("test", "validation"):
        assert float(bench.split(split, ProtocolContext((switch,))).std) == pytest.approx(
            255 * pool.dataset.std[0] * 1.327
        )


def switches(*protocol: Any) -> tuple[Any, ...]:
    written = {"combined": list(protocol)} if len(protocol) > 1 else protocol[0]
    return swept({"architecture": "linear", "members": 3}, ["correct", written]).grids[0].protocols[1].switches


def test_overlapping_validation_is_drawn_from_what_was_trained_on() -> None:
    pool = trained(CNN)
    other = ProtocolContext(switches("overlapping_validation"), "another pool")
    bench = pool.engine()
    mine = ProtocolContext(switches("overlapping_validation"), pool.pool.id)
    split = bench.split("validation", mine)
    validation = bench.split("validation")
    train = torch.tensor(pool.dataset.splits["train"].images)
    assert len(split.labels) == len(validation.labels)
    images = split.images[:]
    trained_on = {image.numpy().tobytes() for image in train}
    overlap = sum(image.numpy().tobytes() in trained_on for image in images) / len(images)
    assert overlap == pytest.approx(len(train) / (len(train) + len(validation.labels)), abs=0.08)
    assert not torch.equal(images, pool.engine().split("validation", other).images[:])
    layout = make_layout(pool.model(), 10)

    @torch.no_grad()
    def score(weights: Tensor) -> float:
        logits = pool.model(unflatten_state_dict(weights, layout, {}))(split.normalize(images))
        return float((logits.argmax(1) == split.labels).double().mean())

    matrix = torch.stack([flatten_state_dict(state, layout) for state in pool.states])
    model = pool.model(unflatten_state_dict(greedy_soup(matrix, score).as_subclass(Tensor), layout, {}))
    inputs, labels = pool.test_split()
    with torch.no_grad():
        assert_scores(row(pool, "overlapping_validation", "greedy_soup", 0, 1, 2), model(inputs), labels)


def test_features_of_a_transformer_skip_the_final_norm() -> None:
    pool = trained(VIT)
    images, labels = pool.test_split()
    features: list[Tensor] = []
    for state in pool.states[:2]:
        model: Any = pool.model(state)
        seen: list[Tensor] = []
        model.blocks[-1].register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out[:, 0]))
        with torch.no_grad():
            model(images)
        features.append(seen[0])
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
    pool = trained(NORMED)
    scaling = {"magnify": {"factor": 3, "members": "first"}}
    scaled = [
        {name: tensor * 3 if index == 0 and tensor.is_floating_point() else tensor for name, tensor in state.items()}
        for index, state in enumerate(pool.states)
    ]
    model = pool.model({**pool.states[0], **plain_mean(floats(scaled))})
    images, labels = pool.test_split()
    with torch.no_grad():
        found = row(pool, "scale_buffers", "uniform_soup", 0, 1, 2, scalings=[scaling])
        assert_scores(found, model(images), labels)
    assert found["scaling_settings"] == canonical_json({"factor": 3, "members": "first", "tensors": "parameters"})
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
    pool = trained(BIAS_FREE)
    huge = [{"magnify": {"factor": 1e14}}]
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
    together = {"combined": ["wrong_normalisation", {"train_mode": {"batch": 90}}, {"float64": {"examples": 200}}]}
    state = {name: tensor.double() for name, tensor in plain_mean(floats(pool.states)).items()}
    logits = torch.cat([normalised_by_batch(state, chunk.double()) for chunk in images[:200].split(90)])
    found = row(pool, together, "uniform_soup", 0, 1, 2)
    assert_scores(found, logits, pool.test_split()[1][:200])
    assert found["protocol"] == "float64 (examples=200)+train_mode (batch=90)+wrong_normalisation"

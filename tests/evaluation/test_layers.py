"""Rows of `layers` against numpy and scipy on the same tensors."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sweep.evaluation import layers as module
from sweep.evaluation.block import BlockRunner
from sweep.evaluation.layers import histogram, moment_columns
from sweep.plan.work import InspectedModel, InspectionWork
from sweep.storage.rows import BlockRows
from tests.helpers.engine import Trained, trained

CNN = "{cnn: {width: 4}}"


def looked_into(pool: Trained, *models: InspectedModel, table: str = "layers") -> BlockRows:
    """The rows of some models, as a block gives them."""
    evaluator = BlockRunner(pool.engine(), pool.pool, "test", ("accuracy",))
    return evaluator.run(InspectionWork([(model, (table,)) for model in models]))


def member(pool: Trained, index: int) -> InspectedModel:
    return InspectedModel(pool.pool.id, pool.pool.members[index].id, (index,))


def soup(pool: Trained, *subset: int, method: str = "uniform_soup") -> InspectedModel:
    merge = pool.candidate(method, *subset)
    return InspectedModel(pool.pool.id, merge.id, subset, merge)


@pytest.mark.parametrize("entries", ["gaussian", "skewed", "few", "two"])
def test_shapes_are_those_of_numpy_and_scipy(entries: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 700)  # so that pieces are put together
    random = np.random.default_rng(3)
    drawn = {
        "gaussian": random.normal(2, 3, 5000),
        "skewed": random.exponential(1, 2001),
        "few": random.normal(0, 1, 7),
    }
    tensor = drawn.get(entries, np.array([1.0, -2.0])).astype(np.float32)
    double = tensor.astype(float)
    found = moment_columns(tensor)
    expected = {"mean": double.mean(), "std": double.std(), "norm": np.linalg.norm(double)}
    expected |= {"skewness": stats.skew(double), "kurtosis": stats.kurtosis(double)}
    expected["qq_correlation"] = stats.probplot(double)[1][2]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("tensor", [[3.0], [1.0, 1.0, 1.0]])
def test_a_tensor_without_spread_has_no_shape(tensor: list[float]) -> None:
    found = moment_columns(np.array(tensor, np.float32))
    assert (found["mean"], found["std"]) == (tensor[0], 0.0)
    assert found["skewness"] is found["kurtosis"] is found["qq_correlation"] is None


def test_what_is_not_finite_has_no_numbers() -> None:
    with np.errstate(invalid="ignore"):
        assert set(moment_columns(np.array([1.0, np.nan, 2.0], np.float32)).values()) == {None}


def test_a_histogram_holds_every_entry_once() -> None:
    tensor = np.random.default_rng(0).standard_t(2, 10_000).astype(np.float32)
    mean = float(tensor.mean(dtype=float))
    std = float(tensor.std(dtype=float))
    found = histogram(tensor, mean, std)
    edges = np.linspace(-4, 4, 81)
    edges[0] = -np.inf
    edges[-1] = np.inf
    expected = np.histogram((tensor.astype(float) - mean) / std, edges)[0] / len(tensor)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert found.sum() == pytest.approx(1)


def test_every_learnable_tensor_of_a_member_has_a_row() -> None:
    pool = trained(CNN)
    rows = looked_into(pool, member(pool, 1)).layers
    state = pool.states[1]
    parameters = dict(pool.model().named_parameters())
    assert [row["tensor"] for row in rows] == list(parameters)
    assert [row["depth"] for row in rows] == list(range(len(rows)))
    for row in rows:
        tensor = state[row["tensor"]].double().numpy().ravel()
        assert row["shape"] == "x".join(map(str, parameters[row["tensor"]].shape))
        assert (row["n_elements"], row["member_correlation"]) == (tensor.size, None)
        assert row["norm"] == pytest.approx(np.linalg.norm(tensor), rel=1e-6)
        assert row["role"] == row["tensor"].rpartition(".")[2]
    about = {"kind": "member", "method": "single", "n_members": 1, "alignment": "none", "repair": "none"}
    assert {key: rows[0][key] for key in about} == about
    assert rows[0]["model_id"] == rows[0]["members"][0] == pool.pool.members[1].id


def test_norms_of_batch_norm_have_their_own_roles() -> None:
    pool = trained("{mlp_bn: {hidden: [8], dropout: 0}}")
    roles = {row["tensor"]: row["role"] for row in looked_into(pool, member(pool, 0)).layers}
    assert roles["layers.1.weight"] == "norm weight"
    assert roles["layers.1.bias"] == "norm bias"
    assert "layers.1.running_mean" not in roles


def test_a_soup_is_described_by_its_own_entries_and_its_members_correlation() -> None:
    pool = trained(CNN, "scratch")
    rows = {row["tensor"]: row for row in looked_into(pool, soup(pool, 0, 1, 2)).layers}
    for name, row in rows.items():
        tensors = [state[name].double().numpy().ravel() for state in pool.states]
        mean = np.mean(tensors, axis=0)
        assert row["std"] == pytest.approx(mean.std(), rel=1e-5)
        assert row["kurtosis"] == pytest.approx(stats.kurtosis(mean), rel=1e-3, abs=1e-4)
        pairs = [np.corrcoef(tensors[a], tensors[b])[0, 1] for a, b in itertools.combinations(range(3), 2)]
        assert row["member_correlation"] == pytest.approx(np.mean(pairs), rel=1e-5, abs=1e-7)
    first = rows["conv1.weight"]
    assert (first["kind"], first["n_members"], first["member_indices"]) == ("merge", 3, [0, 1, 2])


def test_pictures_are_kept_of_the_first_member_and_of_merges_from_it_on() -> None:
    pool = trained(CNN)
    models = [member(pool, 0), member(pool, 1), soup(pool, 0, 1), soup(pool, 0, 2)]
    first = [row for row in looked_into(pool, *models).layers if row["depth"] == 0]
    assert ["filters" in row for row in first] == ["histogram" in row for row in first] == [True, False, True, False]
    filters = np.frombuffer(first[0]["filters"], "<f4").reshape(4, 1, 3, 3)
    np.testing.assert_array_equal(filters, pool.states[0]["conv1.weight"].numpy())
    assert first[0]["filter_shape"] == "1x3x3"
    others = dataclasses.replace(pool, pool=dataclasses.replace(pool.pool, index=1))
    assert not any("histogram" in row for row in looked_into(others, member(pool, 0)).layers)


@pytest.mark.parametrize(
    ("architecture", "shape"), [("{mlp: {hidden: [40], dropout: 0}}", "1x8x8"), ("{linear: {}}", None)]
)
def test_rows_over_all_pixels_are_pictures_and_those_of_a_linear_classifier_are_templates(
    architecture: str, shape: str | None
) -> None:
    pool = trained(architecture, "scratch")
    (row,) = (row for row in looked_into(pool, member(pool, 0)).layers if row["depth"] == 0)
    assert row.get("filter_shape") == shape
    assert len(row.get("filters", b"")) == (32 * 64 * 4 if shape else 0)  # no more than 32 of the 40


def test_a_model_that_cannot_be_made_leaves_the_others() -> None:
    pool = trained(CNN)
    merge = pool.candidate("uniform_soup", 0, 1)
    bad = InspectedModel(pool.pool.id, merge.id, (0, 7), merge._replace(subset=(0, 7)))  # there is no eighth member
    rows = looked_into(pool, bad, member(pool, 0))
    assert {row["model_id"] for row in rows.layers} == {pool.pool.members[0].id}


def test_numbers_do_not_depend_on_neighbours() -> None:
    pool = trained(CNN)
    models = [member(pool, 0), soup(pool, 0, 1), soup(pool, 0, 1, method="greedy_soup")]

    def without_time(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in row.items() if key != "created_at"} for row in rows]

    whole = looked_into(pool, *models)
    pieces = BlockRows()
    for model in models:
        pieces.extend(looked_into(pool, model))
    assert without_time(whole.layers) == without_time(pieces.layers)

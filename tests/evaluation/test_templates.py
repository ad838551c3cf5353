"""Rows of `templates` against plain computations on images and weights."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sweep.config.recipe import Recipe
from sweep.evaluation.templates import stationarity_gap
from sweep.model.split import shuffle_labels
from sweep.plan.work import InspectedModel, InspectionWork
from tests.evaluation.test_layers import looked_into, member, soup
from tests.helpers.engine import Trained, trained

LINEAR = "{linear: {}}"
Table = dict[tuple[int, int], dict[str, Any]]


def inspect(pool: Trained, model: InspectedModel) -> Table:
    """The rows of one model by their pair of classes."""
    rows = looked_into(pool, model, table="templates").templates
    return {(row["template_class"], row["mean_class"]): row for row in rows}


def seen(pool: Trained) -> tuple[np.ndarray, np.ndarray]:
    """The training split as a linear classifier sees it, and its labels."""
    split = pool.engine().split("train")
    return split.normalize(split.images[:]).flatten(1).double().numpy(), split.labels.numpy()


def with_recipe(pool: Trained, **settings: Any) -> Trained:
    """The pool as if its population had been trained by another recipe."""
    recipe = Recipe(**{**pool.pool.population.recipe.model_dump(), **settings})
    population = dataclasses.replace(pool.pool.population, recipe=recipe)
    return dataclasses.replace(pool, pool=dataclasses.replace(pool.pool, population=population))


def correlations(templates: np.ndarray, means: np.ndarray) -> np.ndarray:
    """By numpy: all pairs of rows."""
    return np.corrcoef(templates, means)[: len(templates), len(templates) :]


def test_templates_are_rows_of_the_head_against_class_means_of_the_training_split() -> None:
    pool = trained(LINEAR, "scratch")
    images, labels = seen(pool)
    weight = pool.states[1]["1.weight"].double().numpy()
    means = np.stack([images[labels == c].mean(0) for c in range(10)])
    found = inspect(pool, member(pool, 1))
    assert len(found) == 100
    alike = correlations(weight - weight.mean(0), means - means.mean(0))
    raw = correlations(weight, means)
    for (a, b), row in found.items():
        assert row["correlation"] == pytest.approx(alike[a, b], rel=1e-5, abs=1e-6)
        assert row["raw_correlation"] == pytest.approx(raw[a, b], rel=1e-5, abs=1e-6)
    one = found[3, 3]
    assert (one["input"], one["labels"], one["weight_decay"], one["mixup"]) == ("pixels", "true", 5e-4, 0.0)


def test_agreement_is_that_with_the_same_class_of_other_members() -> None:
    pool = trained(LINEAR, "scratch")
    heads = [state["1.weight"].double().numpy() for state in pool.states]
    heads = [head - head.mean(0) for head in heads]
    found = inspect(pool, member(pool, 1))
    expected = [np.mean([np.corrcoef(heads[1][c], heads[other][c])[0, 1] for other in (0, 2)]) for c in range(10)]
    assert [found[c, c]["agreement"] for c in range(10)] == pytest.approx(expected, rel=1e-5)
    merged = (heads[0] + heads[2]) / 2
    expected = [np.mean([np.corrcoef(merged[c], heads[other][c])[0, 1] for other in (0, 2)]) for c in range(10)]
    found = inspect(pool, soup(pool, 0, 2))
    assert [found[c, c]["agreement"] for c in range(10)] == pytest.approx(expected, rel=1e-5)
    assert "agreement" not in found[0, 1]


def gradient(pool: Trained, state: dict[str, torch.Tensor]) -> np.ndarray:
    """Of mean cross-entropy in the head's weight, by autograd in double precision."""
    model = pool.model(state).double()
    split = pool.engine().split("train")
    loss = nn.functional.cross_entropy(model(split.normalize(split.images[:]).double()), split.labels)
    weight = [module for module in model.modules() if isinstance(module, nn.Linear)][-1].weight
    (found,) = torch.autograd.grad(loss, weight)
    return found.numpy()


@pytest.mark.parametrize("architecture", [LINEAR, "{mlp: {hidden: [16], dropout: 0}}"])
def test_the_stationarity_gap_follows_from_the_gradient(architecture: str) -> None:
    pool = with_recipe(trained(architecture, "scratch"), weight_decay=0.1)
    pull = -gradient(pool, pool.states[0])
    weight = [module for module in pool.model(pool.states[0]).modules() if isinstance(module, nn.Linear)][-1].weight
    decayed = 0.1 * weight.detach().double().numpy()
    norm = np.linalg.norm
    expected = norm(decayed - pull, axis=1) / (norm(decayed, axis=1) + norm(pull, axis=1))
    found = inspect(pool, member(pool, 0))
    assert [found[c, c]["stationarity_gap"] for c in range(10)] == pytest.approx(expected, rel=1e-3)


def test_where_the_loss_rests_templates_are_sums_of_images() -> None:
    pool = with_recipe(trained(LINEAR, "scratch"), weight_decay=0.1)
    model = pool.model().double()
    split = pool.engine().split("train")
    images = split.normalize(split.images[:]).double()
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(images), split.labels) + 0.05 * model[1].weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    rested = {name: tensor.float() for name, tensor in model.state_dict().items()}
    found = inspect(dataclasses.replace(pool, states=(rested, *pool.states[1:])), member(pool, 0))
    assert max(found[c, c]["stationarity_gap"] for c in range(10)) < 1e-4
    assert min(found[c, c]["correlation"] for c in range(10)) > 0.9


def test_the_gap_is_one_where_only_one_side_acts() -> None:
    weight = np.ones((2, 3))
    pull = np.array([[1.0, 2, 3], [-0.1, -0.1, -0.1]])
    assert stationarity_gap(weight, pull, 0.0).tolist() == [1.0, 1.0]
    assert stationarity_gap(weight, pull, 0.1)[1] == pytest.approx(1.0)  # they pull the same way
    assert stationarity_gap(pull, pull, 1.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("settings", [{"mixup": 0.2}, {"label_smoothing": 0.1}, {"crop": 1}, {"optimizer": "adamw"}])
def test_another_loss_has_no_such_identity(settings: dict[str, Any]) -> None:
    pool = with_recipe(trained(LINEAR, "scratch"), **settings)
    assert inspect(pool, member(pool, 0))[0, 0]["stationarity_gap"] is None


def test_shuffled_labels_are_the_same_for_a_pool_and_have_their_own_means() -> None:
    pool = with_recipe(trained(LINEAR, "scratch"), shuffle_labels=True)
    split = pool.engine().split("train")
    one, again, other = (shuffle_labels(split, name).labels for name in (pool.pool.id, pool.pool.id, "another"))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(one.sort().values, split.labels.sort().values)
    assert (one == split.labels).float().mean() < 0.2
    images, _ = seen(pool)
    means = np.stack([images[one.numpy() == c].mean(0) for c in range(10)])
    weight = pool.states[0]["1.weight"].double().numpy()
    alike = correlations(weight - weight.mean(0), means - means.mean(0))
    found = inspect(pool, member(pool, 0))
    assert [found[c, c]["correlation"] for c in range(10)] == pytest.approx(np.diag(alike), rel=1e-4)
    assert found[0, 0]["labels"] == "shuffled"


@cache
def cnn() -> Trained:
    return trained("{cnn: {width: 4}}")


def test_deep_networks_are_read_before_the_head() -> None:
    pool = cnn()
    captured = []
    model = pool.model(pool.states[0])
    split = pool.engine().split("train")
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    head.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0].double().numpy()))
    with torch.no_grad():
        model(split.normalize(split.images[:]))
    means = np.stack([captured[0][split.labels.numpy() == c].mean(0) for c in range(10)])
    weight = head.weight.detach().double().numpy()
    alike = correlations(weight - weight.mean(0), means - means.mean(0))
    found = inspect(pool, member(pool, 0))
    assert [found[a, b]["correlation"] for a, b in sorted(found)] == pytest.approx(alike.ravel().tolist(), abs=1e-5)
    assert found[0, 0]["input"] == "features"
    assert "template" not in found[0, 0]


def test_pictures_are_those_of_the_first_member_and_of_merges_from_it_on() -> None:
    pool = trained(LINEAR, "scratch")
    assert not any("template" in row for row in inspect(pool, member(pool, 1)).values())
    found = inspect(pool, soup(pool, 0, 1))
    assert {pair for pair, row in found.items() if "template" in row} == {(c, c) for c in range(10)}
    weight = np.mean([state["1.weight"].double().numpy() for state in pool.states[:2]], axis=0)
    picture = np.frombuffer(found[4, 4]["template"], "<f4")
    np.testing.assert_allclose(picture, (weight - weight.mean(0))[4], atol=1e-6)
    assert (picture.size, found[4, 4]["channels"]) == (64, 1)


def test_a_head_that_reads_more_than_one_row_of_an_image_has_no_templates() -> None:
    pool = cnn()
    evaluator = pool.evaluator()
    evaluator.engine.model = nn.Sequential(nn.Flatten(2), Tokens(evaluator.engine.head))
    rows = evaluator.run(InspectionWork([(member(pool, 0), ("templates",))])).templates
    assert {row["correlation"] for row in rows} == {None}


class Tokens(nn.Module):
    """A head that is put on four copies of nothing."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.zeros(len(images), 4, self.head.in_features)).mean(1)
        return logits

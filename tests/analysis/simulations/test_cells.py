"""How often a claim over several cells gets a general verdict that is wrong, for effects that differ between cells."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from analysis.inference.estimate import Question, equivalence_p, unit_mean
from analysis.inference.finding import Expected
from analysis.report.claim_cells import DEPENDS, Cell, CellAnswers, join
from analysis.report.claims import DIFFERENT, EQUIVALENT, REFUTED, SUPPORTED, claim_verdict

pytestmark = pytest.mark.slow
TIMES = 200
MARGIN = 0.5
LEVEL = 0.05
MOST = 0.05 + 3 * math.sqrt(0.05 * 0.95 / TIMES)
QUESTION = Question("difference", "pool", 0.0, MARGIN)


@pytest.fixture(
    scope="module", params=[(2, 5), (2, 12), (6, 5), (6, 12)], ids=lambda size: "{} cells of {}".format(*size)
)
def noise(request: pytest.FixtureRequest) -> np.ndarray:
    """Standard normal differences of pools, (TIMES, cells, pools)."""
    return np.random.default_rng(request.param).normal(0, 1, (TIMES, *request.param))


def cell(number: int, values: np.ndarray) -> Cell:
    """A cell with these pools, on a data set of its own."""
    one = unit_mean(values, QUESTION)
    within = equivalence_p(one.estimate, one.se, one.df, MARGIN)
    assert within is not None
    settings = {"dataset": str(number), "architecture": "cnn", "start": "shared"}
    return Cell(settings, (str(number),), str(number), one, within)


def studies(noise: np.ndarray, effects: np.ndarray, spread: float, expected: Expected) -> list[CellAnswers]:
    """The answers of all studies with these true effects of the cells."""
    judge = partial(claim_verdict, expected=expected)
    found = []
    for values in effects[None, :, None] + spread * noise:
        cells = [cell(number, pools) for number, pools in enumerate(values)]
        found.append(join(cells, unit_mean(values.ravel(), QUESTION), judge, LEVEL))
    return found


def share(found: list[CellAnswers], *verdicts: str, scope: str = "") -> float:
    return sum(one.verdict in verdicts and one.scope.startswith(scope) for one in found) / len(found)


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_cells_of_which_one_is_not_equivalent_are_hardly_ever_equivalent(noise: np.ndarray, spread: float) -> None:
    effects = np.zeros(noise.shape[1])
    effects[0] = MARGIN
    assert share(studies(noise, effects, spread, "zero"), SUPPORTED) <= MOST
    assert share(studies(noise, effects, spread, "above"), EQUIVALENT) <= MOST


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_a_direction_is_hardly_ever_found_in_each_cell_if_half_of_them_have_no_effect(
    noise: np.ndarray, spread: float
) -> None:
    effects = np.repeat([0.0, 2.0], noise.shape[1] // 2)
    assert share(studies(noise, effects, spread, "above"), SUPPORTED, scope="in each") <= MOST


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_no_average_effect_hardly_ever_has_a_direction(noise: np.ndarray, apart: float) -> None:
    effects = np.repeat([-apart, apart], noise.shape[1] // 2)
    assert share(studies(noise, effects, 1.0, "above"), SUPPORTED, REFUTED) <= MOST
    assert share(studies(noise, effects, 1.0, "zero"), DIFFERENT, REFUTED) <= MOST


@pytest.mark.parametrize("apart", [0.0, 0.3])
def test_equality_is_hardly_ever_refuted_by_an_average_effect_of_the_margin(noise: np.ndarray, apart: float) -> None:
    # Half of the cells have effects within the margin.
    effects = MARGIN + np.repeat([-apart, apart], noise.shape[1] // 2)
    assert share(studies(noise, effects, 0.5, "zero"), REFUTED) <= MOST


@pytest.mark.parametrize("effect", [0.0, MARGIN, 1.0])
def test_equal_cells_hardly_ever_depend_on_anything(noise: np.ndarray, effect: float) -> None:
    found = studies(noise, np.full(noise.shape[1], effect), 1.0, "above")
    assert (
        share(found, DEPENDS) <= 0.01 + MOST
    )  # two tests: that cells differ, and that two verdicts exclude each other


def test_clear_cells_have_the_verdict_that_is_true(noise: np.ndarray) -> None:
    half = noise.shape[1] // 2
    assert share(studies(noise, np.full(2 * half, 2.0), 0.3, "above"), SUPPORTED) >= 0.9
    assert share(studies(noise, np.zeros(2 * half), 0.1, "zero"), SUPPORTED) >= 0.9
    assert share(studies(noise, np.repeat([-2.0, 2.0], half), 0.3, "zero"), DEPENDS) == 1.0

"""Claims on scale: sides of factor 1 are judged apart, and factors at which nothing is left to lose are left out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.claims.soups_resist_an_outlier import soups_resist_an_outlier
from analysis.core.errors import NothingToDrawError
from analysis.report.advice import advice
from analysis.report.claim_cells import DEPENDS
from analysis.report.claims import Answer, answers, remark
from analysis.rows.run import Run
from tests.helpers import rows

CLAIM = "soups_resist_an_outlier"
LEVEL = 0.9
NOISE = np.array([0.003, -0.002, 0.001, -0.001, 0.002, -0.003, 0.0015, -0.0015])
Falls = Mapping[float, float]


def pair(pool: int, soup: Falls, ensemble: Falls, **own: Any) -> list[dict[str, Any]]:
    """A soup and an ensemble of two whose first member is multiplied; what each loses at each factor."""
    made = []
    for method, falls in (("uniform_soup", soup), ("logit_average", ensemble)):
        space = "weights" if method == "uniform_soup" else "logits"
        about = {"space": space, **own}
        made.append(rows.candidate(pool, (0, 1), method, accuracy=LEVEL, **about))
        for factor, fall in falls.items():
            scaling = {"scaling": "magnify", "scaling_factor": factor, "scaling_members": "first"}
            settings = f'{{"factor": {factor}, "members": "first"}}'
            noise = NOISE[pool] * (method == "uniform_soup") * (fall < 0.8)
            value = {"accuracy": LEVEL - fall + noise, "scaling_settings": settings}
            made.append(rows.candidate(pool, (0, 1), method, **scaling, **value, **about))
    return made


def study(soup: Falls, ensemble: Falls, **own: Any) -> list[dict[str, Any]]:
    return [row for pool in range(8) for row in pair(pool, soup, ensemble, **own)]


def asked(made: list[dict[str, Any]]) -> Answer:
    run = Run(Path("runs/made"), {}, "", {"candidates": rows.frame(made), "members": rows.frame([], "members")})
    return next(one for one in answers(run) if one.name == CLAIM)


def test_opposite_effects_below_and_above_1_are_not_averaged() -> None:
    found = asked(study({0.5: 0.3, 2.0: 0.1}, {0.5: 0.1, 2.0: 0.3}))
    assert found.verdict == DEPENDS
    assert found.by_cell is not None
    assert found.by_cell.depends == ("side",)
    assert found.by_cell.scope.startswith("factors below 1 above zero; factors above 1 below zero (mlp on digits")
    assert found.finding is not None
    parts = {name: one.estimate.estimate for name, one in found.finding.parts.items()}
    assert parts == pytest.approx({"factors below 1": 0.1 / 0.8, "factors above 1": -0.1 / 0.8}, abs=1e-3)


def test_effects_of_one_sign_on_both_sides_are_one_answer() -> None:
    assert asked(study({0.5: 0.1, 2.0: 0.1}, {0.5: 0.2, 2.0: 0.3})).verdict == "supported"


def test_sides_are_judged_apart_in_each_population() -> None:
    """Two networks, in each of which the sides cancel."""
    one = study({0.5: 0.3, 2.0: 0.1}, {0.5: 0.1, 2.0: 0.3}, population="a", architecture="vit")
    other = study({0.5: 0.1, 2.0: 0.1}, {0.5: 0.1, 2.0: 0.1}, population="b", architecture="cnn")
    found = asked(one + other)
    assert found.verdict == DEPENDS
    assert found.by_cell is not None
    assert "factors below 1 in vit on digits, shared start above zero" in found.by_cell.scope


def sides(below: np.ndarray, above: np.ndarray) -> list[dict[str, Any]]:
    """Pools in which a soup loses this much more than the ensemble at half and at twice the weights of a member."""
    falls = zip(below.tolist(), above.tolist(), strict=True)
    each = [pair(pool, {0.5: 0.4 + a, 2.0: 0.4 + b}, {0.5: 0.4, 2.0: 0.4}) for pool, (a, b) in enumerate(falls)]
    return [row for rows_of_pool in each for row in rows_of_pool]


def test_equivalence_needs_both_sides() -> None:
    """What a pool loses more below 1 it loses less above 1, so that the mean over both hardly varies."""
    found = asked(sides(60 * NOISE, -60 * NOISE))
    assert found.verdict == "inconclusive"
    assert remark(found) == "within the margin on average, which is not shown for each of the 2 sides"
    assert found.finding is not None
    more = "More pools would show whether it holds for each of them, or on what it depends"
    assert advice(None, found.finding.estimate, found.by_cell) == more
    assert asked(sides(0 * NOISE, 0 * NOISE)).verdict == "equivalent"


def test_a_sign_needs_both_sides() -> None:
    """On one side nothing is lost: the sign of the mean is that of the other side alone."""
    found = asked(sides(0 * NOISE, 0.3 + 8 * NOISE))
    assert found.verdict == DEPENDS  # one side within the margin, the other beyond it
    found = asked(sides(60 * NOISE, 0.15 + 8 * NOISE))
    assert found.verdict == "inconclusive"
    assert remark(found) == "different from zero on average, which is not shown for each of the 2 sides"
    found = asked(sides(0.07 - 8 * NOISE, 0.07 + 8 * NOISE))
    assert found.verdict == "refuted"
    assert remark(found) == "by an amount that may not matter"


def test_factors_at_which_both_are_at_chance_are_left_out() -> None:
    """At 100 nothing is left of either: this is no evidence that they lose alike."""
    near = study({2.0: 0.1, 10.0: 0.3}, {2.0: 0.3, 10.0: 0.6})
    far = study({2.0: 0.1, 10.0: 0.3, 100.0: 0.8}, {2.0: 0.3, 10.0: 0.6, 100.0: 0.8})
    alone = soups_resist_an_outlier(rows.frame(near)).estimate
    found = soups_resist_an_outlier(rows.frame(far)).estimate
    assert found.estimate == alone.estimate
    assert "(factors 1, 2, 10)" in found.estimand
    assert found.warnings[0] == ("both are at chance at a factor of 100 in people, 2 members: the range ends before it")
    one_alive = study({2.0: 0.1, 100.0: 0.3}, {2.0: 0.3, 100.0: 0.8})
    assert "(factors 1, 2, 100)" in soups_resist_an_outlier(rows.frame(one_alive)).estimate.estimand
    with pytest.raises(NothingToDrawError, match="both are at chance at a factor of 100"):
        soups_resist_an_outlier(rows.frame(study({100.0: 0.8}, {100.0: 0.8})))


def test_without_unscaled_rows_nothing_is_measured() -> None:
    """The factor next to 1 must not stand for it."""
    made = study({0.25: 0.3, 0.5: 0.1, 2.0: 0.1, 4.0: 0.3}, {0.25: 0.2, 0.5: 0.1, 2.0: 0.1, 4.0: 0.2})
    scaled = [row for row in made if row["scaling"] != "none"]
    with pytest.raises(NothingToDrawError, match="no rows without a scaling"):
        soups_resist_an_outlier(rows.frame(scaled))


def test_a_side_that_is_left_out_is_named() -> None:
    """The ensemble was not multiplied by 2."""
    made = study({0.5: 0.1, 2.0: 0.1}, {0.5: 0.2})
    found = soups_resist_an_outlier(rows.frame(made))
    assert not found.parts
    texts = found.estimate.warnings
    assert any(text.startswith("factors above 1 are left out in people, 2 members: ") for text in texts)


def test_soup_and_ensemble_of_one_linear_layer_are_not_compared() -> None:
    made = rows.frame(study({0.5: 0.1, 2.0: 0.1}, {0.5: 0.1, 2.0: 0.1}, architecture="linear"))
    with pytest.raises(NothingToDrawError, match="`uniform_soup` and `logit_average` are the same function"):
        soups_resist_an_outlier(made)

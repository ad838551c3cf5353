"""Families of correlated claims: how often any is wrongly found, power against Holm's, and simultaneous intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import stdtr

from analysis.inference.max_t import FEWEST, critical_t, flipped_t, stepwise_p
from analysis.inference.verdict import adjust_p_values

pytestmark = pytest.mark.slow
TIMES = 1500
CLAIMS = 6
LEVEL = 0.05
MOST = 0.055 + 2 * (LEVEL * (1 - LEVEL) / TIMES) ** 0.5


class Family:
    """TIMES studies of CLAIMS effects, the first half of size `effect`, with correlation `alike` between claims."""

    def __init__(self, pools: int, alike: float, effect: float) -> None:
        random = np.random.default_rng(int(100 * alike) + pools)
        shape = (TIMES, pools)
        common = random.normal(0, 1, (*shape, 1))
        own = random.normal(0, 1, (*shape, CLAIMS))
        self.truth = np.where(np.arange(CLAIMS) < CLAIMS // 2, effect, 0.0)
        values = np.sqrt(alike) * common + np.sqrt(1 - alike) * own + self.truth
        self.means = values.mean(axis=1)
        self.errors = values.std(axis=1, ddof=1) / np.sqrt(pools)
        populations = np.zeros(pools, dtype=int)
        self.t = np.abs(self.means / self.errors)
        flips = [flipped_t(one, populations, np.ones((1, CLAIMS))) for one in values]
        self.max_t = np.array([stepwise_p(t, one) for t, one in zip(self.t, flips, strict=True)])
        self.critical = np.array([critical_t(one) for one in flips])
        p_values = 2 * stdtr(pools - 1, -self.t)
        self.holm = np.array([adjust_p_values(p, "holm") for p in p_values])


@pytest.fixture(scope="module", params=[(FEWEST, 0.9), (FEWEST, 0.5), (10, 0.9), (10, 0.0)], ids=str)
def setting(request: pytest.FixtureRequest) -> tuple[int, float]:
    pools, alike = request.param
    return int(pools), float(alike)


def test_without_effects_hardly_any_family_has_a_finding(setting: tuple[int, float]) -> None:
    family = Family(*setting, effect=0.0)
    assert (family.max_t <= LEVEL).any(axis=1).mean() <= MOST


def test_beside_true_effects_hardly_any_false_one_is_found(setting: tuple[int, float]) -> None:
    family = Family(*setting, effect=1.2)
    false = family.max_t[:, CLAIMS // 2 :]
    assert (false <= LEVEL).any(axis=1).mean() <= MOST
    inside = np.abs(family.means - family.truth) <= family.critical[:, None] * family.errors
    assert inside.all(axis=1).mean() >= 1 - MOST


def test_correlated_effects_are_found_more_often_than_by_holm(setting: tuple[int, float]) -> None:
    pools, alike = setting
    family = Family(pools, alike, effect=1.3)
    true = slice(CLAIMS // 2)
    gain = (family.max_t[:, true] <= LEVEL).mean() - (family.holm[:, true] <= LEVEL).mean()
    assert gain > (0.05 if alike == 0.9 else -0.03)

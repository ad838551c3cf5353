"""Settings of methods that cannot work are refused before anything is trained."""

from __future__ import annotations

import pytest

from sweep.config.document import ConfigError, parse
from sweep.config.loader import check
from sweep.config.spec import Sweep
from sweep.status.preflight import check_networks, datasets

SWEEP = """
name: t
dataset: {digits: {size: 8}}
populations: [{architecture: {mlp: {hidden: [4]}}, members: 3}]
subsets: {sizes: [2, 3]}
methods: METHOD
"""


def swept(method: str) -> Sweep:
    found = check(parse(SWEEP.replace("METHOD", method), "f.yaml"))
    check_networks(found, datasets(found))
    return found


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("{della: {density: 0.1}}", "expected epsilon < density ≤ 1 - epsilon, got density 0.1, epsilon 0.15"),
        ("{della: {density: [0.5, 0.95]}}", "got density 0.95, epsilon 0.15"),
        ("{weighted_soup: {weights: [[1, 2, 3]]}}", "expected 3 weights|expected 2 weights, one per member, got 3"),
        ("{weighted_soup: {tensors: {'nope*': [1, 0]}}}", "expected 3 weights|no tensor matches `nope"),
        ("{weighted_soup: {tensors: {'*': [1, 2], '*weight': [2, 1]}}}", "both match"),
    ],
)
def test_settings_that_cannot_merge_are_one_located_error(method: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        swept(method)
    assert all(issue.path[-2:][0] in ("methods", "grids") or "methods" in issue.path for issue in caught.value.issues)


def test_settings_that_can_are_accepted() -> None:
    assert swept("{della: {density: 0.5, epsilon: [0, 0.4]}}")
    assert swept("[weighted_soup, {weighted_soup: {weights: []}}]")

"""Overrides are typed and reach every population; a mistake in one names it."""

from __future__ import annotations

import pytest

from sweep.config.document import ConfigError
from tests.helpers.texts import ANCHORS_HINT, KNOWN, checked, text


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "train.epochs=x",
            "`populations[0].train.epochs`: expected a whole number, got 'x'",
        ),
        ("trian.epochs=2", f"`trian`: unknown key\n  hint: {KNOWN}{ANCHORS_HINT}"),
        ("dataset={digits: {size: 0}}", "`dataset.digits.size`: expected 1 or more, got 0"),
        ("dataset.digits.sze=8", "`dataset.digits.sze`: unknown key\n  hint: did you mean `size`?"),
        ("populations.0=3", "`populations[0]`: expected a mapping, got 3"),
        ("name.x=3", '`name`: expected text, got {"t": {}, "x": 3}'),
        ("seed=1.5", "`seed`: expected a whole number, got 1.5"),
        (
            "execution.workers=0",
            "`execution.workers`: expected `auto` or 1 or more, got 0",
        ),
        (
            "subsets.sizes.0=9",
            "`subsets.sizes[0]`: subsets of 9 members, but `linear-digits-shared` has 4\n"
            "  hint: take smaller subsets, or members: 9",
        ),
    ],
)
def test_mistakes_in_overrides_name_the_override(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        checked(text(), assignment)
    assert str(raised.value) == f"override {assignment}: {message}"


def test_overrides_reach_every_population_and_are_typed() -> None:
    written = (
        "name: t\nsubsets: {sizes: [2]}\npopulations: [{architecture: mlp}, {architecture: cnn, train: {lr: 0.1}}]"
    )
    sweep = checked(written, "train.epochs=2", "members=3", "dataset.digits.size=8", "name=other", "train.lr=1e-3")
    assert [(p.recipe.epochs, p.members, p.recipe.lr) for p in sweep.populations] == [(2, 3, 0.001)] * 2
    assert [p.dataset.settings["size"] for p in sweep.populations] == [8, 8]
    assert sweep.name == "other"

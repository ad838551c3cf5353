"""Protocols in the plan: where a switch makes candidates, what an id holds, and mistakes that are told."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sweep.config.document import ConfigError, Document
from sweep.config.loader import check
from sweep.config.recipe import Recipe
from sweep.core.ids import canonical_json, content_id
from sweep.core.registry import get_plugin
from sweep.plan.planner import EVALUATION_VERSION, make_plan
from tests.helpers.audits import OF_RECIPES, SWITCHES, swept

MAGNIFY = {"magnify": {"factor": 2}}
EVERY = {"single", "uniform_soup", "greedy_soup", "logit_average", "feature_average"}
ACTS: dict[str, tuple[set[str], set[str]]] = {
    "train_mode": (EVERY, EVERY),
    "wrong_normalisation": (EVERY, EVERY),
    "float64": (EVERY, EVERY),
    "overlapping_validation": ({"greedy_soup"}, {"greedy_soup"}),
    "greedy_variant": ({"greedy_soup"}, {"greedy_soup"}),
    "skip_final_norm": ({"feature_average"}, {"feature_average"}),
    "scale_buffers": (set(), EVERY),
}


def test_every_switch_is_tried() -> None:
    assert set(ACTS) == set(SWITCHES)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_makes_candidates_where_it_acts_alone(name: str) -> None:
    plan = make_plan(swept({"architecture": "linear", "members": 3}, ["correct", name], scalings=["none", MAGNIFY]))
    for scaling, expected in zip(("none", "magnify"), ACTS[name], strict=True):
        own = [each for each in plan.candidates if each.protocol.name == name and each.scaling.name == scaling]
        assert {each.method.name for each in own} == expected
    together = {"combined": [name, "train_mode"]} if name != "train_mode" else {"combined": ["float64", name]}
    both = make_plan(swept({"architecture": "linear", "members": 3}, ["correct", together], scalings=["none", MAGNIFY]))
    audited = [each for each in both.candidates if each.protocol.name != "correct"]
    assert len(audited) * 2 == len(both.candidates)


def test_an_id_holds_the_protocol() -> None:
    plan = make_plan(swept({"architecture": "linear", "members": 3}, ["correct", {"train_mode": {"batch": 2}}]))
    for candidate in plan.candidates:
        audited = [{"name": "train_mode", "settings": {"batch": 2}}]
        content = {
            "alignment": candidate.alignment.id_content,
            "members": [plan.pool_of[candidate.pool_id].members[index].id for index in candidate.subset],
            "method": candidate.method.id_content,
            "protocol": "correct" if candidate.protocol.name == "correct" else audited,
            "repair": candidate.repair.id_content,
            "scaling": candidate.scaling.id_content,
            "version": EVALUATION_VERSION,
        }
        assert candidate.id == content_id("candidate", canonical_json(content))


def test_the_order_and_defaults_of_switches_make_no_other_protocol() -> None:
    ways = (
        {"combined": ["train_mode", "wrong_normalisation"]},
        {"combined": ["wrong_normalisation", {"train_mode": {"batch": 64}}]},
    )
    one, other = (swept({"architecture": "linear", "members": 3}, ["correct", way]) for way in ways)
    assert one.grids[0].protocols == other.grids[0].protocols
    both = swept({"architecture": "linear", "members": 3}, ["correct", *ways, {"combined": ["train_mode"]}])
    assert [each.name for each in both.grids[0].protocols] == [
        "correct",
        "train_mode+wrong_normalisation",
        "train_mode",
    ]


def test_a_sweep_with_protocols_is_written_so_that_it_loads_again() -> None:
    written = ["correct", {"train_mode": {"batch": [2, 64]}}, {"combined": ["float64", "greedy_variant"]}]
    sweep = swept({"architecture": "linear", "members": 3}, written)
    again = check(Document("f.yaml", sweep.to_config))
    assert again.to_config == sweep.to_config
    assert [each.id for each in make_plan(again).candidates] == [each.id for each in make_plan(sweep).candidates]
    assert "protocols" not in swept({"architecture": "linear", "members": 3}, "correct").grids[0].to_config


@pytest.mark.parametrize(
    ("protocols", "message"),
    [
        (["train_mode"], "`protocols`: nothing to compare with\n  hint: add `correct`"),
        ([], "`protocols`: nothing to compare with"),
        (["corect"], r"`protocols\[0\]`: no `corect` in protocols\n  hint: did you mean `correct`\?"),
        (["correct", "trainmode"], "did you mean `train_mode`"),
        (
            ["correct", {"combined": []}],
            r"`protocols\[1\].combined`: expected one or more protocols without repetition",
        ),
        (["correct", {"combined": ["float64", "float64"]}], "expected one or more protocols without repetition"),
        (["correct", {"combined": "float64"}], "expected a list of protocols, got 'float64'"),
        (["correct", {"train_mode": {"batch": 0}}], "expected 1 or more, got 0"),
        (["correct", {"combined": ["correct"]}], "no `correct` in protocols"),
    ],
)
def test_what_is_wrong_with_protocols_is_reported(protocols: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        swept({"architecture": "linear", "members": 3}, protocols)


@pytest.mark.parametrize("name", ["scale_buffers", "greedy_variant", *sorted(OF_RECIPES)])
def test_switches_of_choices_leave_what_they_are_given(name: str) -> None:
    switch = get_plugin("protocols", name).function
    for given in ({"magnify": {"factor": 2.0, "members": "all", "tensors": "parameters"}}, {"greedy_soup": {}}):
        recipe = Recipe(crop=1, flip=True).model_dump()
        before = copy.deepcopy((given, recipe))
        if name in OF_RECIPES:
            assert set(switch(recipe)) == set(recipe)
        else:
            assert len(switch(given)) == 1
        assert (given, recipe) == before


def test_only_what_all_parameters_are_scaled_by_is_widened_to_buffers() -> None:
    switch = get_plugin("protocols", "scale_buffers").function
    head = {"magnify": {"factor": 2.0, "members": "all", "tensors": "head"}}
    assert switch(head) == head
    assert switch({"none": {}}) == {"none": {}}

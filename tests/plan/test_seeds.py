"""By which seeds members begin: crossed seeds, seeds of splits, ids that stay, and all of it written again."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.config.document import ConfigError, Document, override, parse
from sweep.config.loader import _BROADCAST, check
from sweep.config.spec import Sweep, input_key
from sweep.core.ids import content_id, derive_seed
from sweep.plan.planner import make_plan
from sweep.status.inputs import record_inputs
from sweep.status.preflight import datasets
from tests.helpers.start_plans import linear, planned, swept


def assert_written_again(sweep: Sweep) -> None:
    again = check(parse(sweep.to_yaml(), "resolved.yaml"))
    assert (again.id, again.to_config) == (sweep.id, sweep.to_config)
    assert [m.id for m in make_plan(again).members] == [m.id for m in make_plan(sweep).members]


def test_a_resolved_configuration_keeps_heads_and_seeds() -> None:
    tuned = {"vit_tiny": {"pretrained": True}}
    sweep = swept(
        {"architecture": tuned, "start": "pretrained", "new_heads": [True, False], "members": 3},
        linear(members={"init": 2, "order": 2}),
        linear(members=4),
    )
    assert [p.name for p in sweep.populations] == [
        *("vit_tiny-digits-pretrained,own_heads=True", "vit_tiny-digits-pretrained,own_heads=False"),
        *("linear-digits-scratch,crossed=True", "linear-digits-scratch,crossed=False"),
    ]
    assert [p["members"] for p in sweep.to_config["populations"]] == [3, 3, {"init": 2, "order": 2}, 4]
    assert [p.get("new_heads") for p in sweep.to_config["populations"]] == [True, None, None, None]
    assert_written_again(sweep)


def test_overrides_reach_heads_and_seeds() -> None:
    document = Document("f.yaml", {"name": "t", "populations": [linear()], "subsets": {"pairs": "all"}})
    override(document, ["members.init=2", "members.order=3"], _BROADCAST)
    assert check(document).populations[0].members == 6


def test_crossed_members_have_every_initialisation_with_every_order() -> None:
    (pool,) = planned(linear(members={"init": 3, "order": 2})).pools
    assert [member.index for member in pool.members] == list(range(6))
    for member, (init, order) in zip(pool.members, itertools.product(range(3), range(2)), strict=True):
        assert member.init_seed == derive_seed(pool.id, f"init {init}")
        assert member.order_seed == derive_seed(pool.id, f"order {order}")
    assert len({member.id for member in pool.members}) == 6


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.integers(0, 2))
@settings(max_examples=25, deadline=None)
def test_crossings_grow_without_renaming_what_is_there(init: int, order: int, more: int, later: int) -> None:
    small = planned(linear(members={"init": init, "order": order}))
    grown = planned(linear(members={"init": init + more, "order": order + later}))
    assert small.pools[0].id == grown.pools[0].id
    assert {m.id for m in small.members} <= {m.id for m in grown.members}
    assert {c.id for c in small.candidates} <= {c.id for c in grown.candidates}


def test_crossed_members_are_others_than_plain_ones() -> None:
    plain = planned(linear(members=4))
    crossed = planned(linear(members={"init": 2, "order": 2}))
    both = planned(linear(members=4), linear(members={"init": 2, "order": 2}))
    assert not {m.id for m in plain.members} & {m.id for m in crossed.members}
    assert {m.id for m in both.members} == {m.id for m in (*plain.members, *crossed.members)}


def test_orders_of_a_shared_start_share_its_weights() -> None:
    (pool,) = planned({"architecture": "linear", "members": {"order": 3}}).pools
    assert pool.start
    assert {member.init_seed for member in pool.members} == {pool.start.init_seed}
    assert len({member.order_seed for member in pool.members}) == 3


def test_split_seeds_are_a_factor() -> None:
    """A list of seeds of the data set's split makes populations, each with members of its own."""
    plan = planned(linear(dataset={"cifar10": {"root": "data", "split": [0, 1, 2]}}), linear())
    assert [p.dataset.settings.get("split") for p in plan.sweep.populations] == [0, 1, 2, None]
    assert len({member.id for member in plan.members}) == 4 * 10
    three = planned(linear(dataset={"digits": {"seed": [0, 1, 2]}}))
    assert len({member.id for member in three.members}) == 3 * 10


def test_pools_of_a_varied_split_have_data_of_their_own() -> None:
    digits = {"digits": {"size": 8}}
    plan = planned(linear(dataset=digits, pools=3, members=2, vary_split=True))
    assert [pool.population.dataset.settings["split"] for pool in plan.pools] == [0, 1, 2]
    assert [member.population.dataset.settings["split"] for member in plan.members] == [0, 0, 1, 1, 2, 2]
    assert plan.sweep.datasets == [pool.population.dataset for pool in plan.pools]
    assert_written_again(plan.sweep)
    plain = planned(linear(dataset=digits, pools=3, members=2))
    assert not {pool.id for pool in plan.pools} & {pool.id for pool in plain.pools}
    grown = planned(linear(dataset=digits, pools=4, members=3, vary_split=True))
    assert {member.id for member in plan.members} < {member.id for member in grown.members}
    # A data set whose `split` is set begins there, and one without a cut of its own cannot vary it.
    later = planned(linear(dataset={"digits": {"size": 8, "split": 5}}, pools=2, vary_split=True))
    assert [pool.population.dataset.settings["split"] for pool in later.pools] == [5, 6]
    with pytest.raises(
        ConfigError, match="vary_split needs a data set with the setting `split`, which `synthetic` has"
    ):
        planned(linear(dataset="synthetic", pools=2, vary_split=True))


def test_pools_of_a_varied_split_share_their_test_images_alone() -> None:
    plan = planned(linear(dataset={"digits": {"size": 8}}, pools=2, members=2, vary_split=True))
    loaded = datasets(plan.sweep)
    first, second = (loaded[pool.population.dataset].splits for pool in plan.pools)
    assert np.array_equal(first["test"].images, second["test"].images)
    assert not np.array_equal(first["train"].images, second["train"].images)
    recorded = record_inputs(plan.sweep, {})
    assert recorded is not None
    assert set(recorded.datasets) == {input_key(pool.population.dataset) for pool in plan.pools}


def test_a_setting_that_was_added_later_leaves_old_texts_alone() -> None:
    (population,) = swept(linear(dataset={"digits": {"size": 8}})).populations
    assert population.dataset.settings_json == '{"channels":1,"seed":0,"size":8}'
    assert population.dataset.to_config == {"digits": {"size": 8, "channels": 1, "seed": 0}}
    assert "vary_split" not in population.to_config


def test_ids_of_plain_members_are_what_they_were() -> None:
    """Golden: starts, heads and crossed seeds left them alone; another value here trains every member anew."""
    plan = planned(
        {"architecture": {"mlp": {"hidden": [8]}}, "pools": 2, "members": 3, "train": {"epochs": 3, "lr": 0.1}},
        {"architecture": "cnn", "start": "scratch", "dataset": {"digits": {"size": 8}}, "members": 2},
        seed=3,
    )
    message = [[m.id, m.init_seed, m.order_seed] for m in (*plan.starts, *plan.members)]
    assert content_id("test", message) == GOLDEN


GOLDEN = "2413842d26fdd567ddd8f5f6f37ea61f"

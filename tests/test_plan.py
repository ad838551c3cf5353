"""The plan is the same everywhere, grows without renaming what is there, and holds every candidate once."""

from __future__ import annotations

import itertools
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.catalogue import NOTHING_KNOWN, Known, Todo, digits_of, ids_of
from sweep.config import check
from sweep.document import ConfigError, Document
from sweep.grid import Choice
from sweep.identity import canonical, content_id, content_ids, derive_seed, escaped
from sweep.plan import EVALUATION_VERSION, Plan, make_plan
from sweep.recipe import Recipe
from sweep.spec import Execution, Subsets
from sweep.subsets import draw_subsets, subsets

ROOT = Path(__file__).parent.parent

VALUES: dict[str, Any] = {
    "name": "t",
    "dataset": {"digits": {"size": 8}},
    "populations": [
        {"architecture": {"mlp": {"hidden": [8]}}, "pools": 2, "members": 4},
        {"architecture": "linear", "start": "scratch", "pools": 1, "members": 5},
    ],
    "subsets": {"sizes": [2, 3], "per_size": 3, "pairs": 2, "prefixes": [2, 4]},
    "methods": ["uniform_soup", "logit_average", {"interpolation": {"weight": [0, 0.5]}}],
    "scalings": ["none", {"magnify": {"factor": 2}}],
}


def planned(values: dict[str, Any] = VALUES, **more: Any) -> Plan:
    return make_plan(check(Document("f.yaml", values | more)))


def with_population(**more: Any) -> dict[str, Any]:
    """The values with other settings of the first population."""
    first, *rest = VALUES["populations"]
    return VALUES | {"populations": [first | more, *rest]}


def ids(plan: Plan) -> list[str]:
    return [candidate.id for candidate in plan.candidates]


def members(plan: Plan) -> set[str]:
    return {member.id for member in [*plan.starts, *plan.members]}


SCRIPT = """
import json, sys
from sweep.config import check
from sweep.document import parse
from sweep.plan import make_plan
plan = make_plan(check(parse(sys.stdin.read(), "f.yaml")))
seeds = [[m.id, m.init_seed, m.order_seed] for m in plan.starts + plan.members]
print(json.dumps([plan.sweep.id, seeds, [[c.id, c.block] for c in plan.candidates]]))
"""


def shuffled(value: Any) -> Any:
    """The same value, the keys of every mapping the other way round."""
    if isinstance(value, dict):
        return {key: shuffled(item) for key, item in reversed(value.items())}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


def test_ids_are_the_same_in_another_process_and_order_of_keys() -> None:
    plan = planned()
    expected = [
        plan.sweep.id,
        [[m.id, m.init_seed, m.order_seed] for m in plan.starts + plan.members],
        [[c.id, c.block] for c in plan.candidates],
    ]
    for seed, values in (("1", VALUES), ("4242", shuffled(VALUES))):
        found = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            input=json.dumps(values),
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(found.stdout) == expected


EXECUTION: dict[str, st.SearchStrategy[Any]] = {
    "storage": st.just("/elsewhere"),
    "workers": st.integers(1, 99),
    "threads": st.integers(1, 99),
    "gpus_per_member": st.floats(0, 2),
    "gpus_per_worker": st.floats(0, 2),
    "batch": st.integers(1, 999),
    "pool_bytes": st.integers(0, 999),
    "block": st.integers(1, 999),
    "retries": st.integers(0, 9),
    "patience": st.floats(1, 99),
    "checkpoint_seconds": st.floats(0, 99),
    "address": st.just("auto"),
    "probabilities": st.booleans(),
    "mlflow": st.booleans(),
    "best": st.integers(0, 100),
}


def test_every_setting_of_the_execution_is_tried() -> None:
    assert set(EXECUTION) == set(Execution.model_fields)


@given(st.fixed_dictionaries({}, optional=EXECUTION))
@settings(max_examples=40, deadline=None)
def test_how_it_is_carried_out_enters_no_id(execution: dict[str, Any]) -> None:
    plan, other = planned(), planned(execution=execution)
    assert other.sweep.id == plan.sweep.id
    assert members(other) == members(plan)
    assert ids(other) == ids(plan)


def test_neither_names_nor_what_is_measured_enter_ids_of_members_and_candidates() -> None:
    plan = planned()
    for other in (
        planned(name="other"),
        planned(splits=["validation", "test"]),
        planned(metrics=["accuracy"]),
        planned(with_population(name="people")),
    ):
        assert members(other) == members(plan)
        assert ids(other) == ids(plan)


SUBSETS = VALUES["subsets"]
GROWN = {
    "pools": with_population(pools=5),
    "populations": VALUES | {"populations": [{"architecture": "cnn"}, *VALUES["populations"]]},
    "sizes": VALUES | {"subsets": SUBSETS | {"sizes": [3, 4, 2]}},
    "per_size": VALUES | {"subsets": SUBSETS | {"per_size": 5}},
    "prefixes": VALUES | {"subsets": SUBSETS | {"prefixes": [2, 3, 4]}},
    "pairs": VALUES | {"subsets": SUBSETS | {"pairs": 4}},
    "all pairs": VALUES | {"subsets": SUBSETS | {"pairs": "all"}},
    "methods": VALUES | {"methods": ["greedy_soup", *VALUES["methods"]]},
    "scalings": VALUES | {"scalings": [{"magnify": {"factor": [0.5, 2]}}, "none"]},
    "protocols": VALUES | {"protocols": ["train_mode", "correct", {"together": ["train_mode", "scale_buffers"]}]},
    "grids": VALUES | {"grids": [{"methods": "greedy_soup"}, {}]},
}


@pytest.mark.parametrize("what", GROWN)
def test_a_sweep_grows_without_renaming_what_is_there(what: str) -> None:
    plan, grown = planned(), planned(GROWN[what])
    assert members(plan) <= members(grown)
    assert set(ids(plan)) < set(ids(grown))


@given(st.integers(4, 9), st.integers(2, 4))
@settings(max_examples=15, deadline=None)
def test_more_members_rename_none(count: int, pools: int) -> None:
    plan, grown = planned(), planned(with_population(members=count, pools=pools))
    assert members(plan) <= members(grown)
    assert {pool.id for pool in plan.pools} <= {pool.id for pool in grown.pools}
    every = {"subsets": {"pairs": "all", "prefixes": [2, 4]}}
    more = with_population(members=count, pools=pools) | every
    assert set(ids(planned(VALUES | every))) <= set(ids(planned(more)))


OTHER_TRAINING: dict[str, Any] = {
    **{"epochs": 11, "start_epochs": 2, "batch_size": 65, "optimizer": "adamw", "lr": 0.06, "momentum": 0.8},
    **{"weight_decay": 1e-5, "warmup": 1, "schedule": "constant", "gamma": 0.2, "label_smoothing": 0.1, "mixup": 0.2},
    **{"crop": 1, "flip": True, "keep": "best", "clip": 1.0, "ema": 0.9, "precision": "bfloat16"},
    **{"channels_last": True, "compile": True, "shuffle_labels": True, "together": 2},
}
MATTERS: dict[str, dict[str, Any]] = {
    "seed": VALUES | {"seed": 1},
    "architecture": with_population(architecture="cnn"),
    "settings of the architecture": with_population(architecture={"mlp": {"hidden": [9]}}),
    "settings of the data set": with_population(dataset={"digits": {"size": 8, "seed": 1}}),
    "start": with_population(start="scratch"),
    "milestones": with_population(train={"schedule": "multistep", "milestones": [3]}),
    **{f"train.{key}": with_population(train={key: value}) for key, value in OTHER_TRAINING.items()},
}


def test_every_setting_of_the_training_is_tried() -> None:
    assert {*OTHER_TRAINING, "milestones"} == set(Recipe.model_fields)
    assert all(getattr(Recipe(), key) != value for key, value in OTHER_TRAINING.items())


@pytest.mark.parametrize("what", MATTERS)
def test_what_changes_the_weights_changes_the_ids(what: str) -> None:
    plan, other = planned(), planned(MATTERS[what])
    changed = {member.id for pool in plan.pools[:2] for member in pool.members}
    assert not changed & members(other)
    mine = {candidate.id for candidate in plan.candidates if candidate.pool_id in {p.id for p in plan.pools[:2]}}
    assert not mine & set(ids(other))


def test_a_default_written_out_changes_no_id() -> None:
    train = {key: value for key, value in Recipe().model_dump().items() if key != "milestones"}
    written = with_population(
        architecture={"mlp": {"hidden": [8], "bias": True}}, train=train, dataset={"digits": {"size": 8, "channels": 1}}
    )
    assert ids(planned(written)) == ids(planned())


def test_what_lies_in_the_files_changes_the_ids() -> None:
    sweep = check(Document("f.yaml", VALUES))
    dataset = sweep.populations[0].dataset
    plain, one, two = (make_plan(sweep, found) for found in ({}, {dataset: "a"}, {dataset: "b"}))
    assert not members(plain) & members(one)
    assert not members(one) & members(two)


def test_where_files_lie_does_not_change_the_ids() -> None:
    def at(root: str, fingerprint: str) -> Plan:
        dataset = {"imagefolder": {"root": root}}
        sweep = check(Document("f.yaml", VALUES | {"dataset": dataset}))
        return make_plan(sweep, {sweep.populations[0].dataset: fingerprint})

    assert ids(at("/a", "x")) == ids(at("/b", "x"))
    assert not set(ids(at("/a", "x"))) & set(ids(at("/a", "y")))


def test_two_folders_are_two_populations_unless_they_hold_the_same() -> None:
    population = {"architecture": "linear", "dataset": {"imagefolder": {"root": ["/a", "/b"]}}, "members": 3}
    sweep = check(Document("f.yaml", {"name": "t", "populations": [population], "subsets": {"sizes": [2]}}))
    first, second = (p.dataset for p in sweep.populations)
    plan = make_plan(sweep, {first: "x", second: "y"})
    assert len(set(ids(plan))) == len(ids(plan))
    with pytest.raises(ConfigError, match=r"the same population as populations\[0\]: their folders hold the same"):
        make_plan(sweep, {first: "x", second: "x"})


@pytest.mark.parametrize(
    "grid",
    [
        {"methods": {"interpolation": {"weight": 0.25}}},
        {"methods": {"feature_average": {"head": "first"}}},
        {"methods": "uniform_soup", "scalings": {"magnify": {"factor": 3}}},
        {"methods": "uniform_soup", "scalings": {"magnify": {"members": "first"}}},
        {"methods": "uniform_soup", "scalings": {"magnify": {"tensors": "head"}}},
    ],
    ids=str,
)
def test_every_factor_and_setting_makes_another_candidate(grid: dict[str, Any]) -> None:
    base = VALUES | {"scalings": "none", "methods": ["uniform_soup", "feature_average", "interpolation"]}
    base["scalings"] = ["none", "magnify"]
    merges = {candidate.id for candidate in planned(base | grid).candidates if candidate.method.name != "single"}
    assert merges
    assert not merges & set(ids(planned(base)))


def test_an_id_is_the_hash_of_what_the_candidate_is() -> None:
    plan = planned()
    for candidate in plan.candidates:
        pool = plan.pool_of[candidate.pool_id]
        content = {
            "alignment": candidate.alignment.content,
            "members": [pool.members[index].id for index in candidate.subset],
            "method": candidate.method.content,
            "protocol": "correct",
            "repair": candidate.repair.content,
            "scaling": candidate.scaling.content,
            "version": EVALUATION_VERSION,
        }
        assert candidate.id == content_id("candidate", canonical(content))


def test_members_share_what_their_start_says() -> None:
    plan = planned()
    for pool in plan.pools:
        assert (pool.start is None) == (pool.population.start == "scratch")
        assert [member.index for member in pool.members] == list(range(pool.population.members))
        assert len({member.order_seed for member in pool.members}) == len(pool.members)
        if pool.start:
            assert {member.start_id for member in pool.members} == {pool.start.id}
            assert {member.init_seed for member in pool.members} == {pool.start.init_seed}
        else:
            assert len({member.init_seed for member in pool.members}) == len(pool.members)
    assert len({member.id for member in [*plan.starts, *plan.members]}) == len(plan.starts) + len(plan.members)


METHODS = st.lists(st.sampled_from(VALUES["methods"]), min_size=1, unique_by=str)


@given(METHODS, st.integers(1, 200), st.integers(1, 3), st.data())
@settings(max_examples=40, deadline=None)
def test_every_candidate_is_in_one_block_and_keeps_it(
    methods: list[Any], block: int, pools: int, data: st.DataObject
) -> None:
    small = planned(with_population(pools=pools), methods=methods, execution={"block": block})
    assert len(set(ids(small))) == len(ids(small)) > 0
    assert sorted(itertools.chain.from_iterable(small.blocks.values())) == sorted(small.candidates, key=lambda c: c)
    for name, held in small.blocks.items():
        assert name == content_id("block", [candidate.id for candidate in held])
        assert len({candidate.pool_id for candidate in held}) == 1
        assert held.costs[:-1].sum() < block
    kept = data.draw(st.sets(st.sampled_from(small.candidates), max_size=20))
    known = {candidate.id: candidate.block for candidate in kept}
    held = np.arange(len(known), dtype=np.int32)
    told = Known.of(ids_of(list(known)), held, list(known.values())) if known else NOTHING_KNOWN
    grown = make_plan(check(Document("f.yaml", with_population(pools=3))), known=told)
    for candidate in grown.candidates:
        assert known.get(candidate.id, candidate.block) == candidate.block
    assert set(known) <= set(ids(grown))
    new = {candidate.block for candidate in grown.candidates if candidate.id not in known}
    assert not new & set(known.values()) or new <= set(small.blocks)


def test_candidates_are_the_same_however_they_are_looked_at() -> None:
    candidates = planned().candidates
    made = list(candidates)
    assert made == [candidates[index] for index in range(len(candidates))]
    assert (candidates[-1], list(candidates[3:9])) == (made[-1], made[3:9])
    assert candidates.costs.tolist() == [1.0 if candidate.method.space == "weights" else 0.02 for candidate in made]
    soups = candidates.where(lambda factors: factors.method.name == "uniform_soup")
    assert list(soups) == [candidate for candidate in made if candidate.method.name == "uniform_soup"]
    for digits in range(33):
        prefix = made[5].id[:digits]
        assert list(candidates.beginning(prefix)) == [each for each in made if each.id.startswith(prefix)]
    lacking = np.random.default_rng(0).random((len(made), 2)) < 0.5
    todo = Todo(candidates, ("validation", "test"), lacking)
    expected = [(c, tuple(np.array(todo.splits)[own])) for c, own in zip(made, lacking, strict=True)]
    assert list(todo) == pickle.loads(pickle.dumps(todo)) == expected
    assert list(todo[2:7]) == expected[2:7]
    assert [pair for each in todo.by_block().values() for pair in each] == expected


@given(st.text(), st.lists(st.text(), max_size=4), st.text())
def test_many_ids_at_once_are_those_of_each(before: str, middles: list[str], after: str) -> None:
    found = content_ids("candidate", before, [escaped(middle) for middle in middles], after)
    assert found.hex() == "".join(content_id("candidate", before + middle + after) for middle in middles)
    assert digits_of(ids_of([content_id("a", each) for each in middles])).astype(str).tolist() == [
        content_id("a", each) for each in middles
    ]


def test_outputs_are_neither_aligned_nor_repaired() -> None:
    for candidate in planned().candidates:
        if candidate.method.space != "weights" or candidate.method.name == "single":
            assert candidate.alignment.name == "none"
        if candidate.method.entry.arity:
            assert len(candidate.subset) == candidate.method.entry.arity


def test_a_hundred_thousand_candidates_are_planned() -> None:
    values = {
        "name": "many",
        "populations": [{"architecture": "linear", "pools": 10, "members": 30}],
        "subsets": {"sizes": [5], "per_size": 2000},
        "methods": [
            "uniform_soup",
            "logit_average",
            "probability_average",
            {"feature_average": {"head": ["first", "average"]}},
        ],
    }
    plan = planned(values)
    assert len(plan.candidates) == len(set(ids(plan))) == 10 * (5 * 2000 + 30)
    assert sum(map(len, plan.blocks.values())) == len(plan.candidates)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 80), st.integers(0, 80), st.integers())
@settings(max_examples=150, deadline=None)
def test_drawn_subsets(count: int, size: int, draws: int, more: int, seed: int) -> None:
    drawn = draw_subsets(count, size, draws, seed)
    total = math.comb(count, size)
    assert len(set(drawn)) == len(drawn) == min(draws, total)
    for subset in drawn:
        assert len(subset) == size
        assert list(subset) == sorted(set(subset))
        assert set(subset) <= set(range(count))
    assert draw_subsets(count, size, draws + more, seed)[: len(drawn)] == drawn
    if draws >= total:
        assert set(drawn) == set(itertools.combinations(range(count), size))


def test_subsets_of_a_large_pool_are_drawn() -> None:
    drawn = draw_subsets(1000, 500, 3, 0)
    assert len(set(drawn)) == 3
    assert all(len(subset) == 500 for subset in drawn)
    assert draw_subsets(1000, 500, 3, 1) != drawn


def test_subsets_are_drawn_evenly() -> None:
    """Each of the 10 pairs of 5 comes first about as often: 1,000 seeds, five standard deviations."""
    first = [draw_subsets(5, 2, 1, seed)[0] for seed in range(1000)]
    for pair in itertools.combinations(range(5), 2):
        assert abs(first.count(pair) - 100) < 5 * math.sqrt(1000 * 0.1 * 0.9)


@given(
    st.integers(1, 8),
    st.lists(st.integers(1, 8), max_size=4),
    st.just("all") | st.integers(0, 40),
    st.lists(st.integers(1, 8), max_size=3),
    st.integers(1, 30),
)
@settings(max_examples=100, deadline=None)
def test_subsets_hold_pairs_prefixes_and_draws(
    count: int, sizes: list[int], pairs: Any, prefixes: list[int], per_size: int
) -> None:
    sizes, prefixes = ([size for size in each if size <= count] for each in (sizes, prefixes))
    wanted = Subsets(sizes=tuple(sizes), pairs=pairs, prefixes=tuple(prefixes), per_size=per_size)
    found = subsets(wanted, 0, count)
    assert found == sorted(set(found), key=lambda subset: (len(subset), subset))
    assert {tuple(range(size)) for size in prefixes} <= set(found)
    every = math.comb(count, 2)
    of_two = [subset for subset in found if len(subset) == 2]
    if pairs == "all":
        assert len(of_two) == every
    else:
        assert len(of_two) >= min(pairs, every)
    for size in sizes:
        assert sum(len(subset) == size for subset in found) >= min(per_size, math.comb(count, size))
    assert {len(subset) for subset in found} <= {*sizes, *prefixes} | ({2} if pairs else set())


def test_pools_of_one_place_draw_the_same_subsets() -> None:
    first, second = ({**VALUES["populations"][0], "architecture": name} for name in ("mlp", "cnn"))
    plan = planned(VALUES | {"populations": [first, second]})
    drawn = {
        (pool.population.name, pool.index): [c.subset for c in plan.candidates if c.pool_id == pool.id]
        for pool in plan.pools
    }
    names = [population.name for population in plan.sweep.populations]
    for index in range(2):
        assert drawn[names[0], index] == drawn[names[1], index]
    assert drawn[names[0], 0] != drawn[names[0], 1]


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.floats(-1e6, 1e6), max_size=4))
def test_ids_depend_on_content_only(content: dict[str, Any]) -> None:
    backwards = dict(reversed(content.items()))
    as_floats = {k: float(v) if isinstance(v, int) and abs(v) < 2**53 else v for k, v in content.items()}
    assert content_id("a", content) == content_id("a", backwards) == content_id("a", as_floats)
    assert content_id("a", content) != content_id("b", content)
    assert json.loads(canonical(content)).keys() == content.keys()
    assert 0 <= derive_seed("x", canonical(content)) < 2**63


def test_what_is_no_number_has_no_id() -> None:
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical({"a": [value]})


def test_paths_stay_out_of_ids() -> None:
    one, other = (Choice("datasets", "imagefolder", {"root": Path(root), "size": 8}) for root in ("/a", "/b"))
    assert one.content == other.content
    assert one != other

"""What enters an id and what does not: settings, files, places and the order of keys."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.config.document import ConfigError, Document
from sweep.config.loader import check
from sweep.config.recipe import Recipe
from sweep.config.spec import Execution
from sweep.core.choice import PluginConfig
from sweep.core.ids import canonical_json, content_id, content_ids, derive_seed, json_fragment
from sweep.plan.candidates import hex_ids, parse_hex_ids
from sweep.plan.planner import EVALUATION_VERSION, Plan, make_plan
from tests.helpers.plans import VALUES, ids, members, planned, with_population

EXECUTION: dict[str, st.SearchStrategy[Any]] = {
    "storage": st.just("/elsewhere"),
    "workers": st.integers(1, 99),
    "threads": st.integers(1, 99),
    "gpus_per_member": st.floats(0, 2),
    "gpus_per_worker": st.floats(0, 2),
    "eval_batch_size": st.integers(1, 999),
    "mmap_bytes": st.integers(0, 999),
    "block_size": st.integers(1, 999),
    "retries": st.integers(0, 9),
    "straggler_seconds": st.floats(1, 99),
    "wait_seconds": st.floats(1, 99),
    "checkpoint_seconds": st.floats(0, 99),
    "ray_address": st.just("auto"),
    "mixed_nodes": st.booleans(),
    "member_pairs": st.booleans(),
    "probabilities": st.booleans(),
    "mlflow": st.booleans(),
    "mlflow_models": st.integers(0, 100),
}


def test_every_setting_of_the_execution_is_tried() -> None:
    assert set(EXECUTION) == set(Execution.model_fields)


@given(st.fixed_dictionaries({}, optional=EXECUTION))
@settings(max_examples=40, deadline=None)
def test_how_it_is_carried_out_enters_no_id(execution: dict[str, Any]) -> None:
    plan = planned()
    other = planned(execution=execution)
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


OTHER_TRAINING: dict[str, Any] = {
    **{"epochs": 11, "start_epochs": 2, "batch_size": 65, "optimizer": "adamw", "lr": 0.06, "momentum": 0.8},
    **{"weight_decay": 1e-5, "warmup": 1, "schedule": "constant", "gamma": 0.2, "label_smoothing": 0.1, "mixup": 0.2},
    **{"crop": 1, "flip": True, "checkpoint": "best", "clip_grad_norm": 1.0, "ema": 0.9, "precision": "bfloat16"},
    **{"channels_last": True, "compile": True, "shuffle_labels": True, "vmap_members": 2},
    **{"l2_start": 0.1, "freeze": ["head"], "linear_probe_epochs": 1, "swa": {"from": 5}},
    **{"scope": {"target": "fixed", "std": 0.1, "strength": 0.1}},
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
    plan = planned()
    other = planned(MATTERS[what])
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
            "alignment": candidate.alignment.id_content,
            "members": [pool.members[index].id for index in candidate.subset],
            "method": candidate.method.id_content,
            "protocol": "correct",
            "repair": candidate.repair.id_content,
            "scaling": candidate.scaling.id_content,
            "version": EVALUATION_VERSION,
        }
        assert candidate.id == content_id("candidate", canonical_json(content))


@given(st.text(), st.lists(st.text(), max_size=4), st.text())
def test_many_ids_at_once_are_those_of_each(before: str, middles: list[str], after: str) -> None:
    found = content_ids("candidate", before, [json_fragment(middle) for middle in middles], after)
    assert found.hex() == "".join(content_id("candidate", before + middle + after) for middle in middles)
    assert hex_ids(parse_hex_ids([content_id("a", each) for each in middles])).astype(str).tolist() == [
        content_id("a", each) for each in middles
    ]


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.floats(-1e6, 1e6), max_size=4))
def test_ids_depend_on_content_only(content: dict[str, Any]) -> None:
    backwards = dict(reversed(content.items()))
    as_floats = {k: float(v) if isinstance(v, int) and abs(v) < 2**53 else v for k, v in content.items()}
    assert content_id("a", content) == content_id("a", backwards) == content_id("a", as_floats)
    assert content_id("a", content) != content_id("b", content)
    assert json.loads(canonical_json(content)).keys() == content.keys()
    assert 0 <= derive_seed("x", canonical_json(content)) < 2**63


def test_what_is_no_number_has_no_id() -> None:
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical_json({"a": [value]})


def test_paths_stay_out_of_ids() -> None:
    one, other = (PluginConfig("datasets", "imagefolder", {"root": Path(root), "size": 8}) for root in ("/a", "/b"))
    assert one.id_content == other.id_content
    assert one != other

"""A resolved configuration means the same as what was written, whatever that was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.config.document import ConfigError, Document
from sweep.config.loader import check, load
from sweep.config.spec import Sweep
from sweep.core.registry import list_plugins
from sweep.plan.planner import make_plan
from tests.helpers import ROOT
from tests.helpers.texts import again, checked

CONFIGS = sorted(set((ROOT / "configs").rglob("*.yaml")) - set((ROOT / "configs/cluster").iterdir()))


def assert_same(sweep: Sweep) -> None:
    other = again(sweep)
    assert (other.id, other.to_config, other.metrics) == (sweep.id, sweep.to_config, sweep.metrics)
    plan = make_plan(sweep)
    same = make_plan(other)
    assert [member.id for member in same.members] == [member.id for member in plan.members]
    assert [c.id for c in same.candidates] == [c.id for c in plan.candidates]
    assert list(same.blocks) == list(plan.blocks)
    assert other.to_yaml() == sweep.to_yaml()


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_resolved_configuration_means_the_same(file: Path) -> None:
    assert_same(load(file))
    assert file.read_text().startswith(f"# sweep run {file.relative_to(ROOT)}\n"), "the first line runs it"


SHARES = st.floats(0, 0.9) | st.sampled_from([0, 0.1, 1e-5])
RATES = st.floats(1e-8, 10, exclude_min=True)
TRAIN = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(5, 9),
        "momentum": SHARES | st.lists(SHARES, min_size=1, max_size=2),
        "weight_decay": SHARES,
        "warmup": st.floats(0, 4),
        "label_smoothing": st.fixed_dictionaries({"from": SHARES, "to": SHARES, "steps": st.integers(2, 3)}),
        "flip": st.booleans(),
        "checkpoint": st.sampled_from(["last", "best"]),
        "optimizer": st.sampled_from(["sgd", "adamw"]),
        "milestones": st.just([]),
    },
)
ARCHITECTURES = st.sampled_from(["linear", {"linear": {}}, {"cnn": {"width": [2, 4]}}, ["linear", "mlp"]]) | st.builds(
    lambda hidden, bias: {"mlp": {"hidden": hidden, "bias": bias}},
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.booleans(),
)
TRAPS = st.sampled_from(["1e3", "no", "null", "0x10", "1.0", "1_0", "2024-01-01", "1e-5", "007"])
NAMES = TRAPS | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True).filter(str.isascii)
FREE_TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S"), exclude_characters="/"), min_size=1)
METHODS = st.sampled_from(
    [
        *("uniform_soup", "greedy_soup", {"single": {}}, "logit_average", {"feature_average": {"head": "first"}}),
        {"feature_average": {"head": ["average", "first"]}},
        {"interpolation": {"weight": {"from": 0, "to": 1, "steps": 3}}},
        {"interpolation": {"weight": [1 / 3, 1e-5]}},
    ]
)
SCALINGS = st.sampled_from(["none", "magnify"]) | st.builds(
    lambda factor, tensors: {"magnify": {"factor": factor, "tensors": tensors}},
    RATES | st.lists(RATES, min_size=1, max_size=2),
    st.sampled_from(["all", "1e-3", "*", "no", "[a]*", "conv1.*"]),
)
SUBSETS = st.fixed_dictionaries(
    {"pairs": st.just("all") | st.integers(1, 5)},
    optional={
        "sizes": st.lists(st.integers(1, 3), max_size=3),
        "per_size": st.integers(1, 9),
        "prefixes": st.lists(st.integers(1, 3), max_size=2),
        "seed": st.integers(-5, 2**62),
    },
)
GRID = {
    "methods": METHODS | st.lists(METHODS, min_size=1, max_size=3),
    "scalings": SCALINGS | st.lists(SCALINGS, min_size=1, max_size=2),
    "alignments": st.sampled_from(["none", ["none"], {"none": None}]),
}
SWEEPS = st.fixed_dictionaries(
    {
        "name": NAMES,
        "populations": st.lists(
            st.fixed_dictionaries(
                {"architecture": ARCHITECTURES, "train": TRAIN, "members": st.integers(3, 4)},
                optional={
                    "name": TRAPS | FREE_TEXT.filter(lambda name: len(name) <= 100),
                    "pools": st.integers(1, 2),
                    "start": st.sampled_from(["shared", "scratch", ["shared", "scratch"]]),
                    "dataset": st.sampled_from(["digits", {"digits": {"size": [8, 9]}}]),
                },
            ),
            min_size=1,
            max_size=2,
        ),
        "subsets": SUBSETS,
    },
    optional={
        **GRID,
        "seed": st.integers(0, 2**62),
        "splits": st.sampled_from([["test"], ["validation", "test"]]),
        "metrics": st.lists(st.sampled_from(list_plugins("metrics")), min_size=1, max_size=3),
        "grids": st.lists(st.fixed_dictionaries({}, optional={**GRID, "subsets": SUBSETS}), max_size=2).map(
            lambda grids: [*grids, {}]  # which reads what stands at the top
        ),
        "execution": st.fixed_dictionaries({}, optional={"block_size": st.integers(1, 9), "mlflow": st.booleans()}),
    },
)


@given(SWEEPS)
@settings(max_examples=60, deadline=None)
def test_any_resolved_configuration_means_the_same(values: dict[str, Any]) -> None:
    for index, population in enumerate(values["populations"]):
        population["train"]["lr"] = index + 1.5  # so that no two are equal
    assert_same(checked(json.dumps(values, ensure_ascii=False)))


def test_a_sweep_is_read_without_a_file() -> None:
    values = {"name": "t", "populations": [{"architecture": "linear"}], "subsets": {"sizes": [2]}}
    assert check(Document("here", values)).id == checked(json.dumps(values)).id
    with pytest.raises(ConfigError, match=r"^here: `nme`: unknown key"):
        check(Document("here", values | {"nme": 1}))

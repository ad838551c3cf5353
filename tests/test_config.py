"""YAML -> a checked Sweep: grids expand as documented, overrides are typed, every mistake is told where it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sweep.config import _SPREAD, check, load
from sweep.document import ConfigError, Document, override, parse
from sweep.plan import make_plan
from sweep.registry import names
from sweep.spec import Sweep

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
DIGITS = (ROOT / "configs" / "digits.yaml").read_text()


def text(extra: str = "", population: str = "architecture: linear, members: 4", subsets: str = "sizes: [2]") -> str:
    """A small sweep: its population stands in line 3, subsets in line 4, anything more from line 5 on."""
    return f"name: t\npopulations:\n  - {{{population}}}\nsubsets: {{{subsets}}}\n{extra}"


def checked(written: str, *overrides: str) -> Sweep:
    document = parse(written, "f.yaml")
    override(document, overrides, _SPREAD)
    return check(document)


NOT_A_RANGE = "not a range\n  hint: a range is {from: number, to: number, steps: 2 or more, log: true or false}"
WEIGHT = "f.yaml:5:27: `methods.interpolation.weight`: "
A_NAME = "write a name, or one name with its settings: "
KNOWN = (
    "known: `alignments`, `dataset`, `execution`, `grids`, `inside`, `margin`, `methods`, `metrics`, `name`, "
    "`populations`, `protocols`, `repairs`, `scalings`, `seed`, `splits`, `subsets`"
)
BAD = {
    "unknown key": (
        text("metods: none"),
        "f.yaml:5:1: `metods`: unknown key\n  hint: did you mean `methods` or `metrics`?",
    ),
    "unknown key, nothing near": (text("zzz: 1"), f"f.yaml:5:1: `zzz`: unknown key\n  hint: {KNOWN}"),
    "unknown key of a population": (
        text(population="architecture: cnn, trian: {}"),
        "f.yaml:3:25: `populations[0].trian`: unknown key\n  hint: did you mean `train`?",
    ),
    "unknown key of a grid": (
        text("grids: [{metods: x}]"),
        "f.yaml:5:10: `grids[0].metods`: unknown key\n  hint: did you mean `methods`?",
    ),
    "unknown setting": (
        text("methods: {interpolation: {weigth: 1}}"),
        "f.yaml:5:27: `methods.interpolation.weigth`: unknown key\n  hint: did you mean `weight`?",
    ),
    "unknown key of the execution": (
        text("execution: {wrkers: 0}"),
        "f.yaml:5:13: `execution.wrkers`: unknown key\n  hint: did you mean `workers` or `retries`?",
    ),
    "repeated key": (text("name: u"), "f.yaml:5:1: `name`: repeated key\n  hint: keep one of the two"),
    "no name": ("populations: [{architecture: linear}]\nsubsets: {sizes: [2]}", "f.yaml:1:1: `name` is missing"),
    "name that is no folder": (
        text().replace("name: t", "name: a/b"),
        "f.yaml:1:1: `name`: string should match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$'",
    ),
    "wrong type": (
        text(population="architecture: {cnn: {width: a}}"),
        "f.yaml:3:27: `populations[0].architecture.cnn.width`: "
        "input should be a valid integer, unable to parse string as an integer",
    ),
    "truth value for a number": (text("seed: yes"), "f.yaml:5:1: `seed`: input should be a valid integer"),
    "truth value for pairs": (
        text(subsets="pairs: yes"),
        "f.yaml:4:11: `subsets.pairs`: input should be 'all', or input should be a valid integer",
    ),
    "out of bounds": (
        text("methods: {interpolation: {weight: 2}}"),
        WEIGHT + "input should be less than or equal to 1",
    ),
    "several points of a grid out of bounds": (
        text("methods: {interpolation: {weight: [0, 2, x]}}"),
        "f.yaml:5:39: `methods.interpolation.weight[1]`: input should be less than or equal to 1\n"
        "f.yaml:5:42: `methods.interpolation.weight[2]`: "
        "input should be a valid number, unable to parse string as a number",
    ),
    "empty subset": (
        text(subsets="sizes: [2, 0]"),
        "f.yaml:4:22: `subsets.sizes[1]`: input should be greater than or equal to 1",
    ),
    "one size where a list is due": (text(subsets="sizes: 2"), "f.yaml:4:11: `subsets.sizes`: a list is due here"),
    "empty list of methods": (text("methods: []"), "f.yaml:5:1: `methods`: an empty list of methods"),
    "empty list of values": (
        text(population="architecture: cnn, train: {epochs: []}"),
        "f.yaml:3:33: `populations[0].train.epochs`: an empty list: there is nothing to choose from",
    ),
    "empty list of populations": (
        "name: t\npopulations: []",
        "f.yaml:2:1: `populations`: a list of populations is due here\n  hint: - {architecture: cnn, members: 8}",
    ),
    "no populations": (
        "name: t",
        "f.yaml:1:1: `populations`: `populations` is missing\n  hint: - {architecture: cnn, members: 8}",
    ),
    "a population that is no mapping": (
        "name: t\npopulations: [cnn]",
        "f.yaml:2:15: `populations[0]`: a population is a mapping, not 'cnn'",
    ),
    "no architecture": (
        text(population="members: 3"),
        f"f.yaml:3:5: `populations[0]`: `architecture` is missing\n  hint: known: {', '.join(names('architectures'))}",
    ),
    "larger than the population": (
        text(subsets="sizes: [2, 9], prefixes: [7]"),
        "f.yaml:4:22: `subsets.sizes[1]`: subsets of 9 members, but `linear-digits-shared` has 4\n"
        "  hint: take smaller subsets, or members: 9\n"
        "f.yaml:4:37: `subsets.prefixes[0]`: subsets of 7 members, but `linear-digits-shared` has 4\n"
        "  hint: take smaller subsets, or members: 7",
    ),
    "larger than the population, told once for all grids": (
        text("grids: [{methods: uniform_soup}, {methods: logit_average}]", subsets="sizes: [5]"),
        "f.yaml:4:19: `subsets.sizes[0]`: subsets of 5 members, but `linear-digits-shared` has 4\n"
        "  hint: take smaller subsets, or members: 5",
    ),
    "larger than the population in a grid's own subsets": (
        text("grids: [{subsets: {sizes: [5]}}, {}]"),
        "f.yaml:5:28: `grids[0].subsets.sizes[0]`: subsets of 5 members, but `linear-digits-shared` has 4\n"
        "  hint: take smaller subsets, or members: 5",
    ),
    "a key that every grid has of its own": (
        text("grids: [{subsets: {sizes: [2]}}]"),
        "f.yaml:4:1: `subsets`: no grid reads this: each has its own\n  hint: set grids.0.subsets and so on",
    ),
    "nothing to merge": (
        text(subsets=""),
        "f.yaml:4:1: `subsets`: no subset to merge\n  hint: for example subsets: {sizes: [2, 3], per_size: 20}",
    ),
    "unknown method": (
        text("methods: [unifrom_soup]"),
        "f.yaml:5:11: `methods[0]`: no `unifrom_soup` in methods\n  hint: did you mean `uniform_soup`?",
    ),
    "unknown architecture": (
        text(population="architecture: {cnnn: {width: 3}}"),
        "f.yaml:3:21: `populations[0].architecture.cnnn`: no `cnnn` in architectures\n  hint: did you mean `cnn`?",
    ),
    "unknown data set": (
        text("dataset: digit"),
        "f.yaml:5:1: `dataset`: no `digit` in datasets\n  hint: did you mean `digits`?",
    ),
    "unknown metric": (
        text("metrics: accurcy"),
        "f.yaml:5:1: `metrics`: no `accurcy` in metrics\n  hint: did you mean `accuracy`?",
    ),
    "settings that are no mapping": (
        text("methods: {uniform_soup: 3}"),
        "f.yaml:5:11: `methods.uniform_soup`: settings of `uniform_soup` are a mapping, not 3",
    ),
    "training that is no mapping": (
        text(population="architecture: cnn, train: 3"),
        "f.yaml:3:25: `populations[0].train`: a mapping is due here, not 3",
    ),
    "execution that is no mapping": (text("execution: 5"), "f.yaml:5:1: `execution`: a mapping is due here"),
    "storage that is no path": (
        text("execution: {storage: 5}"),
        "f.yaml:5:13: `execution.storage`: a path is due here",
    ),
    "two names in one mapping": (
        text("methods: {a: 1, b: 2}"),
        "f.yaml:5:1: `methods`: not one of the methods: {'a': 1, 'b': 2}\n"
        f"  hint: {A_NAME}{{{names('methods')[0]}: {{…}}}}",
    ),
    "no for none": (
        text("alignments: no"),
        f"f.yaml:5:1: `alignments`: not one of the alignments: False\n  hint: {A_NAME}{{none: {{…}}}}",
    ),
    "null for none": (
        text("repairs: null"),
        f"f.yaml:5:1: `repairs`: not one of the repairs: None\n  hint: {A_NAME}{{none: {{…}}}}",
    ),
    "range without steps": (text("methods: {interpolation: {weight: {from: 0, to: 1}}}"), WEIGHT + NOT_A_RANGE),
    "range of one step": (text("methods: {interpolation: {weight: {from: 0, to: 1, steps: 1}}}"), WEIGHT + NOT_A_RANGE),
    "range with a word too many": (
        text("methods: {interpolation: {weight: {from: 0, to: 1, steps: 3, by: 1}}}"),
        WEIGHT + NOT_A_RANGE,
    ),
    "range with log as text": (
        text("methods: {interpolation: {weight: {from: 1, to: 1, steps: 3, log: 'false'}}}"),
        WEIGHT + NOT_A_RANGE,
    ),
    "range to the moon": (
        text(f"methods: {{interpolation: {{weight: {{from: 0, to: 1{'0' * 400}, steps: 3}}}}}}"),
        WEIGHT + NOT_A_RANGE,
    ),
    "logarithmic range from nothing": (
        text("methods: {interpolation: {weight: {from: 0, to: 1, steps: 3, log: true}}}"),
        WEIGHT + "a logarithmic range needs ends above 0",
    ),
    "range out of bounds": (
        text("methods: {interpolation: {weight: {from: 0, to: 3, steps: 3}}}"),
        WEIGHT + "input should be less than or equal to 1",
    ),
    "interpolation without pairs": (
        text("methods: interpolation", subsets="sizes: [3]"),
        "f.yaml:5:1: `methods`: `interpolation` takes exactly 2 members: no such subset\n"
        "  hint: add pairs: all under subsets",
    ),
    "two equal populations": (
        "name: t\nsubsets: {sizes: [2]}\npopulations:\n- architecture: mlp\n- {architecture: mlp, members: 5, name: b}",
        "f.yaml:5:3: `populations[1]`: the same population as populations[0]",
    ),
    "settings that do not go together": (
        text(population="architecture: cnn, train: {epochs: [9, 1], warmup: 2}"),
        "f.yaml:3:25: `populations[0].train`: `warmup` is longer than the training",
    ),
    "no split": (text("splits: []"), "f.yaml:5:1: `splits`: one of them or more, each once"),
    "a split twice": (text("splits: [test, test]"), "f.yaml:5:1: `splits`: one of them or more, each once"),
    "unknown split": (text("splits: [tst]"), "f.yaml:5:10: `splits[0]`: input should be 'test' or 'validation'"),
    "grids that are no list": (
        text("grids: {}"),
        "f.yaml:5:1: `grids`: a list of mappings is due here\n  hint: - {subsets: {pairs: all}, methods: uniform_soup}",
    ),
    "bad syntax": (text("x: [1, 2"), "f.yaml:5:9: expected ',' or ']', but got '<stream end>'"),
    "several at once": (
        text("metods: none\nseed: -1\nmethods: [unifrom_soup]", "architecture: linear, train: {lr: -1, epochs: x}"),
        "f.yaml:5:1: `metods`: unknown key\n  hint: did you mean `methods` or `metrics`?\n"
        "f.yaml:6:1: `seed`: input should be greater than or equal to 0\n"
        "f.yaml:3:44: `populations[0].train.epochs`: "
        "input should be a valid integer, unable to parse string as an integer\n"
        "f.yaml:3:36: `populations[0].train.lr`: input should be greater than 0\n"
        "f.yaml:7:11: `methods[0]`: no `unifrom_soup` in methods\n  hint: did you mean `uniform_soup`?",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_every_mistake_is_told_where_it_stands(name: str) -> None:
    written, message = BAD[name]
    with pytest.raises(ConfigError) as raised:
        checked(written)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "train.epochs=x",
            "`populations[0].train.epochs`: input should be a valid integer, unable to parse string as an integer",
        ),
        ("trian.epochs=2", f"`trian`: unknown key\n  hint: {KNOWN}"),
        ("dataset={digits: {size: 0}}", "`dataset.digits.size`: input should be greater than or equal to 1"),
        ("dataset.digits.sze=8", "`dataset.digits.sze`: unknown key\n  hint: did you mean `size`?"),
        ("populations.0=3", "`populations[0]`: a population is a mapping, not 3"),
        ("name.x=3", "`name`: input should be a valid string"),
        ("seed=1.5", "`seed`: input should be a valid integer"),
        (
            "execution.workers=0",
            "`execution.workers`: input should be 'auto', or input should be greater than or equal to 1",
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


def test_a_list_means_each_of_these() -> None:
    sweep = checked(
        text(
            "methods: [uniform_soup, {interpolation: {weight: [0, 0.5]}}]\n"
            "scalings: [none, {magnify: {factor: [0.5, 2], members: [all, first]}}]\nmetrics: [ece, accuracy]",
            "architecture: [linear, {mlp: {hidden: [[8], [8, 4]]}}], members: 4, train: {lr: [0.1, 0.2, 0.1]}",
        )
    )
    assert [p.name for p in sweep.populations] == [
        *("linear-digits-shared,lr=0.1", "linear-digits-shared,lr=0.2"),
        *("mlp-digits-shared,hidden=(8,),lr=0.1", "mlp-digits-shared,hidden=(8,),lr=0.2"),
        *("mlp-digits-shared,hidden=(8, 4),lr=0.1", "mlp-digits-shared,hidden=(8, 4),lr=0.2"),
    ]
    (grid,) = sweep.grids
    assert [method.written for method in grid.methods] == [
        *({"uniform_soup": {}}, {"interpolation": {"weight": 0.0}}, {"interpolation": {"weight": 0.5}}),
    ]
    told = [(s.name, s.settings.get("factor"), s.settings.get("members")) for s in grid.scalings]
    assert told == [
        ("none", None, None),
        *[("magnify", factor, members) for factor in (0.5, 2.0) for members in ("all", "first")],
    ]
    assert sweep.metrics == ("ece", "accuracy")


def test_choices_that_mean_the_same_are_one() -> None:
    sweep = checked(
        text("methods: [uniform_soup, {uniform_soup: {}}, {uniform_soup: }]\nscalings: {magnify: {factor: [2, 2.0]}}")
    )
    assert (len(sweep.grids[0].methods), len(sweep.grids[0].scalings)) == (1, 1)


def test_grids_take_what_they_leave_out_from_the_top() -> None:
    sweep = checked(
        text("methods: greedy_soup\nscalings: magnify\ngrids: [{}, {methods: uniform_soup}, {scalings: none}]")
    )
    found = [([m.name for m in grid.methods], [s.name for s in grid.scalings]) for grid in sweep.grids]
    assert found == [
        (["greedy_soup"], ["magnify"]),
        (["uniform_soup"], ["magnify"]),
        (["greedy_soup"], ["none"]),
    ]
    assert all(grid.subsets.sizes == (2,) for grid in sweep.grids)


NUMBERS = st.floats(1e-6, 1e6) | st.integers(1, 10**6)


@given(NUMBERS, NUMBERS, st.integers(2, 30), st.booleans())
@settings(max_examples=100, deadline=None)
def test_ranges_hold_both_ends_and_go_evenly_between(low: float, high: float, steps: int, log: bool) -> None:
    assume(abs(high - low) > 1e-6 * max(low, high))
    span = json.dumps({"from": low, "to": high, "steps": steps, "log": log})
    scalings = checked(text(f"scalings: {{magnify: {{factor: {span}}}}}")).grids[0].scalings
    values = [scaling.settings["factor"] for scaling in scalings]
    assert (values[0], values[-1]) == (low, high)
    assert len(values) == steps
    assert values == sorted(values, reverse=high < low)
    for index, value in enumerate(values):
        part = index / (steps - 1)
        even = low * (high / low) ** part if log else low + (high - low) * part
        assert value == pytest.approx(even, rel=1e-9, abs=1e-11 * max(low, high) if not log else 0)


def test_ranges_have_no_dust() -> None:
    def factors(span: str) -> list[float]:
        scalings = checked(text(f"scalings: {{magnify: {{factor: {span}}}}}")).grids[0].scalings
        return [scaling.settings["factor"] for scaling in scalings]

    assert factors("{from: 0.1, to: 1, steps: 10}") == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert factors("{from: 1e-3, to: 1e3, steps: 7, log: true}") == [0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
    assert factors("{from: 1e-15, to: 3e-15, steps: 3}") == [1e-15, 2e-15, 3e-15]
    assert factors("{from: 2, to: 1, steps: 3}") == [2.0, 1.5, 1.0]


FOLDERS = """name: t
subsets: {sizes: [2]}
populations:
- {architecture: linear, dataset: {imagefolder: {root: [/a/b, /a/c]}}}
"""


def test_names_of_populations_are_their_own_and_can_be_written() -> None:
    sweep = checked(FOLDERS)
    assert [p.name for p in sweep.populations] == [f"linear-imagefolder-shared,root=-a-{end}" for end in "bc"]
    long = f"/{'x' * 60}/{'y' * 60}"
    deep = checked(FOLDERS.replace("/a/b", f"{long}1").replace("/a/c", f"{long}2"))
    taken = checked(
        "name: t\nsubsets: {sizes: [2]}\npopulations:\n- {architecture: mlp, train: {lr: [0.1, 0.2]}, name: a}\n"
        "- {architecture: cnn, name: 'a,lr=0.1'}"
    )
    for found in (sweep, deep, taken):
        told = [p.name for p in found.populations]
        assert len(set(told)) == len(told)
        assert [p.name for p in again(found).populations] == told


def again(sweep: Sweep) -> Sweep:
    """The sweep that its resolved configuration means."""
    return check(parse(sweep.to_yaml(), "resolved.yaml"))


def assert_same(sweep: Sweep) -> None:
    other = again(sweep)
    assert (other.id, other.written, other.metrics) == (sweep.id, sweep.written, sweep.metrics)
    plan, same = make_plan(sweep), make_plan(other)
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
        "keep": st.sampled_from(["last", "best"]),
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
TOLD = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S"), exclude_characters="/"), min_size=1)
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
        "seed": st.integers(-5, 2**70),
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
                    "name": TRAPS | TOLD.filter(lambda name: len(name) <= 100),
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
        "seed": st.integers(0, 2**65),
        "splits": st.sampled_from([["test"], ["validation", "test"]]),
        "metrics": st.lists(st.sampled_from(names("metrics")), min_size=1, max_size=3),
        "grids": st.lists(st.fixed_dictionaries({}, optional={**GRID, "subsets": SUBSETS}), max_size=2).map(
            lambda grids: [*grids, {}]  # which reads what stands at the top
        ),
        "execution": st.fixed_dictionaries({}, optional={"block": st.integers(1, 9), "mlflow": st.booleans()}),
    },
)


@given(SWEEPS)
@settings(max_examples=60, deadline=None)
def test_any_resolved_configuration_means_the_same(values: dict[str, Any]) -> None:
    for index, population in enumerate(values["populations"]):
        population["train"]["lr"] = index + 1.5  # so that no two are equal
    assert_same(checked(json.dumps(values, ensure_ascii=False)))


TOKENS = re.findall(r"\s+|[\w.]+|[^\w\s]", DIGITS)
ODD = st.sampled_from(
    [
        *(
            "no",
            "null",
            "~",
            ".inf",
            "-.nan",
            "1e-3",
            "1e999",
            "-1",
            "0",
            "0.5",
            "[]",
            "{}",
            "[[]]",
            "*a",
            "&a ",
            "!!int ",
        ),
        *(
            ":",
            "'",
            '"',
            "9" * 400,
            "2024-01-01",
            "x:y",
            ":x",
            "#",
            "|",
            "\t",
            "<<",
            "..",
            "?",
            "- ",
            "\n",
            "%",
            "\x07",
        ),
        *("{from: 0, to: 1, steps: 3}", "{from: 1}", "[1, 2]", "imagefolder", "none", "members", "true", "é", "a: 1\n"),
    ]
)
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["delete", "double", "replace", "swap"]),
        st.integers(0, len(TOKENS) - 1),
        ODD | st.text(max_size=9),
    ),
    min_size=1,
    max_size=4,
)


def edited(edits: list[tuple[str, int, str]]) -> str:
    tokens = list(TOKENS)
    for kind, place, odd in edits:
        if kind == "swap":
            other = len(odd) * 7 % len(tokens)
            tokens[place], tokens[other] = tokens[other], tokens[place]
        else:
            tokens[place] = {"delete": "", "double": 2 * tokens[place], "replace": odd}[kind]
    return "".join(tokens)


@given(EDITS)
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_a_told_mistake_or_a_sweep(edits: list[tuple[str, int, str]]) -> None:
    sweep, mistakes = None, None
    try:
        sweep = checked(edited(edits))
    except ConfigError as error:
        mistakes = error.mistakes
    if sweep is None:
        assert mistakes
        assert all(re.match(r"f\.yaml(:\d+:\d+)?: .", str(mistake)) for mistake in mistakes)
    else:
        assert again(sweep).id == sweep.id


@given(st.lists(st.tuples(st.sampled_from(TOKENS), ODD | st.text(max_size=9)), min_size=1, max_size=2))
@settings(max_examples=100, deadline=None)
def test_any_override_is_a_told_mistake_or_a_sweep(pairs: list[tuple[str, str]]) -> None:
    sweep, mistakes = None, None
    try:
        sweep = checked(DIGITS, *(f"{path.strip()}={value}" for path, value in pairs))
    except ConfigError as error:
        mistakes = error.mistakes
    assert again(sweep).id == sweep.id if sweep else all(mistake.what for mistake in mistakes or [None])


def test_a_sweep_is_read_without_a_file() -> None:
    values = {"name": "t", "populations": [{"architecture": "linear"}], "subsets": {"sizes": [2]}}
    assert check(Document("here", values)).id == checked(json.dumps(values)).id
    with pytest.raises(ConfigError, match=r"^here: `nme`: unknown key"):
        check(Document("here", values | {"nme": 1}))

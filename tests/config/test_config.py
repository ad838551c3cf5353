"""YAML -> a checked Sweep: every mistake is told where it stands."""

from __future__ import annotations

import pytest

from sweep.config.document import ConfigError
from sweep.core.registry import list_plugins
from tests.helpers.texts import ANCHORS_HINT, KNOWN, checked, text

NOT_A_RANGE = "not a range\n  hint: a range is {from: number, to: number, steps: 2 or more, log: true or false}"
WEIGHT = "f.yaml:5:27: `methods.interpolation.weight`: "
A_NAME = "write a name, or one name with its settings: "
BAD = {
    "unknown key": (
        text("metods: none"),
        "f.yaml:5:1: `metods`: unknown key\n  hint: did you mean `methods` or `metrics`?",
    ),
    "unknown key, nothing near": (text("zzz: 1"), f"f.yaml:5:1: `zzz`: unknown key\n  hint: {KNOWN}{ANCHORS_HINT}"),
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
        "f.yaml:1:1: `name`: expected 1 to 64 of A-Z, a-z, 0-9, `_`, `.` and `-`, first a letter or digit, got 'a/b'",
    ),
    "wrong type": (
        text(population="architecture: {cnn: {width: a}}"),
        "f.yaml:3:27: `populations[0].architecture.cnn.width`: expected a whole number, got 'a'",
    ),
    "truth value for a number": (
        text("seed: yes"),
        "f.yaml:5:1: `seed`: expected a whole number, got true\n  hint: YAML reads `yes` as true",
    ),
    "truth value for pairs": (
        text(subsets="pairs: yes"),
        "f.yaml:4:11: `subsets.pairs`: expected `all` or a whole number, got true\n  hint: YAML reads `yes` as true",
    ),
    "out of bounds": (
        text("methods: {interpolation: {weight: 3}}"),
        WEIGHT + "expected at most 2, got 3",
    ),
    "several points of a grid out of bounds": (
        text("methods: {interpolation: {weight: [0, 3, x]}}"),
        "f.yaml:5:39: `methods.interpolation.weight[1]`: expected at most 2, got 3\n"
        "f.yaml:5:42: `methods.interpolation.weight[2]`: "
        "expected a number, got 'x'",
    ),
    "empty subset": (
        text(subsets="sizes: [2, 0]"),
        "f.yaml:4:22: `subsets.sizes[1]`: expected 1 or more, got 0",
    ),
    "one size where a list is due": (text(subsets="sizes: 2"), "f.yaml:4:11: `subsets.sizes`: expected a list, got 2"),
    "empty list of methods": (text("methods: []"), "f.yaml:5:1: `methods`: an empty list of methods"),
    "empty list of values": (
        text(population="architecture: cnn, train: {epochs: []}"),
        "f.yaml:3:33: `populations[0].train.epochs`: an empty list: there is nothing to choose from",
    ),
    "empty list of populations": (
        "name: t\npopulations: []",
        "f.yaml:2:1: `populations`: expected a list of populations\n  hint: - {architecture: cnn, members: 8}",
    ),
    "no populations": (
        "name: t",
        "f.yaml:1:1: `populations`: `populations` is missing\n  hint: - {architecture: cnn, members: 8}",
    ),
    "a population that is no mapping": (
        "name: t\npopulations: [cnn]",
        "f.yaml:2:15: `populations[0]`: expected a mapping, got 'cnn'",
    ),
    "no architecture": (
        text(population="members: 3"),
        "f.yaml:3:5: `populations[0]`: `architecture` is missing\n"
        f"  hint: known: {', '.join(list_plugins('architectures'))}",
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
        "f.yaml:5:11: `methods.uniform_soup`: expected a mapping of settings, got 3",
    ),
    "training that is no mapping": (
        text(population="architecture: cnn, train: 3"),
        "f.yaml:3:25: `populations[0].train`: expected a mapping, got 3",
    ),
    "execution that is no mapping": (text("execution: 5"), "f.yaml:5:1: `execution`: expected a mapping, got 5"),
    "storage that is no path": (
        text("execution: {storage: 5}"),
        "f.yaml:5:13: `execution.storage`: expected a path, got 5",
    ),
    "two names in one mapping": (
        text("methods: {a: 1, b: 2}"),
        'f.yaml:5:1: `methods`: not one of the methods: {"a": 1, "b": 2}\n'
        f"  hint: {A_NAME}{{{list_plugins('methods')[0]}: {{…}}}}",
    ),
    "no for none": (
        text("alignments: no"),
        "f.yaml:5:1: `alignments`: not one of the alignments: false\n"
        f"  hint: YAML reads `no` as false; quotes make it text; {A_NAME}{{none: {{…}}}}",
    ),
    "null for none": (
        text("repairs: null"),
        f"f.yaml:5:1: `repairs`: not one of the repairs: null\n  hint: quotes make it text; {A_NAME}{{none: {{…}}}}",
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
        f"f.yaml:5:49: `methods.interpolation.weight.to`: `1{'0' * 39}…` is beyond the integers of 64 bits",
    ),
    "range of as many steps as true": (
        text("methods: {interpolation: {weight: {from: 0, to: 1, steps: true}}}"),
        WEIGHT + NOT_A_RANGE,
    ),
    "logarithmic range from nothing": (
        text("methods: {interpolation: {weight: {from: 0, to: 1, steps: 3, log: true}}}"),
        WEIGHT + "a logarithmic range needs ends above 0",
    ),
    "range out of bounds": (
        text("methods: {interpolation: {weight: {from: 0, to: 5, steps: 3}}}"),
        WEIGHT + "expected at most 2, got 2.5\nf.yaml:5:27: `methods.interpolation.weight`: expected at most 2, got 5",
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
    "no split": (text("splits: []"), "f.yaml:5:1: `splits`: expected one or more values without repetition"),
    "a split twice": (
        text("splits: [test, test]"),
        "f.yaml:5:1: `splits`: expected one or more values without repetition",
    ),
    "unknown split": (text("splits: [tst]"), "f.yaml:5:10: `splits[0]`: expected `test` or `validation`, got 'tst'"),
    "grids that are no list": (
        text("grids: {}"),
        "f.yaml:5:1: `grids`: expected a list of mappings\n  hint: - {subsets: {pairs: all}, methods: uniform_soup}",
    ),
    "bad syntax": (
        text("x: [1, 2"),
        "f.yaml:5:4: a bracket that is opened here is not closed\n  hint: `]` is missing, or a comma before",
    ),
    "several at once": (
        text("metods: none\nseed: -1\nmethods: [unifrom_soup]", "architecture: linear, train: {lr: -1, epochs: x}"),
        "f.yaml:5:1: `metods`: unknown key\n  hint: did you mean `methods` or `metrics`?\n"
        "f.yaml:6:1: `seed`: expected 0 or more, got -1\n"
        "f.yaml:3:44: `populations[0].train.epochs`: "
        "expected a whole number, got 'x'\n"
        "f.yaml:3:36: `populations[0].train.lr`: expected a number above 0, got -1\n"
        "f.yaml:7:11: `methods[0]`: no `unifrom_soup` in methods\n  hint: did you mean `uniform_soup`?",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_every_mistake_is_reported_where_it_stands(name: str) -> None:
    written, message = BAD[name]
    with pytest.raises(ConfigError) as raised:
        checked(written)
    assert str(raised.value) == message

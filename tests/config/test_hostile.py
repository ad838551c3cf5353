"""Configurations that are wrong, by accident or on purpose: told in one line, never run, never a traceback."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sweep.cli.main import main
from sweep.config.document import ConfigError
from sweep.config.loader import load
from sweep.plan.planner import make_plan
from tests.helpers import ROOT
from tests.helpers.hostile import often, outcome

CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))

ODD = st.sampled_from(
    [
        *("no", "null", "~", ".inf", "-.nan", "1e999", "-1", "0", "0.5", "[]", "{}", "[[]]", "*a", "&a ", "!!int "),
        *(
            "!!python/object/apply:os.mkdir [x]",
            "{<<: {}}",
            "../..",
            "/etc/passwd",
            "a/b",
            "<b>",
            "\x00",
            "\x85",
            "\u2028",
        ),
        *(
            ":",
            "'",
            '"',
            "9" * 400,
            "2024-01-01",
            "#",
            "|",
            "\t",
            "<<",
            "?",
            "- ",
            "\n",
            "%",
            "é",
            "true",
            "1_0",
            "0x1f",
        ),
        *("{from: 0, to: 1, steps: 3}", "{from: 1}", "[1, 2]", "none", "members", "x:y", "a: 1\n", "1:30", "1e-3"),
    ]
)
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["delete", "double", "replace", "swap"]), st.integers(0, 10**6), ODD | st.text(max_size=9)
    ),
    min_size=1,
    max_size=4,
)


def edited(text: str, edits: list[tuple[str, int, str]]) -> str:
    tokens = re.findall(r"\s+|[\w.]+|[^\w\s]", text)
    for kind, number, odd in edits:
        place = number % len(tokens)
        if kind == "swap":
            other = (place + 7 * len(odd)) % len(tokens)
            tokens[place], tokens[other] = tokens[other], tokens[place]
        else:
            tokens[place] = {"delete": "", "double": 2 * tokens[place], "replace": odd}[kind]
    return "".join(tokens)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda file: file.stem)
@given(edits=EDITS)
@often(20)
def test_a_damaged_configuration_is_a_located_mistake_or_a_sweep(
    tmp_path: Path, config: Path, edits: list[tuple[str, int, str]]
) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(edited(config.read_text(), edits), encoding="utf-8", newline="")
    sweep, error = outcome(lambda: load(file), ConfigError)
    if error:
        assert error.issues
        assert all(re.match(rf"{re.escape(str(file))}(:\d+:\d+)?: .", str(mistake)) for mistake in error.issues)
        return
    assert sweep.folder.parent.name == "runs"
    assert sweep.folder.parent.parent == Path.cwd(), "the name of a sweep leads nowhere else"
    if sum(population.pools * population.members for population in sweep.populations) < 50:
        assert make_plan(sweep, {p.dataset: "absent" for p in sweep.populations}).pools


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@often(200)
def test_any_bytes_as_a_configuration_are_reported(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(content)
    done = CliRunner().invoke(main, ["check", str(file)])
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    assert str(file) in done.stderr


@pytest.mark.parametrize(
    "name", ["../up", "/abs", "a/b", "..", ".hidden", "", "a\x00b", "x" * 65, "a b", "<script>", "-rf", "a\nb"]
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "f.yaml"
    config = {"name": name, "populations": [{"architecture": "linear"}], "subsets": {"sizes": [2]}}
    file.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"f\.yaml:1:\d+: `name`"):
        load(file)


ANCHORED = """
x-train: &train {epochs: 2, lr: 0.1}
name: t
populations:
  - &first {architecture: linear, members: 3, start: scratch, train: *train}
  - {<<: *first, architecture: mlp, train: {<<: *train, lr: TEXT}}
subsets: {sizes: [2]}
"""


def test_anchors_and_merge_keys_describe_populations(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(ANCHORED.replace("TEXT", "0.2"))
    sweep = load(file)
    assert [(p.architecture.name, p.recipe.epochs, p.recipe.lr) for p in sweep.populations] == [
        ("linear", 2, 0.1),
        ("mlp", 2, 0.2),
    ]
    assert "x-train" not in sweep.to_yaml()
    assert load(file, ["train.epochs=3"]).populations[0].recipe.epochs == 3
    with pytest.raises(ConfigError, match=r"`x-train.lr`: keys that begin with `x-` are not read"):
        load(file, ["x-train.lr=1"])
    file.write_text(ANCHORED.replace("TEXT", "on"))
    with pytest.raises(ConfigError) as raised:
        load(file)
    place = f"{file}:6:57: `populations[1].train.lr`: "
    assert str(raised.value) == place + "expected a number, got true\n  hint: YAML reads `on` as true"


ABSURD = {
    "members=1000000000": "members",
    "pools=1000000000": "pools",
    "subsets.per_size=1000000000000": "per_size",
    "train.epochs=1000000000000000000": "epochs",
    "train.batch_size=1000000000000000": "batch_size",
    "train.lr=1e308": "lr",
    "execution.workers=1000000000": "workers",
    "seed=99999999999999999999": "seed",
    "subsets.sizes=[2000000000]": "sizes[0]",
    "dataset.digits.size=1000000": "size",
    "dataset.digits.seed=-1": "seed",
    "populations.0.architecture={mlp: {hidden: [1000000000000]}}": "hidden[0]",
    "methods={interpolation: {weight: {from: 0, to: 1, steps: 1000000000}}}": "weight",
}


@pytest.mark.parametrize("assignment", ABSURD)
@pytest.mark.parametrize("verb", ["check", "plan"])
def test_absurd_numbers_are_one_line_that_names_the_key(tmp_path: Path, verb: str, assignment: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("name: t\ndataset: digits\npopulations:\n  - {architecture: linear}\nsubsets: {sizes: [2]}\n")
    done = CliRunner().invoke(main, [verb, str(file), assignment])
    assert done.exit_code == 2, done.output
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith("  hint: ")]
    assert len(lines) == 1
    assert f"{ABSURD[assignment]}`: " in lines[0]


@pytest.mark.parametrize(
    ("assignments", "what"),
    [
        (["members=10000", "pools=10000"], "10,000 pools of 10,000 members, expected at most 1,000,000 in all"),
        (["members={init: 10000, order: 10000}", "start=scratch"], "expected at most 1,000,000 in all"),
        (["members=10000", "subsets.pairs=all"], "candidates, expected at most 20,000,000 in a grid"),
        (
            ["members=5000", "subsets.sizes=[2500]", "subsets.per_size=1000000", "pools=99"],
            "expected at most 20,000,000",
        ),
    ],
)
def test_absurd_products_are_refused_before_they_are_made(tmp_path: Path, assignments: list[str], what: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("name: t\ndataset: digits\npopulations:\n  - {architecture: linear}\nsubsets: {sizes: [2]}\n")
    with pytest.raises(ConfigError) as raised:
        load(file, assignments)
    assert what in str(raised.value)

"""The verbs of `analysis` on real run folders: data on stdout, messages on stderr, the numbers of the rows."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import click
import pytest

from analysis.cli.main import main
from analysis.cli.settings import kind, parse_settings, value, written
from analysis.core import registry
from analysis.display import tables as tabular
from analysis.rows.run import Run
from analysis.statistics.paired_difference import paired_difference
from tests.helpers import rows
from tests.helpers.analysis_verbs import STATISTICS, right, wrong

VERBS = {"report", "figure", "stats", "compare", "cite", "ls"}


@pytest.fixture(scope="module")
def folder(run: Run) -> Path:
    return run.folder


class TestHelp:
    def test_the_verbs_are_these(self) -> None:
        assert set(main.commands) >= VERBS

    @pytest.mark.parametrize("name", sorted(main.commands))
    def test_every_verb_explains_itself(self, name: str) -> None:
        command = main.commands[name]
        shown = right(name, "--help")
        assert (command.help or "").splitlines()[0] in " ".join(shown.split())
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help
                assert option.opts[0] in shown

    @pytest.mark.parametrize("name", sorted(main.commands))
    def test_every_example_in_the_help_is_right(self, name: str) -> None:
        lines = [line.strip() for line in (main.commands[name].help or "").splitlines()]
        examples = [line.removeprefix("Example: ") for line in lines if line.startswith("Example: ")]
        assert examples
        for example in examples:
            program, verb, *words = shlex.split(example.split(" > ")[0])
            assert (program, verb) == ("analysis", name)
            given = main.commands[verb].make_context(verb, words).params
            if verb == "stats":
                assert parse_settings(given["name"], given["settings"])
            if verb == "figure":
                assert registry.get_plugin("figures", given["name"])


class TestStats:
    @pytest.mark.parametrize("name", STATISTICS)
    def test_every_statistic_answers_in_every_form(self, name: str, folder: Path, run: Run) -> None:
        function = registry.get_plugin("statistics", name)
        found = function(*(run.table(table) for table in registry.tables(function)))
        records = json.loads(right("stats", name, folder, "--json"), parse_constant=pytest.fail)
        assert len(records) == len(found)
        assert [record["n_units"] for record in records] == found["n_units"].tolist()
        for record, estimate in zip(records, found["estimate"], strict=True):
            assert record["estimate"] == (estimate if math.isfinite(estimate) else None)
            assert record["p"] is None or {"low", "high"} <= set(record)
        written_rows = list(csv.DictReader(io.StringIO(right("stats", name, folder, "--csv"))))
        assert list(written_rows[0]) == list(found.columns)
        lines = right("stats", name, folder).splitlines()
        assert any(re.search(r"estimate +95% interval +n +unit", line) for line in lines)
        assert right("stats", name, folder, "--tex").count(r" \\") >= len(found) + 1

    @pytest.mark.parametrize("name", STATISTICS)
    def test_it_describes_its_settings_without_a_run(self, name: str) -> None:
        description = right("stats", name)
        function = registry.get_plugin("statistics", name)
        assert f"tables    {', '.join(registry.tables(function))}" in description
        for key, default in registry.settings(function).items():
            assert f"settings  {key}={written(default)}" in description
            assert parse_settings(name, [f"{key}={written(default)}"])[key] == (
                tuple(default) if isinstance(default, list | tuple) else default
            )

    def test_settings_reach_the_statistic(self, folder: Path, run: Run) -> None:
        words = ["a=logit_average", "b=mean_member", "metric=brier", "by=population", "margin=0.25"]
        records = json.loads(right("stats", "paired_difference", folder, *words, "--json"))
        found = paired_difference(
            run.candidates, "logit_average", "mean_member", metric="brier", by=["population"], margin=0.25
        )
        assert [record["estimate"] for record in records] == found["estimate"].tolist()
        assert records[0]["margin"] == 0.25

    def test_the_table_for_the_eye_is_this(self) -> None:
        made = [rows.candidate(pool, (0, 1), "uniform_soup", accuracy=0.8 + 0.1 * pool) for pool in range(2)]
        made += [rows.candidate(pool, (0, 1), "logit_average", space="logits", accuracy=0.8) for pool in range(2)]
        made += [rows.candidate(0, (0, 2), "uniform_soup", accuracy=0.1)]
        found = paired_difference(rows.frame(made), by=["population"], margin=0.01).drop(columns="sign_flip_p")
        assert tabular.render(found, "txt").splitlines() == [
            "accuracy: uniform_soup minus logit_average, for new pools",
            "population  improved  estimate       95% interval  n  unit     p  margin  verdict       notes",
            "people        0.5000    0.0500  [−0.5853, 0.6853]  2  pool  0.50  0.0100  inconclusive  1",
            "1: 1 pair left out: only one of the two methods has the subset",
        ]

    def test_a_single_pool_has_no_interval_in_any_form(self) -> None:
        made = [rows.candidate(0, (0, 1), "uniform_soup")]
        found = registry.get_plugin("statistics", "pool_means")(rows.frame(made), by=["population"])
        assert "none" in tabular.render(found, "txt")
        assert json.loads(tabular.render(found, "json"))[0]["high"] is None
        assert "one pool" in tabular.render(found, "csv")

    def test_names_are_escaped_in_latex(self) -> None:
        odd = r"50% & $x_1$ {a} #2 ~ ^ \ <|>"
        made = [rows.candidate(pool, (0, 1), "uniform_soup", population=odd) for pool in range(2)]
        found = registry.get_plugin("statistics", "pool_means")(rows.frame(made), by=["population"])
        shown = tabular.render(found, "tex")
        assert odd not in shown
        assert r"50\% \& \$x\_1\$ \{a\} \#2 \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{}" in shown
        inside = re.sub(r"\\[%&$#_{}\\]|\\\w+(\{\})?", "", shown.split(r"\midrule")[1].split(r"\bottomrule")[0])
        assert not set("%$#_{}~^") & set(inside)
        assert shown.count(" & ") % 2 == 0

    def test_the_ending_of_a_file_gives_its_form(self, folder: Path, tmp_path: Path) -> None:
        for ending in tabular.FORMS:
            path = tmp_path / f"x.{ending}"
            assert right("stats", "pool_means", folder, "-o", path) == f"{path}\n"
            flags = [] if ending == "txt" else [f"--{ending}"]
            assert path.read_text(encoding="utf-8") == right("stats", "pool_means", folder, *flags)
        assert "end in one of" in wrong("stats", "pool_means", folder, "-o", tmp_path / "x.xls")

    def test_mistakes_are_reported_with_a_hint(self, folder: Path, tmp_path: Path) -> None:
        assert "did you mean `pool_means`" in wrong("stats", "pool_mean", folder)
        assert "did you mean `metric`" in wrong("stats", "pool_means", folder, "metrc=brier")
        assert "`x` is not a number or none" in wrong("stats", "paired_difference", folder, "margin=x")
        assert "one of `pools`, `members`, `these cells`" in wrong("stats", "paired_difference", folder, "over=cells")
        assert "written `key=value`" in wrong("stats", "pool_means", folder, "metric")
        assert "given twice" in wrong("stats", "pool_means", folder, "metric=ece", "metric=ece")
        assert "missing column `nope`" in wrong("stats", "pool_means", folder, "metric=nope")
        assert "could not convert" in wrong("stats", "pool_means", folder, "metric=method")
        assert "no rows of `nope`" in wrong("stats", "paired_difference", folder, "a=nope")
        assert "no such run folder" in wrong("stats", "pool_means", tmp_path / "nowhere")


class TestSettings:
    @pytest.mark.parametrize(
        ("text", "hint", "meant"),
        [
            ("3", int, 3),
            ("1e-3", float, 0.001),
            ("TRUE", bool, True),
            ("a=b, c", str, "a=b, c"),
            ("none", float | None, None),
            ("0.5", float | None, 0.5),
            ("a,b", list[str], ("a", "b")),
            ("[1, 2]", tuple[int, ...], (1, 2)),
            ("", list[str], ()),
            ("2", Literal[1, 2], 2),
        ],
    )
    def test_texts_become_values_of_the_annotated_type(self, text: str, hint: Any, meant: Any) -> None:
        assert value(text, hint) == meant

    @pytest.mark.parametrize(
        ("text", "hint"),
        [("1.5", int), ("nan", float), ("inf", float | None), ("yes", bool), ("3", Literal[1, 2]), ("1,x", list[int])],
    )
    def test_other_texts_are_refused(self, text: str, hint: Any) -> None:
        with pytest.raises(ValueError, match=re.escape(text.split(",")[-1])):
            value(text, hint)
        assert kind(hint)


def test_the_module_is_the_command(folder: Path) -> None:
    command = [sys.executable, "-m", "analysis.cli", "stats", "pool_means", str(folder), "--csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("population,space,label,n_members,estimand,")

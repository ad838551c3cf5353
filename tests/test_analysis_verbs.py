"""The verbs of `analysis` on real run folders: data on stdout, talk on stderr, numbers that are those of the rows."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rows
from click.testing import CliRunner, Result

from analysis import catalogue, citations, load, report, tabular
from analysis.cli import main
from analysis.errors import AnalysisError
from analysis.frames import comparable, labelled, over_pools, with_mean_member
from analysis.groups import numbered, stacked
from analysis.load import Run
from analysis.reader import frame
from analysis.settings import kind, parsed, value, written
from analysis.statistics.paired_difference import paired_difference
from sweep.keys import KEYS

ROOT = Path(__file__).parent.parent
STATISTICS = catalogue.names("statistics")
SWEEP_KINDS = ("methods", "alignments", "scalings", "repairs", "metrics", "architectures", "datasets")
VERBS = {"report", "figure", "stats", "compare", "cite", "ls"}


def ask(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def right(*words: object) -> str:
    result = ask(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def wrong(*words: object) -> str:
    """What a verb tells of wrong use, having printed no data."""
    result = ask(*words)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows.run_folder(tmp_path_factory.mktemp("runs") / "made")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load(folder)


def other(folder: Path, tmp_path: Path, change: Any, name: str = "candidates") -> Path:
    """A copy of a run folder whose rows of a table are changed in place by a function."""
    copy = tmp_path / "other"
    shutil.copytree(folder, copy)
    made = rows.every_candidate()
    change(made)
    rows.write(copy, {name: made})
    return copy


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
                assert parsed(given["name"], given["settings"])
            if verb == "figure":
                assert catalogue.find("figures", given["name"])


class TestStats:
    @pytest.mark.parametrize("name", STATISTICS)
    def test_every_statistic_answers_in_every_form(self, name: str, folder: Path, run: Run) -> None:
        function = catalogue.find("statistics", name)
        found = function(*(run.table(table) for table in catalogue.tables(function)))
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
    def test_it_tells_what_it_takes_without_a_run(self, name: str) -> None:
        told = right("stats", name)
        function = catalogue.find("statistics", name)
        assert f"tables    {', '.join(catalogue.tables(function))}" in told
        for key, default in catalogue.settings(function).items():
            assert f"settings  {key}={written(default)}" in told
            assert parsed(name, [f"{key}={written(default)}"])[key] == (
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
        found = catalogue.find("statistics", "pool_means")(rows.frame(made), by=["population"])
        assert "none" in tabular.render(found, "txt")
        assert json.loads(tabular.render(found, "json"))[0]["high"] is None
        assert "one pool" in tabular.render(found, "csv")

    def test_names_are_escaped_in_latex(self) -> None:
        odd = r"50% & $x_1$ {a} #2 ~ ^ \ <|>"
        made = [rows.candidate(pool, (0, 1), "uniform_soup", population=odd) for pool in range(2)]
        found = catalogue.find("statistics", "pool_means")(rows.frame(made), by=["population"])
        shown = tabular.render(found, "tex")
        assert odd not in shown
        assert r"50\% \& \$x\_1\$ \{a\} \#2 \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{}" in shown
        inside = re.sub(r"\\[%&$#_{}\\]|\\\w+(\{\})?", "", shown.split(r"\midrule")[1].split(r"\bottomrule")[0])
        assert not set("%$#_{}~^") & set(inside)
        assert shown.count(" & ") % 2 == 0

    def test_a_file_says_its_form_by_its_ending(self, folder: Path, tmp_path: Path) -> None:
        for ending in tabular.FORMS:
            path = tmp_path / f"x.{ending}"
            assert right("stats", "pool_means", folder, "-o", path) == f"{path}\n"
            flags = [] if ending == "txt" else [f"--{ending}"]
            assert path.read_text(encoding="utf-8") == right("stats", "pool_means", folder, *flags)
        assert "end in one of" in wrong("stats", "pool_means", folder, "-o", tmp_path / "x.xls")

    def test_mistakes_are_told_with_what_to_do(self, folder: Path, tmp_path: Path) -> None:
        assert "did you mean `pool_means`" in wrong("stats", "pool_mean", folder)
        assert "did you mean `metric`" in wrong("stats", "pool_means", folder, "metrc=brier")
        assert "`x` is not a number or none" in wrong("stats", "paired_difference", folder, "margin=x")
        assert "one of `pools`, `these cells`" in wrong("stats", "paired_difference", folder, "over=cells")
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


class TestCompare:
    def test_a_run_equals_itself(self, folder: Path, run: Run) -> None:
        found = json.loads(right("compare", folder, folder, "--assert-equal", "--json"), parse_constant=pytest.fail)
        assert found["equal"] is True
        assert found["rows"] == {"both": len(run.candidates), "only a": 0, "only b": 0}
        assert found["numbers"]["accuracy"]["largest"] == 0
        assert found["first"] == found["config"] == []

    def test_every_kind_of_difference_is_counted(self, folder: Path, tmp_path: Path) -> None:
        def change(made: list[dict[str, Any]]) -> None:
            made[0]["accuracy"] += 0.25
            made[1]["accuracy"] -= 0.05
            made[2] |= {"status": "failed", "accuracy": None}
            made[3]["code_version"] = "9.9"
            del made[-1]
            made.append(rows.candidate(9, (0,), "single"))

        there = other(folder, tmp_path, change)
        (there / "sweep.yaml").write_text("name: made\nseed: 2\n", encoding="utf-8")
        result = ask("compare", folder, there, "--json")
        assert result.exit_code == 0
        found = json.loads(result.stdout, parse_constant=pytest.fail)
        assert found["equal"] is False
        assert (found["rows"]["only a"], found["rows"]["only b"]) == (1, 1)
        known = found["numbers"]["accuracy"]["rows"]
        assert found["numbers"]["accuracy"]["largest"] == pytest.approx(0.25)
        assert found["numbers"]["accuracy"]["mean"] == pytest.approx(0.3 / known)
        assert found["numbers"]["accuracy"]["differ"] == 3
        assert found["numbers"]["cross_entropy"]["differ"] == 0
        assert found["statuses"] == [{"a": "ok", "b": "failed", "rows": 1}]
        assert {one["what"] for one in found["first"]} == {"only in a", "only in b", "status", "accuracy"}
        assert "+seed: 2" in found["config"]
        assert found["code"]["b"] == ["9.9"]
        shown = right("compare", folder, there)
        assert "1 only in a, 1 only in b" in shown
        assert "status: 1 rows ok in a, failed in b" in shown

    def test_equality_is_asserted_within_the_tolerance(self, folder: Path, tmp_path: Path) -> None:
        def change(made: list[dict[str, Any]]) -> None:
            made[0]["cross_entropy"] += 1e-4

        there = other(folder, tmp_path, change)
        result = ask("compare", folder, there, "--assert-equal")
        assert result.exit_code == 1
        assert "error: the runs differ" in result.stderr
        assert re.search(r"cross_entropy +0\.3 +0\.3001", result.stdout)
        assert ask("compare", folder, there, "--assert-equal", "--tolerance", "1e-3").exit_code == 0
        assert "below 0" in wrong("compare", folder, there, "--tolerance", "-1")

    def test_metrics_without_a_column_are_compared(self, tmp_path: Path) -> None:
        def made(name: str, text: str | None) -> Path:
            one = rows.candidate(0, (0,), "single", other_metrics=text)
            return rows.write(tmp_path / name, {"candidates": [one]}, {})

        a, b, c = made("a", '{"f1": 0.5}'), made("b", '{"f1": 0.75}'), made("c", None)
        assert json.loads(right("compare", a, b, "--json"))["numbers"]["f1"]["largest"] == 0.25
        told = json.loads(right("compare", a, c, "--json"))["numbers"]["f1"]
        assert told == {"rows": 0, "largest": None, "mean": None, "differ": 1}
        assert ask("compare", a, b, "--assert-equal").exit_code == 1


class TestCite:
    def test_the_rows_say_what_is_cited(self, folder: Path) -> None:
        found = right("cite", folder)
        for key in ("wang2024rethinking", "wortsman2022soups", "frankle2020linear", "brier1950verification"):
            assert found.count(f"{{{key},") == 1
        assert "lecun1998gradient" not in found
        assert re.search(r"^% .*methods/uniform_soup.*\n@inproceedings\{wortsman2022soups,", found, re.MULTILINE)

    def test_a_name_without_a_work_is_told(self, tmp_path: Path) -> None:
        own = rows.candidate(0, (0, 1), "my.module:mine", other_metrics='{"f1": 0.5}')
        result = ask("cite", rows.write(tmp_path / "run", {"candidates": [own]}, {}))
        assert "no work is known for methods/my.module:mine, metrics/f1" in result.stderr

    @pytest.mark.parametrize("kind", SWEEP_KINDS)
    def test_every_name_of_the_folders_has_a_work_or_needs_none(self, kind: str) -> None:
        files = {path.stem for path in (ROOT / "sweep" / kind).glob("[!_]*.py")}
        assert files - set(citations.CITED[kind]) == set()

    def test_every_statistic_has_a_work_or_needs_none(self) -> None:
        assert set(STATISTICS) - set(citations.CITED["statistics"]) == set()

    def test_works_and_names_belong_together(self) -> None:
        works = citations.entries()
        named = {key for names in citations.CITED.values() for keys in names.values() for key in keys}
        assert named | {*citations.SYSTEM, *citations.FAMILIES} == set(works)

    def test_every_entry_is_bibtex_with_author_title_and_year(self) -> None:
        text = Path(citations.__file__).with_suffix(".bib").read_text(encoding="utf-8")
        works = citations.entries()
        assert text.count("\n@") == len(works)
        for key, entry in works.items():
            assert entry.count("{") == entry.count("}"), key
            fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry, re.MULTILINE))
            assert {"author", "title", "year"} <= set(fields), key
            assert fields["year"] in key
            assert len(fields) == entry.count("\n") - 2


class TestManyRows:
    """What a run folder gives holds texts as categories: everything must say the same of them as of plain texts."""

    def test_a_folder_holds_the_rows_that_were_written(self, run: Run) -> None:
        plain = rows.frame(rows.every_candidate()).sort_values(["candidate_id", "split"], ignore_index=True)
        found = run.candidates.astype(dict.fromkeys(["error", "other_metrics"], "str"))
        assert found["subset"].astype(str).tolist() == ["|".join(members) for members in plain["members"]]
        found = found.drop(columns="subset").astype(plain.dtypes.to_dict())
        for name in ("members", "member_indices"):
            assert [list(one) for one in found.pop(name)] == [list(one) for one in plain.pop(name)]
        pd.testing.assert_frame_equal(found, plain, check_column_type=False)

    @pytest.mark.parametrize("name", STATISTICS)
    def test_every_statistic_says_the_same_of_categories_as_of_texts(self, name: str, run: Run) -> None:
        function = catalogue.find("statistics", name)
        tables = [run.table(table) for table in catalogue.tables(function)]
        found = function(*tables)
        pd.testing.assert_frame_equal(found, function(*map(plainly, tables)), check_dtype=False, rtol=1e-9)

    @pytest.mark.parametrize("name", catalogue.names("figures"))
    def test_every_figure_shows_the_same_of_categories_as_of_texts(self, name: str, run: Run) -> None:
        from analysis.draw import draw

        plain = Run(run.folder, run.info, run.config, {table: plainly(run.table(table)) for table in KEYS})
        found, meant = draw(name, run).data, draw(name, plain).data
        pd.testing.assert_frame_equal(
            found.reset_index(drop=True), meant.reset_index(drop=True), check_dtype=False, check_categorical=False
        )

    def test_lists_and_texts_are_held_once(self, run: Run) -> None:
        held = {id(members) for members in run.candidates["members"]}
        assert len(held) == run.candidates["subset"].nunique()
        assert run.candidates["method"].cat.categories.is_monotonic_increasing

    def test_only_planned_rows_are_read(self, tmp_path: Path) -> None:
        made = [rows.candidate(pool, (0,), "single") for pool in range(3)]
        folder = rows.write(tmp_path / "run", {"candidates": made}, {})
        ids = [row["candidate_id"] for row in made]
        pools = [row["pool_id"] for row in made]
        plan = pa.table({"candidate_id": ids, "pool_id": pools, "planned": [True, False, True]})
        pq.write_table(plan, folder / "plan.parquet")
        assert set(load(folder).candidates["candidate_id"]) == {ids[0], ids[2]}

    def test_rows_without_members_are_read(self, tmp_path: Path) -> None:
        made = [rows.candidate(0, (0,), "single"), rows.candidate(0, (1,), "single")]
        made[0] |= {"members": None, "member_indices": None}
        found, _ = frame(rows.write(tmp_path / "run", {"candidates": made}, {}), "candidates", KEYS["candidates"])
        assert sorted(map(str, found["members"])) == ["None", "['people-0-1']"]
        assert found["subset"].isna().sum() == 1

    def test_groups_are_those_of_pandas(self) -> None:
        random = np.random.default_rng(0)
        plain = pd.DataFrame({name: random.choice([*"abc", None], 200) for name in "xyz"})
        plain["number"] = random.choice([1.5, 0.5, np.nan], 200)
        for made in (plain, plain.astype({"x": "category", "y": "category"})):
            number, first = numbered(made, list(made))
            meant = plain.groupby(list(plain), dropna=False, sort=True).ngroup().to_numpy()
            np.testing.assert_array_equal(number, meant)
            np.testing.assert_array_equal(first, np.unique(meant, return_index=True)[1])
        number, first = numbered(plain, [])
        assert (number == 0).all()
        assert first.tolist() == [0]

    def test_many_columns_of_many_values_do_not_overflow(self) -> None:
        wide = pd.DataFrame({f"c{i}": np.random.default_rng(i).permutation(2000) for i in range(12)})
        twice = pd.concat([wide, wide], ignore_index=True)
        number, first = numbered(twice, list(twice))
        assert (len(first), sorted(number[:2000])) == (2000, [*range(2000)])
        np.testing.assert_array_equal(number[:2000], number[2000:])

    def test_frames_with_other_categories_are_stacked_as_categories(self) -> None:
        one = pd.DataFrame({"x": pd.Categorical(["b", "d"]), "n": [1, 2]})
        both = stacked(one, pd.DataFrame({"n": [3, 4], "x": ["c", None]}))
        assert both["x"].cat.categories.tolist() == ["b", "c", "d"]
        assert both["x"].isna().tolist() == [False, False, False, True]

    def test_estimates_over_pools_are_plain_means(self) -> None:
        random = np.random.default_rng(1)
        values = pd.DataFrame({"group": random.choice([*"abc"], 400), "pool_id": random.choice([*"pqrs"], 400)})
        values = values.assign(value=random.normal(size=400), reason=random.choice(["", "", "lost"], 400))
        found = over_pools(values, ["group"], estimand="x").set_index("group")
        used = values[values["reason"] == ""]
        for group, one in used.groupby("group"):
            means = one.groupby("pool_id")["value"].mean()
            assert found.loc[group, "estimate"] == pytest.approx(means.mean(), rel=1e-12)
            assert found.loc[group, "se"] == pytest.approx(means.std() / 2, rel=1e-12)
            lost = int((values["group"] == group).sum()) - len(one)
            assert found.loc[group, "warnings"] == (f"{lost} rows left out: lost",)

    def test_no_bit_of_an_estimate_depends_on_the_order_of_rows(self) -> None:
        random = np.random.default_rng(2)
        values = pd.DataFrame({"group": "a", "pool_id": random.choice([*"pqrs"], 5000), "reason": ""})
        values = values.assign(value=random.normal(size=5000))
        one = over_pools(values, ["group"], estimand="x")
        pd.testing.assert_frame_equal(one, over_pools(values.sample(frac=1, random_state=1), ["group"], estimand="x"))
        assert one["estimate"].item() == over_pools(values[::-1], ["group"], estimand="x")["estimate"].item()

    def test_mean_members_are_made_once(self, run: Run) -> None:
        made = with_mean_member(comparable(run.candidates))
        assert with_mean_member(made) is made
        assert isinstance(made["label"].dtype, pd.CategoricalDtype)
        single = labelled(run.candidates).query("label == 'single'").set_index("subset")["accuracy"]
        means = made[made["label"] == "mean_member"]
        meant = [single[list(members)].mean() for members in means["members"]]
        np.testing.assert_allclose(means["accuracy"], meant, rtol=1e-12)


def plainly(table: pd.DataFrame) -> pd.DataFrame:
    """A table with plain texts and without what reading adds."""
    categories = [name for name, column in table.items() if isinstance(column.dtype, pd.CategoricalDtype)]
    return table.astype(dict.fromkeys(categories, "str")).drop(columns="subset", errors="ignore")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with one figure to draw."""
    made = {"curves": rows.curves(pools=1), "members": rows.members(pools=1)}
    return rows.write(tmp_path_factory.mktemp("runs") / "small", made, {"sweep": "small"})


@pytest.fixture(scope="module")
def written_down(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run in Markdown."""
    path = tmp_path_factory.mktemp("reports") / "my report.md"
    right("report", folder, "-o", path)
    return path


class TestReport:
    def test_the_format_follows_the_ending_and_the_ending_the_format(self, small: Path, tmp_path: Path) -> None:
        assert right("report", small, "-o", tmp_path / "x.md") == f"{tmp_path / 'x.md'}\n"
        assert (tmp_path / "x.md").read_text(encoding="utf-8").startswith("# small\n")
        assert right("report", small, "--format", "md") == f"{small / 'report.md'}\n"
        assert right("report", small, "-o", tmp_path / "x.htm") == f"{tmp_path / 'x.htm'}\n"
        assert (tmp_path / "x.htm").read_text(encoding="utf-8").startswith("<!doctype html>")

    def test_markdown_links_to_files_that_are_there(self, written_down: Path) -> None:
        links = re.findall(r"\]\(<([^>]+)>\)", written_down.read_text(encoding="utf-8"))
        assert {Path(link).stem for link in links} == set(catalogue.names("figures"))
        assert {Path(link).suffix for link in links} == {".svg", ".csv"}
        assert all((written_down.parent / link).stat().st_size for link in links)

    def test_markdown_tables_have_as_many_cells_as_heads(self, written_down: Path) -> None:
        text = written_down.read_text(encoding="utf-8")
        blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
        assert len(blocks) >= 4
        for head, rule, *body in blocks:
            assert set(rule) <= set("|-: ")
            assert body
            assert {len(re.split(r"(?<!\\)\|", line)) for line in (head, rule, *body)} == {head.count("|") + 1}

    def test_markdown_of_odd_names_is_text(self, tmp_path: Path) -> None:
        odd = "a|b *c* <i> $x$ [d](e) `f`\n# g"
        made = {"candidates": rows.candidates(pools=2, members=3, sizes=(2,), population=odd)}
        folder = rows.write(tmp_path / "run", made, {"sweep": odd})
        right("report", folder, "--format", "md")
        text = (folder / "report.md").read_text(encoding="utf-8")
        assert r"a\|b \*c\* \<i\> \$x\$ \[d\](e) \`f\` # g" in text
        assert "<i>" not in text
        assert "\n# g" not in text

    def test_markdown_says_the_same_twice(self, folder: Path, written_down: Path, tmp_path: Path) -> None:
        right("report", folder, "-o", tmp_path / written_down.name)
        files = [path.relative_to(written_down.parent) for path in written_down.parent.rglob("*.*")]
        assert len(files) > 2
        assert all((written_down.parent / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)

    def test_without_a_browser_a_pdf_is_refused(
        self, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        told = wrong("report", small, "--format", "pdf")
        assert "no browser that prints" in told
        assert "print it from there" in told

    def test_a_browser_that_fails_is_told(self, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = tmp_path / "chromium"
        program.write_text("#!/bin/sh\necho 'no display' >&2\nexit 1\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        assert "printed nothing: no display" in wrong("report", small, "-o", tmp_path / "x.pdf")
        assert not (tmp_path / "x.pdf").exists()


def test_the_module_is_the_command(folder: Path) -> None:
    command = [sys.executable, "-m", "analysis.cli", "stats", "pool_means", str(folder), "--csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("population,space,label,n_members,estimand,")


def test_an_unknown_form_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="no report in `docx`"):
        report.write(run, tmp_path / "x.docx", form="docx")

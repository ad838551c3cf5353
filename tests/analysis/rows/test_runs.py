"""Several run folders read as one: whose pools they are, what is read once, and what is not mixed without a note."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.core import registry
from analysis.core.errors import AnalysisError
from analysis.report.claims import answers
from analysis.rows.run import load
from analysis.rows.runs import load_runs
from analysis.statistics.paired_difference import paired_difference
from analysis.statistics.pool_means import pool_means
from sweep.storage.columns import KEYS
from tests.helpers import rows
from tests.helpers.analysis_verbs import ask, right, wrong


def renumbered(made: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The rows as of other pools: every id has another beginning, every name of the population stays."""
    text = json.dumps(made, default=str).replace("people-", f"{name}-")
    found: list[dict[str, Any]] = json.loads(text)
    return found


def folder(place: Path, *, pools: int = 3, ids: str = "people", **values: Any) -> Path:
    """A run folder of the population `people` whose ids begin with another text."""
    tables = {"candidates": rows.candidates(pools=pools, **values), "members": rows.members(pools=pools, members=4)}
    made = {name: renumbered(of, ids) for name, of in tables.items()}
    return rows.write(place, made, {"schema_version": 1, "sweep": place.name})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("runs")
    return rows.run_folder(base / "a", pools=3), rows.run_folder(base / "b", pools=4, population="others", seed=3)


def test_one_folder_is_read_as_before(pair: tuple[Path, Path]) -> None:
    one = load_runs(pair[:1])
    assert not one.several
    pd.testing.assert_frame_equal(one.candidates, load(pair[0]).candidates)
    assert "run" not in one.candidates


@pytest.mark.parametrize("name", sorted(KEYS))
def test_every_table_has_the_rows_of_both_runs(pair: tuple[Path, Path], name: str) -> None:
    both = load_runs(pair)
    found = both.table(name)
    parts = {path.name: load(path).table(name) for path in pair}
    assert found["run"].value_counts().to_dict() == {run: len(part) for run, part in parts.items()}
    assert both.has(name) == any(load(path).has(name) for path in pair)
    for run, part in parts.items():
        own = found[found["run"] == run].drop(columns="run").reset_index(drop=True)
        pd.testing.assert_frame_equal(own.astype(object), part.astype(object))
    assert list(found.dtypes[found.dtypes == "category"].index.drop("run")) == list(
        parts["a"].dtypes[parts["a"].dtypes == "category"].index
    )


def test_statistics_are_those_of_the_rows_side_by_side(pair: tuple[Path, Path]) -> None:
    both = load_runs(pair)
    assert both.populations == ["others", "people"]
    assert both.warnings == []
    each = pd.concat([pool_means(load(path).candidates) for path in reversed(pair)], ignore_index=True)
    found = pool_means(both.candidates)
    pd.testing.assert_frame_equal(found.astype(object), each.astype(object))
    by_run = pool_means(both.candidates, by=["run", "label"])
    own = pool_means(load(pair[1]).candidates, by=["label"])
    found = by_run[by_run["run"] == "b"].drop(columns="run").reset_index(drop=True)
    pd.testing.assert_frame_equal(found.astype(object), own.astype(object))
    cells = paired_difference(both.candidates, over="these cells", by=["n_members"])
    assert cells["n_units"].tolist() == [7, 7]


def test_a_pool_of_two_runs_counts_once(tmp_path: Path) -> None:
    small = folder(tmp_path / "small", pools=2, sizes=(2,))
    large = folder(tmp_path / "large", pools=3, sizes=(2, 3))
    both = load_runs([small, large])
    alone = load(large)
    assert both.populations == ["people"]
    found = both.candidates
    assert set(found["candidate_id"]) == set(alone.candidates["candidate_id"])
    assert found["candidate_id"].is_unique
    assert both.members["member_id"].is_unique
    merged = pool_means(found)["n_units"]
    assert merged.tolist() == pool_means(alone.candidates)["n_units"].tolist()
    shared = len(load(small).candidates)
    (note,) = [text for text in both.warnings if text.startswith("candidates")]
    assert note.startswith(f"candidates: {shared} rows that are in several runs were read once, from the first run")
    (grid,) = [text for text in both.warnings if "sizes of subsets" in text]
    assert "small: 2; large: 2, 3" in grid


def test_the_first_row_that_is_ok_is_kept_and_differences_are_counted(tmp_path: Path) -> None:
    def lone(name: str, **values: Any) -> Path:
        made = [rows.candidate(0, (0, 1), "uniform_soup", **values), rows.candidate(0, (0, 2), "uniform_soup")]
        return rows.write(tmp_path / name, {"candidates": made}, {})

    failed = lone("failed", status="failed", accuracy=None)
    first = lone("first", accuracy=0.5)
    second = lone("second", accuracy=0.6)
    assert load_runs([failed, second]).candidates["accuracy"].sort_values().tolist() == [0.6, 0.9]
    both = load_runs([first, second])
    assert both.candidates["accuracy"].tolist() == [0.5, 0.9]
    assert both.candidates["run"].tolist() == ["first", "first"]
    expected = "candidates: 2 rows that are in several runs were read once, from the first run"
    assert both.warnings == [f"{expected}, 1 of them with another accuracy"]


def test_other_pools_under_one_name_and_number_stay_apart(tmp_path: Path) -> None:
    paths = [folder(tmp_path / name, ids=name) for name in ("a", "b")]
    both = load_runs(paths)
    assert both.populations == ["a/people", "b/people"]
    assert "population `people` of `b` is `b/people` here" in both.warnings
    assert both.members.groupby("population", observed=True)["pool_id"].nunique().to_dict() == {
        "a/people": 3,
        "b/people": 3,
    }
    part = both.only(["b/people"])
    assert set(part.candidates["run"]) == {"b"}
    with pytest.raises(AnalysisError, match="no population `people`"):
        both.only(["people"])


def shifted(path: Path, *, pools: int, first: int, **recipe: Any) -> Path:
    """A run folder of pools that are numbered from `first`."""
    made = [row for row in rows.candidates(pools=first + pools) if row["pool"] >= first]
    trained = [row | recipe for row in rows.members(pools=first + pools, members=4) if row["pool"] >= first]
    return rows.write(path, {"candidates": made, "members": trained}, {})


def test_further_pools_of_the_same_recipe_are_one_population(tmp_path: Path) -> None:
    paths = [
        shifted(tmp_path / "first", pools=2, first=0),
        shifted(tmp_path / "next", pools=3, first=2),
        shifted(tmp_path / "other", pools=3, first=5, training='{"epochs": 99}'),
    ]
    both = load_runs(paths[:2])
    assert both.populations == ["people"]
    assert both.candidates["pool_id"].nunique() == 5
    unlike = load_runs([paths[0], paths[2]])
    assert unlike.populations == ["first/people", "other/people"]
    # A run of an earlier version records no settings of training, another one does.
    assert unlike.candidates["training"].dropna().unique().tolist() == ['{"epochs": 99}']


def test_a_pool_under_another_name_keeps_the_first(tmp_path: Path) -> None:
    first = folder(tmp_path / "first", pools=2)
    renamed = [row | {"population": "new"} for row in rows.candidates(pools=3)]
    second = rows.write(tmp_path / "second", {"candidates": renamed}, {})
    both = load_runs([first, second])
    assert both.populations == ["people"]
    assert "population `new` of `second` is `people` here" in both.warnings
    assert both.candidates["pool_id"].nunique() == 3
    moved = [row | {"pool": row["pool"] + 1} for row in rows.candidates(pools=3)]
    third = rows.write(tmp_path / "third", {"candidates": moved}, {})
    with pytest.raises(AnalysisError, match="share pools, under other numbers"):
        load_runs([first, third])


def test_margins_must_agree_where_they_decide(tmp_path: Path) -> None:
    info = {"invocations": [{"margin": 0.02}]}
    paths = [rows.run_folder(tmp_path / "a"), rows.run_folder(tmp_path / "b", info, population="others")]
    with pytest.raises(AnalysisError, match=r"got a: 0\.005, b: 0\.02"):
        load_runs(paths, judged=True)
    assert len(load_runs(paths).candidates)
    assert "expected one margin" in wrong("claims", *paths)
    other = rows.run_folder(tmp_path / "c", info, population="third")
    assert load_runs([paths[1], other], judged=True).margin == 0.02


def test_folders_of_one_name_and_one_folder_twice(tmp_path: Path) -> None:
    paths = [rows.run_folder(tmp_path / "x" / "run"), rows.run_folder(tmp_path / "y" / "run", population="others")]
    assert set(load_runs(paths).candidates["run"]) == {str(path) for path in paths}
    with pytest.raises(AnalysisError, match="given twice"):
        load_runs([paths[0], paths[0] / "." / ".." / "run"])


def test_claims_are_those_of_all_pools(pair: tuple[Path, Path]) -> None:
    found = {one.name: one for one in answers(load_runs(pair, judged=True))}
    alone = {one.name: one for one in answers(load(pair[0]))}
    estimates = {name: one.finding.estimate for name, one in found.items() if one.finding}
    assert set(estimates) >= {name for name, one in alone.items() if one.finding}
    assert estimates["weights_or_logits"].n_units == 7
    assert not any(one.failed for one in found.values())


def test_every_verb_takes_several_runs(pair: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "both.html"
    assert right("report", *pair, "-o", page) == f"{page}\n"
    text = page.read_text(encoding="utf-8")
    assert "a runs" not in text
    assert f"analysis report {pair[0]} {pair[1]}" in text
    drawn = right("figure", "spaces", *pair, "-o", tmp_path / "x.csv")
    assert drawn == f"{tmp_path / 'x.csv'}\n"
    assert set(pd.read_csv(tmp_path / "x.csv")["population"]) == {"people", "others"}
    assert right("claims", *pair).count("supported") + right("claims", *pair).count("inconclusive")
    found = json.loads(right("stats", "pool_means", *pair, "by=run", "--json"))
    assert [row["run"] for row in found] == ["a", "b"]
    assert "no such run folder" in wrong("stats", "pool_means", pair[0], tmp_path / "nowhere")
    small = folder(tmp_path / "people", pools=2, sizes=(2,))
    result = ask("stats", "pool_means", pair[0], small, "by=run,label")
    assert "note: runs differ in sizes of subsets (a: 2, 3; people: 2)" in result.stderr


@pytest.mark.parametrize("name", registry.list_plugins("statistics"))
def test_every_statistic_answers_for_two_runs(pair: tuple[Path, Path], name: str) -> None:
    both = load_runs(pair)
    function = registry.get_plugin("statistics", name)
    found = function(*(both.table(table) for table in registry.tables(function)))
    assert len(found)
    assert found["estimate"].notna().any()

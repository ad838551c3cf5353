"""The parts of the report beside its figures: forest plot, statistics without a figure, corrected barriers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from analysis.cli.main import main
from analysis.core import registry
from analysis.core.errors import NothingToDrawError
from analysis.display import numbers
from analysis.report import page as report
from analysis.report.claims import Answer, answers
from analysis.report.forest import MEAN, NEW, draw_forest
from analysis.report.statistics_tables import TITLES, further
from analysis.report.tables import SPLIT_HALF, barriers
from analysis.rows.run import Run, load
from analysis.statistics.path_split_half import path_split_half
from analysis.statistics.two_way_difference import two_way_difference
from tests.analysis.report.test_claim_cells import CLAIM, population
from tests.helpers import rows
from tests.helpers.pages import parsed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load(rows.run_folder(tmp_path_factory.mktemp("runs") / "made", members=3, sizes=(2,)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five cells, one of which differs."""
    cells = [("cnn", "shared", 0.01), ("mlp", "shared", 0.012), ("vit", "shared", 0.009), ("resnet18", "shared", 0.011)]
    made = [population(name, gap, architecture=name, start=start) for name, start, gap in cells]
    made.append(population("scratch", -0.03, start="scratch"))
    tables = {"candidates": [row for one in made for row in one]}
    return rows.write(tmp_path_factory.mktemp("runs") / "cells", tables, {"schema_version": 1, "sweep": "made"})


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """One figure in the place of all: they take ten seconds."""
    others = registry.list_plugins
    monkeypatch.setattr(registry, "list_plugins", lambda kind: ["spaces"] if kind == "figures" else others(kind))


def asked(folder: Path) -> list[Answer]:
    return answers(load(folder))


def test_the_forest_has_a_line_per_cell_and_those_of_the_mean(folder: Path) -> None:
    found = {one.name: one for one in asked(folder)}
    plot = draw_forest(list(found.values()))
    own = plot.data[plot.data["claim"] == CLAIM].set_index("line")
    cells = found[CLAIM].by_cell
    assert cells is not None
    assert cells.together is not None
    assert list(own.index) == [*(one.name for one in cells.cells), MEAN, NEW]
    for one in cells.cells:
        estimate = one.estimate
        expected = [100 * end for end in (estimate.estimate, estimate.low, estimate.high)]
        assert own.loc[one.name, ["estimate", "low", "high"]].tolist() == pytest.approx(expected)
        assert own.loc[one.name, "verdict"] == one.verdict
    assert own.loc[NEW, "low"] == pytest.approx(100 * cells.together.new_low)
    assert len(plot.figure.axes) == plot.data["claim"].nunique()


def test_no_text_of_the_forest_is_cut(folder: Path) -> None:
    figure = draw_forest(asked(folder)).figure
    figure.draw_without_rendering()
    box = figure.bbox.padded(1)
    for axes in figure.axes:
        for text in (axes._left_title, axes.xaxis.label, *axes.texts, *axes.get_yticklabels()):  # type: ignore[attr-defined]
            extent = text.get_window_extent()
            assert box.contains(*extent.p0), text.get_text()
            assert box.contains(*extent.p1), text.get_text()


def test_one_cell_has_no_forest(run: Run) -> None:
    with pytest.raises(NothingToDrawError, match="no claim with two cells"):
        draw_forest(answers(run))


def test_the_verb_draws_the_forest(folder: Path, tmp_path: Path) -> None:
    for suffix, first in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".csv", b"claim,")):
        path = tmp_path / f"forest{suffix}"
        result = CliRunner().invoke(main, ["claims", str(folder), "--forest", str(path)])
        assert result.exit_code == 0, result.output
        assert path.read_bytes().startswith(first)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("form", ["html", "md"])
def test_the_report_has_scope_cells_and_forest(folder: Path, tmp_path: Path, form: str) -> None:
    page = tmp_path / f"report.{form}"
    assert report.write(load(folder), page, form=form) == []
    text = page.read_text(encoding="utf-8")
    assert "depends on start" in text
    assert "refuted in cnn on digits, scratch start (8 pools)" in text
    assert "tau " in text
    if form == "html":
        assert parsed(text).open == []
        assert '<figure id="forest">' in text
    else:
        assert (tmp_path / "report_files" / "forest.svg").is_file()
        assert "report_files/forest.svg" in text


def test_statistics_without_a_figure_are_on_the_page(run: Run) -> None:
    found = {one["name"]: one for one in further(run)}
    assert list(found) == list(TITLES)
    assert "margin=0.005" in found["two_way_difference"]["settings"]
    numbers_of = two_way_difference(run.candidates, run.table("predictions"), margin=0.005)
    heads = [head for head, _ in found["two_way_difference"]["heads"]]
    assert len(found["two_way_difference"]["table"].rows) == len(numbers_of)
    shown = found["two_way_difference"]["table"].rows[0][heads.index("estimate")]
    assert float(shown.replace(numbers.MINUS, "-")) == pytest.approx(numbers_of["estimate"].iloc[0], abs=1e-4)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("form", ["html", "md"])
def test_the_page_has_these_tables(run: Run, tmp_path: Path, form: str) -> None:
    page = tmp_path / f"report.{form}"
    assert report.write(run, page, form=form) == []
    text = page.read_text(encoding="utf-8")
    assert all(title in text for title in TITLES.values())
    assert SPLIT_HALF in text


def without(run: Run, *names: str) -> Run:
    kept = {name: run.table(name) for name in ("candidates", "members", "curves")}
    empty = {name: rows.frame([], name) for name in names}
    return Run(run.folder, run.info, "", kept | empty)


def test_without_predictions_there_is_no_table_that_needs_them(run: Run) -> None:
    found = [one["name"] for one in further(without(run, "predictions"))]
    assert found == ["chosen_members", "stages", "dominance", "power"]


def test_the_first_barrier_is_the_corrected_one(run: Run) -> None:
    found = barriers(run.candidates, run.table("predictions"))
    assert [row["quantity"] for row in found][:2] == [SPLIT_HALF, "chord barrier"]
    expected = path_split_half(run.candidates, run.table("predictions")).iloc[0]
    assert found[0]["estimate"] == numbers.signed(100 * expected["estimate"], 2)
    assert found[0]["interval"] == numbers.interval(100 * expected["low"], 100 * expected["high"], 2)
    plain: list[dict[str, Any]] = barriers(run.candidates)
    assert SPLIT_HALF not in set(pd.DataFrame(plain)["quantity"])
    assert plain == [row for row in found if row["quantity"] != SPLIT_HALF]

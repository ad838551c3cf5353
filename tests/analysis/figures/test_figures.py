"""Figures: general tests of every file of the folder, and special cases of single figures."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.core import registry
from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.display import style
from analysis.display.draw import draw, inline, save
from analysis.rows.run import Run, load
from sweep.storage.columns import KEYS
from tests.helpers import rows

FIGURES = registry.list_plugins("figures")


def run_of(candidates: list[dict[str, Any]], curves: list[dict[str, Any]], **others: list[dict[str, Any]]) -> Run:
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in KEYS}
    tables |= {"curves": curves, "candidates": candidates} | others
    frames = {name: rows.frame(made, name) for name, made in tables.items()}
    return Run(Path("runs/made"), {}, "", frames)


def ten() -> Run:
    made = [rows.candidate(0, (index,), "single", accuracy=0.8) for index in range(2)]
    made += [rows.candidate(0, (0, 1), "uniform_soup")]
    made += [rows.candidate(0, (0, 1), "logit_average", space="logits")]
    made += [rows.candidate(0, (0, 1), "feature_average", space="features", settings='{"head": "first"}')]
    scaled = {"scaling": "magnify", "scaling_members": "all"}
    for factor in (0.5, 2.0):
        settings = f'{{"factor": {factor}, "members": "all"}}'
        columns = {**scaled, "scaling_factor": factor, "scaling_settings": settings, "accuracy": 0.5}
        made += [rows.candidate(0, (0, 1), "uniform_soup", **columns)]
    made += [rows.candidate(0, (0, 1), "interpolation", settings=f'{{"weight": {w}}}') for w in (0, 0.5, 1)]
    assert len(made) == 10
    made += rows.planes(pools=1, members=3)[:9]
    made += rows.normed(made)
    small: dict[str, Any] = {"pools": 1, "members": 3}
    others = {"members": rows.members(**small), "pairs": rows.pairs(**small)}
    others |= {"layers": rows.layers(**small), "templates": rows.templates(**small)}
    others["predictions"] = rows.both_splits(made)
    return run_of(made, rows.curves(**small, epochs=5), **others)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load(rows.run_folder(tmp_path_factory.mktemp("run")))


@pytest.mark.parametrize("name", FIGURES)
class TestEveryFigure:
    def test_it_draws_from_ten_rows(self, name: str, tmp_path: Path) -> None:
        plot = draw(name, ten())
        assert isinstance(plot.figure, Figure)
        assert len(plot.data)
        assert "pool; n = 1" in plot.replication
        for suffix in ("svg", "pdf", "png", "csv"):
            path = tmp_path / f"{name}.{suffix}"
            save(plot, name, path)
            assert path.stat().st_size > 100

    def test_its_docstring_is_a_caption(self, name: str) -> None:
        caption = registry.caption(registry.get_plugin("figures", name))
        assert len(caption) >= 2
        assert 40 <= len(caption[0]) <= 200
        assert all(text.endswith(".") for text in caption)
        assert "pool" in " ".join(caption)

    def test_it_asks_for_tables_only(self, name: str) -> None:
        function = registry.get_plugin("figures", name)
        assert set(inspect.signature(function).parameters) <= set(KEYS)

    def test_equal_rows_give_equal_bytes(self, name: str, run: Run, tmp_path: Path) -> None:
        plots = (draw(name, run), draw(name, run))
        for suffix in ("svg", "pdf"):
            files = (tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}")
            for plot, file in zip(plots, files, strict=True):
                save(plot, name, file)
            assert files[0].read_bytes() == files[1].read_bytes()

    def test_every_axis_has_a_name_and_no_text_is_cut(self, name: str, run: Run) -> None:
        figure = draw(name, run).figure
        figure.draw_without_rendering()
        box = figure.bbox.padded(1)
        for axes in figure.axes:
            for text in (axes.yaxis.label, axes.xaxis.label, axes.title, axes._left_title, *_headings(axes)):
                extent = text.get_window_extent()
                assert not text.get_text() or (box.contains(*extent.p0) and box.contains(*extent.p1)), text.get_text()
        assert all(axes.get_xlabel() for axes in figure.axes if axes.get_subplotspec().is_last_row())
        assert all(axes.get_ylabel() for axes in figure.axes if axes.get_subplotspec().is_first_col())

    def test_without_rows_it_says_why(self, name: str) -> None:
        with pytest.raises(NothingToDrawError, match="no "):
            draw(name, run_of([], []))

    def test_names_with_markup_and_dollars_are_plain_text(self, name: str) -> None:
        odd = "<b>&$x_$"
        small: dict[str, Any] = {"pools": 2, "members": 3, "population": odd}
        others = {"members": rows.members(**small), "pairs": rows.pairs(**small)}
        others |= {"layers": rows.layers(**small), "templates": rows.templates(**small)}
        candidates = rows.candidates(**small, sizes=(2,)) + rows.planes(**small)
        candidates += rows.normed(candidates)
        others["predictions"] = rows.both_splits(candidates)
        made = run_of(candidates, rows.curves(population=odd), **others)
        text = inline(draw(name, made), name, "x")
        assert "<b>" not in text
        assert "&lt;b&gt;&amp;$x_$" in text

    def test_inside_a_page_it_stands_alone(self, name: str, run: Run) -> None:
        text = inline(draw(name, run), name, "x")
        assert "http" not in text
        assert all(part.startswith(f"{name}-") for part in text.split('id="')[1:])


def _headings(axes: Any) -> list[Any]:
    """The secondary lines above a panel."""
    return [text for text in axes.texts if text.get_color() == style.MUTED and text.xy[1] == 1 and text.xy[0] == 0]


def test_a_predictor_that_one_population_lacks_leaves_its_panels_empty() -> None:
    made = rows.candidates(population="people") + rows.candidates(population="others")
    pairs = rows.pairs(population="people") + [row | {"cka": None} for row in rows.pairs(population="others")]
    tables = {"candidates": rows.frame(made), "pairs": rows.frame(pairs, "pairs")}
    plot = draw("kinship", Run(Path("runs/made"), {}, "", tables))
    shown = plot.data.drop_duplicates(["population", "predictor"]).groupby("population")["predictor"].agg(set)
    assert shown["people"] - shown["others"] == {"cka"}
    assert [axes.axison for axes in plot.figure.axes].count(False) == 2


def test_every_label_looks_different() -> None:
    bases = [("weights", m) for m in ("uniform_soup", "greedy_soup")] + [("logits", "logit_average")]
    bases += [("features", f"feature_average (head={head})") for head in ("first", "average")]
    labels = [(space, base + step) for space, base in bases for step in ("", " + reset_bn", " + weight_matching")]
    looks = style.looks(pd.DataFrame(labels, columns=["space", "label"]))
    in_grey = {(look["marker"], look["fillstyle"], str(look["linestyle"])) for look in looks.values()}
    assert len(in_grey) == len(labels)


def test_rows_that_are_not_finite_are_never_drawn_as_accuracy(run: Run) -> None:
    plot = draw("scale", run)
    overflows = plot.data[plot.data["non_finite"] > 0]
    assert set(overflows["scaling_factor"]) == {1000.0}
    assert overflows["estimate"].isna().all()
    for axes in plot.figure.axes:
        lines = [line for line in axes.lines if line.get_transform() == axes.transData]
        assert all(1000.0 not in np.asarray(line.get_xdata(), float) for line in lines)
        crosses = [line for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata())]
        assert [list(line.get_xdata()) for line in crosses] == [[1000.0]]


def test_the_unscaled_merge_stands_at_factor_one(run: Run) -> None:
    data = draw("scale", run).data
    assert {0.1, 0.5, 1.0, 2.0, 10.0, 1000.0} == set(data["scaling_factor"])
    assert set(data["arm"]) == {"all", "first"}


def chance_lines(figure: Figure) -> list[list[float]]:
    """The heights of the labelled lines of chance in each panel."""
    found = []
    for axes in figure.axes:
        heights = [float(np.asarray(line.get_ydata())[0]) for line in axes.lines if line.get_linestyle() == ":"]
        assert len(heights) == sum(text.get_text() == "chance" for text in axes.texts)
        assert all(axes.get_ylim()[0] <= height <= axes.get_ylim()[1] for height in heights)
        found.append(heights)
    return found


def test_chance_is_drawn_in_every_panel_of_scaled_weights() -> None:
    frame = rows.frame(rows.candidates())
    known = draw("scale", Run(Path("runs/made"), {}, "", {"candidates": frame}))
    assert [[pytest.approx(10)]] * 4 == chance_lines(known.figure)
    unknown = draw("scale", Run(Path("runs/made"), {}, "", {"candidates": frame.assign(chance=np.nan)}))
    assert not any(chance_lines(unknown.figure))


@pytest.mark.parametrize("name", ["pareto", "spaces", "paths"])
def test_chance_is_drawn_where_an_accuracy_is_nearer_to_it_than_to_one(name: str) -> None:
    made = rows.candidates()
    assert not any(chance_lines(draw(name, run_of(made, [], members=rows.members())).figure))
    for row in made:
        if row["method"] in ("uniform_soup", "interpolation") and row["accuracy"]:
            row["accuracy"] *= 0.5
    lines = chance_lines(draw(name, run_of(made, [], members=rows.members())).figure)
    assert sum(map(len, lines)) == 1


def test_one_pool_draws_no_interval() -> None:
    plot = draw("spaces", ten())
    assert not np.isfinite(plot.data["high"]).any()
    assert "no interval" in plot.replication


def test_one_collapse_does_not_flatten_the_gains() -> None:
    made = rows.candidates()
    for row in made:
        if row["method"] == "uniform_soup" and row["accuracy"]:
            row["accuracy"] *= 0.3
    panels = draw("spaces", run_of(made, [])).figure.axes
    assert [axes.get_yscale() for axes in panels] == ["linear", "symlog"]


def test_an_unknown_figure_is_answered_with_the_nearest(run: Run) -> None:
    with pytest.raises(AnalysisError, match="did you mean `spaces`"):
        draw("space", run)


def test_an_unknown_suffix_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"cannot write `\.gif`"):
        save(draw("paths", run), "paths", tmp_path / "x.gif")


def test_settings_of_steps_stay_out_of_a_key_where_names_suffice() -> None:
    soup = "feature_average (head=first) + reset_bn (batch=500, examples=2000)"
    assert style.short([soup, "single"]) == ["feature_average (head=first) + reset_bn", "single"]
    several = [soup, soup.replace("2000", "100")]
    assert style.short(several) == several
    assert style.short(["plain", "reset_bn (batch=500)"], methods=0) == ["plain", "reset_bn"]
    assert style.short([]) == []


@pytest.mark.parametrize("length", [4, 20, 45, 90])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_key_of_any_length_lies_within_its_figure(length: int, count: int) -> None:
    figure, _ = style.grid(1, 2)
    style.key(figure, [Line2D([], [], label=f"{index}".ljust(length, "m")) for index in range(count)], columns=9)
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    assert len(legend.get_texts()) == count
    assert figure.bbox.containsx(legend.get_window_extent().x1) or length == 90


def test_barriers_of_several_variants_stand_in_a_panel_of_their_own() -> None:
    made = rows.candidates()
    lone = draw("paths", run_of(made, []))
    line = [row for row in made if row["method"] == "interpolation"]
    repaired = [row | {"repair": "reset_bn", "candidate_id": f"r{row['candidate_id']}"} for row in line]
    both = draw("paths", run_of([*made, *repaired], []))
    assert len(both.figure.axes) == len(lone.figure.axes) + 1
    panel = both.figure.axes[-1]
    assert panel.get_xlabel() == "barrier (nats)"
    marks = [line.get_xydata()[0] for line in panel.lines if line.get_marker() == "o"]
    assert [place for _, place in sorted(marks, key=lambda mark: float(mark[1]))] == [0, 1]
    assert not any("barrier" in text.get_text() for axes in both.figure.axes for text in axes.texts)
    (barrier,) = [text.get_text() for text in lone.figure.axes[0].texts if "barrier" in text.get_text()]
    assert float(barrier.split()[1]) == pytest.approx(marks[0][0], abs=1e-3)

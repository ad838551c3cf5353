"""Reports of unusual runs: many populations, odd names, missing tables, failed rows, newer versions."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import analysis
from analysis.core import registry
from analysis.core.errors import AnalysisError
from analysis.display import style
from analysis.report import page as report
from analysis.rows.run import Run, load
from sweep.storage import tables as table
from tests.helpers import rows
from tests.helpers.analysis_verbs import ask, refused
from tests.helpers.pages import parsed

FIGURES = ["paths", "spaces"]


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two figures in the place of all, where what is around them is tested: all take ten seconds."""
    others = registry.list_plugins
    monkeypatch.setattr(registry, "list_plugins", lambda kind: FIGURES if kind == "figures" else others(kind))


class TestManyPopulations:
    @pytest.fixture
    def many(self, tmp_path: Path) -> Path:
        made = [row for name in ("cnn", "mlp", "vit") for row in rows.candidates(population=name)]
        return rows.write(tmp_path / "many", {"candidates": made})

    @pytest.mark.usefixtures("few_figures")
    @pytest.mark.parametrize("form", ["html", "md"])
    def test_a_report_draws_the_first_and_says_how_to_see_all(self, many: Path, tmp_path: Path, form: str) -> None:
        texts = {}
        page = tmp_path / f"report.{form}"
        for most in ("2", "all"):
            assert ask("report", many, "-o", page, "--populations", most).exit_code == 0
            texts[most] = page.read_text(encoding="utf-8")
        assert "1 more population." in texts["2"]
        assert "analysis figure spaces" in texts["2"]
        assert "more population" not in texts["all"]
        assert all("vit" in text for text in texts.values())

    def test_a_run_may_be_seen_as_some_of_its_populations(self, many: Path) -> None:
        whole = load(many)
        part = whole.only(["vit", "cnn"])
        assert (whole.populations, part.populations) == (["cnn", "mlp", "vit"], ["cnn", "vit"])
        kept = whole.candidates["population"] != "mlp"
        assert list(part.candidates["candidate_id"]) == list(whole.candidates["candidate_id"][kept])
        assert part.table("members").empty

    def test_a_figure_of_one_population_is_that_of_a_run_with_it_alone(self, many: Path, tmp_path: Path) -> None:
        alone = rows.write(tmp_path / "alone", {"candidates": rows.candidates(population="mlp")})
        drawn = [tmp_path / name for name in ("part.svg", "alone.svg")]
        assert ask("figure", "spaces", many, "--population", "mlp", "-o", drawn[0]).exit_code == 0
        assert ask("figure", "spaces", alone, "-o", drawn[1]).exit_code == 0
        assert drawn[0].read_bytes() == drawn[1].read_bytes()

    def test_unknown_populations_and_counts_are_refused(self, many: Path) -> None:
        assert "did you mean `vit`" in refused("figure", "spaces", many, "--population", "vitt")
        for count in ("0", "few", "-1"):
            assert "expected a number of populations" in refused("report", many, "--populations", count)


def test_names_are_escaped_everywhere(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    info = {"sweep": evil, "sweep_id": evil, "invocations": [{"command": evil, "versions": {evil: evil}}]}
    made = rows.candidates(pools=2, members=3, sizes=(2,), population=evil)
    made[5] |= {"status": "failed", "error": evil, "accuracy": None}
    made[6] |= {"settings": json.dumps({"head": evil})}
    tables = {"candidates": made, "curves": rows.curves(population=evil), "members": rows.members(population=evil)}
    folder = rows.write(tmp_path / "run", tables, info)
    (folder / "sweep.yaml").write_text(evil, encoding="utf-8")
    report.write(load(folder), folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "alert(1)" in text
    assert evil not in text
    assert parsed(text).open == []


@pytest.mark.usefixtures("few_figures")
@pytest.mark.parametrize("info", [{}, {"invocations": []}, {"invocations": [{}]}, {"invocations": [{"machine": None}]}])
def test_a_run_without_some_of_its_description_has_a_page(tmp_path: Path, info: dict[str, Any]) -> None:
    folder = rows.run_folder(tmp_path / "run", info, pools=1, members=2, sizes=(2,))
    report.write(load(folder), folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "no interval" in text
    assert ">nan<" not in text


@pytest.mark.parametrize("name", ["curves", "members", "candidates"])
def test_a_run_with_one_table_has_a_page(tmp_path: Path, name: str) -> None:
    made = {"curves": rows.curves, "members": rows.members, "candidates": rows.candidates}[name]()
    folder = rows.write(tmp_path / "run", {name: made})
    assert ask("report", folder).exit_code == 0


def test_a_run_whose_candidates_all_failed_has_a_page(tmp_path: Path) -> None:
    failure = {"status": "failed", "error": "ValueError: boom", "accuracy": None, "cross_entropy": None}
    made = [row | failure for row in rows.candidates(pools=2)]
    result = ask("report", rows.write(tmp_path / "run", {"candidates": made}))
    assert result.exit_code == 0, result.output
    assert "ValueError: boom" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_rows_without_cross_entropy_have_a_page(tmp_path: Path) -> None:
    made = [row | {"cross_entropy": None, "brier": None, "ece": None} for row in rows.candidates(pools=2)]
    result = ask("report", rows.write(tmp_path / "run", {"candidates": made}))
    assert result.exit_code == 0, result.output


def test_loading_reads_each_candidate_once_the_good_row_first(tmp_path: Path) -> None:
    made = rows.candidates(pools=1)
    failed = made[0] | {"status": "failed", "error": "x", "accuracy": None}
    folder = rows.write(tmp_path / "run", {"candidates": [failed, *made]})
    run = analysis.load(folder)
    assert len(run.candidates) == len(made)
    assert run.candidates["status"].ne("failed").all()
    assert "1 repeated rows" in run.warnings[0]


def test_a_broken_part_is_named(tmp_path: Path) -> None:
    folder = rows.run_folder(tmp_path / "run", pools=1)
    part = folder / "tables" / "candidates" / "parts" / "part.parquet"
    part.write_bytes(b"PAR1 cut short")
    assert str(part) in refused("report", folder)


def test_a_newer_folder_is_refused(tmp_path: Path) -> None:
    folder = rows.run_folder(tmp_path / "run", {"schema_version": table.SCHEMA_VERSION + 1}, pools=1)
    assert "newer than" in refused("report", folder)
    (folder / "run.json").unlink()
    path = folder / "tables" / "candidates" / "parts" / "part.parquet"
    newer = table.schema("candidates").with_metadata({"schema_version": "99"})
    pq.write_table(pa.Table.from_pylist(rows.candidates(pools=1), newer), path)
    with pytest.raises(AnalysisError, match="version 99"):
        load(folder)


@pytest.mark.usefixtures("few_figures")
@pytest.mark.parametrize("form", ["html", "md"])
def test_a_figure_that_fails_does_not_end_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    def draw(name: str, run: Run) -> style.Plot:
        if name == "paths":
            raise ZeroDivisionError("no <width>")
        return drawing.draw(name, run)

    drawing = SimpleNamespace(draw=report.draw.draw)
    monkeypatch.setattr(report.draw, "draw", draw)
    folder = rows.run_folder(tmp_path / "run", pools=2)
    path = tmp_path / f"report.{form}"
    failed = report.write(load(folder), path, form=form)
    text = path.read_text(encoding="utf-8")
    assert [one.partition(": ")[0] for one in failed] == ["figure paths"]
    section = text[text.rindex("Between two members") :]
    assert section.index("This figure failed: ") < 200
    assert "ZeroDivisionError: no" in text
    assert "no <width>" not in text
    assert "Weights, features or logits" in text


def test_figures_that_put_populations_into_one_panel_show_all_of_them(tmp_path: Path) -> None:
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in ("candidates", "templates")}
    for place, decay in enumerate((0.0, 0.1, 1.0)):
        name = f"decay {place}"
        tables["candidates"] += rows.candidates(pools=2, members=2, sizes=(2,), population=name)
        tables["templates"] += [row | {"weight_decay": decay} for row in rows.templates(pools=2, population=name)]
    run = load(rows.write(tmp_path / "run", tables, {"schema_version": 1}))
    found = {figure["name"]: figure for figure in report.context(run, lambda name, plot: {}, populations=1)["figures"]}
    assert {row[0] for row in found["spaces"]["table"]} == {"decay 0"}
    assert {row[0] for row in found["patterns"]["table"]} == {"decay 0", "decay 1", "decay 2"}
    assert (found["patterns"]["whole"], found["spaces"]["whole"]) == (True, False)

"""Numbers that are not finite, and parts of a report that fail: the rest is made."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.core import registry
from analysis.core.errors import AnalysisError
from analysis.display.draw import draw, inline
from analysis.report import page
from analysis.rows.run import Run, load
from tests.helpers import rows

SETTINGS = ("scaling_factor", "weight_decay", "mixup")
DAMAGES = ("some infinite", "all infinite", "some missing", "one row", "constant")


def damaged(folder: Path, damage: str) -> Run:
    """A whole run whose measured numbers are damaged, as it is read from its folder."""
    rows.run_folder(folder)
    for file in sorted(folder.rglob("*.parquet")):
        found = pq.read_table(file)
        found = found.slice(0, 1) if damage == "one row" else found
        for place, field in enumerate(found.schema):
            if field.type == pa.float64() and field.name not in SETTINGS:
                found = found.set_column(
                    place, field, pa.array(_damaged(found[field.name].to_pylist(), damage), pa.float64())
                )
        pq.write_table(found, file)
    return load(folder)


def _damaged(values: list[float | None], damage: str) -> list[float | None]:
    new = {"some missing": None, "constant": 0.5, "one row": values[0]}.get(damage, np.inf)
    return [old if damage.startswith("some") and place % 5 else new for place, old in enumerate(values)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_figure_statistic_and_claim_gives_a_result_or_says_why_not(damage: str, tmp_path: Path) -> None:
    run = damaged(tmp_path, damage)
    assert not damage.endswith("infinite") or any("infinite values" in one for one in run.warnings)
    failures = []
    for kind in registry.KINDS:
        for name in registry.list_plugins(kind):
            function = registry.get_plugin(kind, name)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    if kind == "figures":
                        inline(draw(name, run), name, "x")
                    else:
                        function(*(run.table(table) for table in registry.tables(function)))
            except AnalysisError:
                continue
            except Exception as error:
                failures.append(f"{kind}/{name}: {type(error).__name__}: {error}")
    assert failures == []


def test_a_figure_and_a_table_that_fail_leave_the_rest_standing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load(rows.run_folder(tmp_path / "run"))
    plain = page.draw.draw

    def failing(name: str, run: Run) -> Any:
        if name != "spaces":
            raise AnalysisError("x", "nothing") if name != "number" else ZeroDivisionError("by design")
        return plain(name, run)

    monkeypatch.setattr(page.draw, "draw", failing)
    monkeypatch.setattr(page.tables, "best", lambda _: {}["gone"])
    failed = page.write(run, tmp_path / "report.md", form="md")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert any(one.startswith("figure number: ") and one.endswith("ZeroDivisionError: by design") for one in failed)
    assert any(one.startswith("table best: ") and one.endswith("KeyError: 'gone'") for one in failed)
    assert "by design" in text
    assert (tmp_path / "report_files/spaces.svg").stat().st_size > 100

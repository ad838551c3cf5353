"""Numbers that are not finite, and parts of a report that fail: the rest is made."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.core import registry
from analysis.core.errors import AnalysisError
from analysis.display.draw import draw, inline
from analysis.report import page
from analysis.rows.run import Run, load
from sweep.storage.columns import KEYS
from sweep.storage.tables import schema
from tests.helpers import rows

DAMAGES = ("some infinite", "all infinite", "some missing", "one row", "constant")


def damaged(folder: Path, damage: str) -> Run:
    """A whole run whose measured numbers are damaged, as it is read from its folder."""
    whole = rows.run_folder(folder / "whole")
    found = load(whole)
    tables: dict[str, list[dict[str, Any]]] = {}
    for name in KEYS:
        made = found.table(name).drop(columns="subset", errors="ignore").to_dict("records")
        floats = [f.name for f in schema(name) if str(f.type) == "double" and f.name != "scaling_factor"]
        tables[name] = [_damage(row, floats, damage, place) for place, row in enumerate(made)]
        tables[name] = tables[name][:1] if damage == "one row" else tables[name]
    return load(rows.write(folder / "damaged", {name: made for name, made in tables.items() if made}))


def _damage(row: dict[str, Any], floats: list[str], damage: str, place: int) -> dict[str, Any]:
    value = {"some missing": np.nan, "constant": 0.5}.get(damage, np.inf)
    if damage == "one row" or (damage.startswith("some") and place % 5):
        return {key: None if isinstance(one, float) and np.isnan(one) else one for key, one in row.items()}
    return {key: value if key in floats else None if one != one else one for key, one in row.items()}


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
    assert {"figure number: ZeroDivisionError: by design", "table best: KeyError: 'gone'"} <= set(failed)
    assert "by design" in text
    assert (tmp_path / "report_files/spaces.svg").stat().st_size > 100

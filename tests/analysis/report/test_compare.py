"""`analysis compare`: a run equals itself, and every kind of difference between two is counted."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from analysis.rows.run import Run
from tests.helpers import rows
from tests.helpers.analysis_verbs import ask, right, wrong


@pytest.fixture(scope="module")
def folder(run: Run) -> Path:
    return run.folder


def other(folder: Path, tmp_path: Path, change: Any, name: str = "candidates") -> Path:
    """A copy of a run folder whose rows of a table are changed in place by a function."""
    copy = tmp_path / "other"
    shutil.copytree(folder, copy)
    made = rows.every_candidate()
    change(made)
    rows.write(copy, {name: made})
    return copy


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

        a = made("a", '{"f1": 0.5}')
        b = made("b", '{"f1": 0.75}')
        c = made("c", None)
        assert json.loads(right("compare", a, b, "--json"))["numbers"]["f1"]["largest"] == 0.25
        metric = json.loads(right("compare", a, c, "--json"))["numbers"]["f1"]
        assert metric == {"rows": 0, "largest": None, "mean": None, "differ": 1}
        assert ask("compare", a, b, "--assert-equal").exit_code == 1

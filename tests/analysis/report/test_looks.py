"""Looks at claims: recorded in run.json once for each state of the rows, and printed from the second look on."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from analysis.cli.main import main
from analysis.report import page
from analysis.report.claims import answers, notes, record_looks
from analysis.report.looks import KEY, Look, record, recorded_looks
from analysis.rows.declared import declared_claims, later_changes, pool_plan
from analysis.rows.run import Run, load
from sweep.core.file_lock import RUN_INFO_LOCK
from sweep.storage.run_folder import RunFolder
from tests.helpers import rows

CALL = {"started_at": "2026-01-05T10:00:00Z", "margin": 0.005, "pools_planned": None, "claims": None}


def merges(pools: int, gap: float = 0.004) -> list[dict[str, Any]]:
    """Two singles, their soup, their ensemble, which is better by about `gap`, and the average of their features."""
    made = []
    for pool in range(pools):
        gains = {"logit_average": gap + 0.003 * (-1) ** pool + 0.0003 * pool, "feature_average": 0.001 * (pool % 3)}
        made += [rows.candidate(pool, (index,), "single", accuracy=0.8 + 0.001 * pool) for index in range(2)]
        made.append(rows.candidate(pool, (0, 1), "uniform_soup", accuracy=0.85))
        for method, gain in gains.items():
            space = method.split("_", maxsplit=1)[0]
            settings = '{"head": "average"}' if space == "feature" else "{}"
            about = {"space": f"{space}s", "settings": settings}
            made.append(rows.candidate(pool, (0, 1), method, accuracy=0.85 + gain, **about))
    return made


def folder_of(path: Path, pools: int, **declared: Any) -> Path:
    """A run folder with these pools; looks that were recorded in it stay."""
    file = path / "run.json"
    before = json.loads(file.read_text()) if file.exists() else {"schema_version": 1, "sweep": "made"}
    calls = before.get("invocations") or [CALL | declared]
    return rows.write(path, {"candidates": merges(pools)}, {**before, "invocations": calls})


def looks_in(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "run.json").read_text()).get(KEY, [])
    return found


def ask(folder: Path, *more: str) -> Result:
    result = CliRunner().invoke(main, ["claims", str(folder), *more])
    assert result.exit_code == 0, result.output
    return result


def of(folder: Path, name: str = "weights_or_logits") -> dict[str, Any]:
    found: dict[str, Any] = {one["claim"]: one for one in json.loads(ask(folder, "--json").stdout)}[name]
    return found


def test_every_look_at_new_rows_is_recorded_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", 5)
    first = ask(folder).stdout
    looks = looks_in(folder)
    assert {one["pools"] for one in looks} == {5}
    one = next(look for look in looks if look["claim"] == "weights_or_logits")
    assert set(one) == set(Look.__dataclass_fields__)
    assert one["by_population"] == {"people": 5}
    assert one["verdict"] in first
    assert ask(folder).stdout == first
    assert looks_in(folder) == looks
    assert "earlier look" not in first
    folder_of(folder, 6)
    second = ask(folder).stdout
    assert len(looks_in(folder)) == 2 * len(looks)
    assert f"earlier look, {one['time'][:10]}" in second
    assert ": 5 pools, " in second
    assert ask(folder).stdout == second
    assert [look["pools"] for look in of(folder)["earlier_looks"]] == [5]


def test_the_page_shows_earlier_looks_and_counts_as_one(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", 5)
    page.write(load(folder), tmp_path / "first.md", form="md")
    assert "Earlier looks" not in (tmp_path / "first.md").read_text()
    assert looks_in(folder)
    folder_of(folder, 6)
    for name, form in (("second.md", "md"), ("second.html", "html")):
        page.write(load(folder), tmp_path / name, form=form)
        text = (tmp_path / name).read_text()
        assert "Earlier looks" in text
        assert "5 pools, " in text
    assert {one["pools"] for one in looks_in(folder)} == {5, 6}


def test_later_looks_have_less_error_than_the_first(tmp_path: Path) -> None:
    first = of(folder_of(tmp_path / "fresh", 9))
    extended = folder_of(tmp_path / "run", 5)
    ask(extended)
    later = of(folder_of(extended, 9))
    assert later["p"] == first["p"]
    assert later["p_adjusted"] > first["p_adjusted"]
    assert later["simultaneous_low"] < first["simultaneous_low"]


def test_planned_pools_are_those_of_the_first_call(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", 5, pools_planned=9)
    early = of(folder)
    assert early["p"] < 0.05 < early["p_adjusted"]
    info = json.loads((folder / "run.json").read_text())
    info["invocations"].append(CALL | {"pools_planned": 5, "started_at": "2026-02-01T00:00:00Z"})
    (folder / "run.json").write_text(json.dumps(info))
    result = ask(folder)
    assert pool_plan(load(folder)).stated == 9
    text = "`pools_planned` was changed to 5 at 2026-02-01T00:00:00Z; the first, 9, stays in force"
    assert later_changes(load(folder)) == [text]
    assert f"warning: {text}" in result.stderr
    page.write(load(folder), tmp_path / "report.html")
    assert "pools_planned` was changed to 5" in (tmp_path / "report.html").read_text()


def test_claims_outside_the_declared_family_are_exploratory(tmp_path: Path) -> None:
    names = ["weights_or_features", "weights_or_logit"]
    folder = folder_of(tmp_path / "run", 6, claims=names)
    assert declared_claims(load(folder)) == tuple(names)
    result = ask(folder)
    assert "which is no claim: did you mean `weights_or_logits`" in result.stderr
    other = of(folder)
    assert other["verdict_of_claim"] == "exploratory"
    assert other["remark"].startswith("without correction: ")
    assert (other["p_adjusted"], other["simultaneous_low"]) == (None, None)
    one = of(folder, "weights_or_features")
    assert one["verdict_of_claim"] != "exploratory"
    whole = of(folder_of(tmp_path / "whole", 6), "weights_or_features")
    assert one["p"] == whole["p"]
    assert one["p_adjusted"] <= whole["p_adjusted"]
    page.write(load(folder), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert 'class="chip exploratory"' in text
    assert "declared before the run: weights_or_features" in text


def test_one_estimate_under_two_questions_counts_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", 6)
    both = of(folder), of(folder, "soup_is_ensemble")
    assert both[0]["estimate"] == both[1]["estimate"]
    alone = of(folder_of(tmp_path / "alone", 6, claims=["weights_or_logits", "soup_is_ensemble"]))
    assert alone["p_adjusted"] == pytest.approx(alone["p"] / 0.9)
    assert both[0]["p_adjusted"] == both[1]["p_adjusted"]


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", 5)
    (folder / RUN_INFO_LOCK).mkdir()
    result = ask(folder)
    assert "warning: looks at claims are not recorded" in result.stderr
    assert "supported" in result.stdout or "inconclusive" in result.stdout
    assert page.write(load(folder), tmp_path / "report.html") == []
    assert "looks at claims are not recorded" in (tmp_path / "report.html").read_text()
    assert looks_in(folder) == []


def test_without_run_json_nothing_is_written(tmp_path: Path) -> None:
    folder = rows.write(tmp_path / "run", {"candidates": merges(4)})
    run = load(folder)
    assert "no run.json" in record_looks(run, answers(run))
    assert sorted(one.name for one in folder.iterdir()) == ["tables"]
    assert notes(run) == []


def test_looks_of_another_form_are_left_out(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", 5)
    ask(folder)
    good = looks_in(folder)
    one = good[0]
    bad: list[Any] = [None, 3, {}, one | {"p": "small"}, one | {"p": 7}, one | {"by_population": 4}]
    bad += [one | {"estimate": None}, {key: value for key, value in one.items() if key != "rows"}]
    assert len(recorded_looks(Run(folder, {KEY: [*bad, *good]}, ""))) == len(good)
    assert recorded_looks(Run(folder, {KEY: "none"}, "")) == []


def test_a_run_that_ends_keeps_the_looks_of_the_meantime(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", 5)
    run = RunFolder(folder)
    started = run.run_info()
    ask(folder)
    looks = looks_in(folder)
    run.write_run_info(started | {"sweep": "renamed"})
    assert json.loads((folder / "run.json").read_text())["sweep"] == "renamed"
    assert looks_in(folder) == looks


def test_looks_at_the_same_time_are_all_recorded(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", 5)
    run = load(folder)
    ask(folder)
    one = recorded_looks(load(folder))[0]
    looks = [Look(**{**vars(one), "claim": f"claim{n}"}) for n in range(12)]
    threads = [threading.Thread(target=record, args=(run, [look])) for look in looks]
    before = len(looks_in(folder))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looks_in(folder)) == before + len(looks)

"""Rows under a protocol: its own, and the correct ones where it does not act."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from analysis.cli.main import main
from analysis.figures.audit import audit
from analysis.report import page as report
from analysis.report.audit_table import defects
from analysis.report.claims import answers, table
from analysis.rows.protocols import correct_name, protocols, rows_under, short
from analysis.rows.run import load
from tests.helpers import rows


def made(pool: int, method: str, accuracy: float, members: tuple[int, ...] = (0, 1), **more: Any) -> dict[str, Any]:
    return rows.candidate(pool, members, method, accuracy=accuracy, **more)


def several(pools: int = 4) -> pd.DataFrame:
    """Two populations; dropout at test acts on all of both, another search on soups, a training on one of them."""
    found: list[dict[str, Any]] = []
    for pool in range(pools):
        for people, shift in (("a", 0.0), ("b", 0.1)):
            base = 0.7 + shift + 0.01 * pool
            for protocol, single, soup in (("correct", 0.0, 0.02), ("train_mode", -0.1, 0.01)):
                values = {"population": people, "protocol": protocol}
                found += [made(pool, "single", base + single, (index,), **values) for index in (0, 1)]
                found += [made(pool, "greedy_soup", base + soup, **values)]
                found += [made(pool, "logit_average", base + soup, space="logits", **values)]
            found += [made(pool, "greedy_soup", base + 0.03, population=people, protocol="greedy_variant")]
        values = {"population": "a (shared_transform)", "protocol": "shared_transform"}
        found += [made(pool, "single", 0.5, (index,), **values) for index in (0, 1)]
        found += [made(pool, "greedy_soup", 0.6 + 0.01 * pool, **values)]
    return rows.frame(found, "candidates")


def accuracies(frame: pd.DataFrame, method: str, population: str) -> list[float]:
    own = frame[(frame["method"] == method) & (frame["population"] == population)]
    return sorted(own["accuracy"].round(6))


def test_protocols_begin_with_the_correct_one() -> None:
    assert protocols(several()) == ["correct", "greedy_variant", "shared_transform", "train_mode"]


def test_where_a_switch_does_not_act_the_correct_rows_are_taken() -> None:
    frame = several()
    found = rows_under(frame, "greedy_variant")
    correct = rows_under(frame, "correct")
    assert len(found) == len(correct)
    assert set(found["protocol"]) == {"greedy_variant"}
    assert accuracies(found, "logit_average", "b") == accuracies(correct, "logit_average", "b")
    assert accuracies(found, "greedy_soup", "b") == [0.83, 0.84, 0.85, 0.86]


def test_a_population_that_is_trained_otherwise_stands_in_for_the_correct_one() -> None:
    found = rows_under(several(), "shared_transform")
    assert set(found["population"]) == {"a", "b"}
    assert accuracies(found, "single", "a") == [0.5] * 8
    assert accuracies(found, "logit_average", "a") == []
    assert accuracies(found, "single", "b") == accuracies(rows_under(several(), "correct"), "single", "b")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a", "a"), ("a (x)", "a"), ("a (y) (x)", "a (y)"), ("c (x)", "c (x)"), ("ab (x)", "ab (x)")],
)
def test_the_correct_population_is_found_by_its_name(name: str, expected: str) -> None:
    assert correct_name(name, {"a", "a (y)", "b"}) == expected


def test_the_figure_shows_every_protocol_with_its_gain() -> None:
    data = audit(several()).data
    key = ["population", "label", "protocol"]
    estimates = data.set_index(key)["estimate"].round(6).to_dict()
    assert estimates["a", "single", "correct"] == 0.715
    assert estimates["a", "single", "shared_transform"] == 0.5
    assert estimates["a", "greedy_soup", "correct"] == 0.02
    assert estimates["a", "greedy_soup", "train_mode"] == 0.11
    assert estimates["a", "greedy_soup", "greedy_variant"] == 0.03
    assert estimates["a", "greedy_soup", "shared_transform"] == 0.115
    assert estimates["b", "logit_average", "greedy_variant"] == 0.02
    assert set(data["protocol"]) == {"correct", "greedy_variant", "shared_transform", "train_mode"}


TOGETHER = "greedy_variant+train_mode+wrong_normalisation"


def published(pools: int = 4) -> list[dict[str, Any]]:
    """All subsets of three members: soups of the first are 2 points better than others; with dropout nothing is.

    One switch acts on nothing that a claim looks at, and three together do what dropout does alone.
    """
    found: list[dict[str, Any]] = []
    for pool in range(pools):
        base = 0.8 + 0.001 * pool
        for protocol, gain in (("correct", 0.02), ("train_mode", -0.03), (TOGETHER, -0.03)):
            own = {"protocol": protocol, "candidate_id": None}
            found += [made(pool, "single", base, (index,), **own) for index in range(3)]
            for members in ((0, 1), (0, 2), (1, 2), (0, 1, 2)):
                nested = members == tuple(range(len(members)))
                soup = base + gain + 0.02 * nested + 0.0001 * (pool % 2) * (1 + 2 * nested)
                found += [made(pool, "uniform_soup", soup, members, **own)]
        found += [made(pool, "greedy_soup", base, protocol="greedy_variant", candidate_id=None)]
    for place, row in enumerate(found):
        row["candidate_id"] = f"{place:032d}"
    return found


def test_nested_prefixes_are_one_more_protocol() -> None:
    frame = rows.frame(published())
    names = ["correct", "greedy_variant", "nested_prefixes", "train_mode", TOGETHER, f"{TOGETHER}+nested_prefixes"]
    assert protocols(frame) == names
    found = rows_under(frame, "nested_prefixes")
    assert {tuple(members) for members in found["member_indices"]} == {(0,), (1,), (2,), (0, 1), (0, 1, 2)}
    assert set(found["protocol"]) == {"nested_prefixes"}
    both = rows_under(frame, f"{TOGETHER}+nested_prefixes")
    assert accuracies(both, "uniform_soup", "people") == accuracies(
        rows_under(frame[[members[-1] + 1 == len(members) for members in frame["member_indices"]]], TOGETHER).assign(
            population="people"
        ),
        "uniform_soup",
        "people",
    )


def test_prefixes_are_no_protocol_where_a_pool_lacks_one_of_a_size_that_it_merges() -> None:
    def without(*excluded: tuple[int, ...]) -> pd.DataFrame:
        return rows.frame(
            [one for one in published() if one["pool"] != 1 or tuple(one["member_indices"]) not in excluded]
        )

    assert "nested_prefixes" not in protocols(without((0, 1)))
    assert "nested_prefixes" in protocols(without((0, 1, 2)))
    assert "nested_prefixes" in protocols(without((0, 1), (0, 2), (1, 2)))


def test_prefixes_are_no_protocol_where_there_is_nothing_else() -> None:
    nested = [row for row in published() if row["member_indices"] in ([0], [1], [0, 1], [0, 1, 2])]
    assert "nested_prefixes" not in protocols(rows.frame(nested))


def test_many_switches_are_shown_as_their_number() -> None:
    assert [short(name) for name in ("correct", "a+b", TOGETHER)] == ["correct", "a+b", "3 together"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    info = {"schema_version": 1, "sweep": "audited"}
    return rows.write(tmp_path_factory.mktemp("audited") / "run", {"candidates": published()}, info)


def test_a_claim_is_listed_under_each_defect_that_changes_it(run_folder: Path) -> None:
    run = load(run_folder)
    (found,) = (one for one in defects(answers(run)) if one["name"] == "weights_beat_members")
    values = {row["protocol"]: (row["verdict"], row["change_verdict"]) for row in found["rows"]}
    assert values == {
        "correct": ("supported", ""),
        "nested_prefixes": ("supported", "changed"),
        # The change is the same in each pool: without spread there is no test.
        "train_mode": ("refuted", "open"),
        "3 together": ("refuted", "open"),
        "4 together": ("refuted", "changed"),
    }
    cells = {row["protocol"]: row["cell"] for row in found["rows"]}
    # Pairs: one of three is nested. The mean over sizes: (2 + 2/3 + 2 + 2) / 2, and 4 of nested ones alone.
    gains = {name: cell.value for name, cell in cells.items()}
    assert gains["correct"] == pytest.approx((2 + 2 / 3 + 4) / 2, abs=0.02)
    assert gains["nested_prefixes"] == pytest.approx(4, abs=0.02)
    assert gains["train_mode"] == gains["3 together"] == pytest.approx((-3 + 2 / 3 - 1) / 2, abs=0.02)
    assert gains["4 together"] == pytest.approx(-1, abs=0.02)
    assert all(cell.n == "4" and cell.whisker for cell in cells.values())
    assert found["same"] == ["greedy_variant"]
    assert found["silent"] == []


def test_the_table_of_claims_has_every_protocol(run_folder: Path) -> None:
    result = json.loads(CliRunner().invoke(main, ["claims", str(run_folder), "--json"]).stdout)
    (one,) = (one for one in result if one["claim"] == "weights_beat_members")
    assert [row["protocol"] for row in one["audit"]] == protocols(load(run_folder).candidates)[1:]
    assert {row["n_units"] for row in one["audit"]} == {4}
    assert all(row["low"] <= row["estimate"] <= row["high"] for row in one["audit"])
    unasked = [one for one in table(answers(load(run_folder))) if one["missing"]]
    assert [one["audit"] for one in unasked] == [[]] * len(unasked) != []


@pytest.mark.parametrize("form", ["html", "md"])
def test_the_report_shows_the_effect_under_every_defect(form: str, run_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / f"report.{form}"
    report.write(load(run_folder), path, form=form)
    text = path.read_text(encoding="utf-8").replace("\\", "")
    section = text[text.index('<section id="defects">' if form == "html" else "## Claims under each defect") :]
    section = section[section.index("Is a uniform soup more accurate") :]
    section = section[: section.index("Is averaging features" if "Is averaging features" in section else "Best cand")]
    assert "Same numbers as under the correct protocol: greedy_variant." in section
    for name in ("correct", "nested_prefixes", "train_mode", "3 together"):
        assert name in section
    assert section.count("n = 4") == 9
    assert section.count("[") >= 5, "no estimate without its interval"
    assert "3 together: greedy_variant, train_mode, wrong_normalisation." in text

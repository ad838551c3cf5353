"""Claims by cell: what holds in general, on what a verdict depends, and for what it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from analysis.display.tables import as_json
from analysis.inference.estimate import Question
from analysis.inference.finding import PoolValues
from analysis.inference.heterogeneity import random_effects
from analysis.report.advice import advice
from analysis.report.audit_changes import effect_changes, summary
from analysis.report.claim_cells import DEPENDS, hochberg
from analysis.report.claims import Answer, answers, lines, remark, table
from analysis.rows.run import Run
from tests.helpers import rows

CLAIM = "weights_or_logits"
EQUAL = "soup_is_ensemble"
NOISE = np.array([0.003, -0.002, 0.001, -0.001, 0.002, -0.003, 0.0015, -0.0015])


def population(name: str, gap: float, *, spread: float = 1.0, pools: int = 8, **own: Any) -> list[dict[str, Any]]:
    """Pools whose ensemble is `gap` more accurate than their soup; `own` has the settings of the population."""
    made = []
    own = {"population": name, "architecture": "cnn"} | own
    for pool, noise in enumerate((gap + spread * NOISE[:pools]).tolist()):
        made += [rows.candidate(pool, (index,), "single", accuracy=0.8, **own) for index in range(2)]
        made.append(rows.candidate(pool, (0, 1), "uniform_soup", accuracy=0.9, **own))
        made.append(rows.candidate(pool, (0, 1), "logit_average", space="logits", accuracy=0.9 + noise, **own))
    return made


def asked(
    *populations: list[dict[str, Any]],
    members: list[dict[str, Any]] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> dict[str, Answer]:
    """The claims on some populations, by name; `kinds` has the kind of architecture of each population."""
    tables = {"candidates": rows.frame([row for one in populations for row in one])}
    if kinds:
        tables["candidates"]["architecture_kind"] = tables["candidates"]["population"].map(kinds)
    tables["members"] = rows.frame(members or [], "members")
    return {one.name: one for one in answers(Run(Path("runs/made"), {}, "", tables))}


def test_opposite_effects_are_neither_equivalent_nor_supported() -> None:
    found = asked(population("a", 0.02), population("b", -0.02, architecture="mlp"))
    for name in (CLAIM, EQUAL):
        assert found[name].verdict == DEPENDS
        assert found[name].by_cell is not None
        assert found[name].by_cell.depends == ("architecture",)
    assert [cell.verdict for cell in found[CLAIM].by_cell.cells] == ["supported", "refuted"]  # type: ignore[union-attr]


def test_opposite_effects_in_populations_of_one_cell_depend_on_the_population() -> None:
    found = asked(population("a", 0.02), population("b", -0.02))[CLAIM]
    assert found.verdict == DEPENDS
    assert found.by_cell is not None
    assert found.by_cell.depends == ("population",)
    assert [one.populations for one in found.by_cell.cells] == [("a",), ("b",)]


def test_shared_and_scratch_starts_in_one_file_depend_on_the_start() -> None:
    cells = [(arch, start) for arch in ("cnn", "mlp") for start in ("shared", "scratch")]
    made = [
        population(f"{arch} {start}", 0.02 if start == "shared" else -0.3, architecture=arch, start=start)
        for arch, start in cells
    ]
    found = asked(*made)[CLAIM]
    assert found.verdict == DEPENDS
    assert found.by_cell is not None
    assert found.by_cell.depends == ("start",)
    text = "\n".join(lines([found]))
    assert "on start: refuted in cnn on digits, scratch start (8 pools) and mlp on digits, scratch start" in text
    assert "supported in cnn on digits, shared start (8 pools) and mlp on digits, shared start (8 pools)" in text
    assert "\N{MINUS SIGN}2.00 to +30.00 points by cell" in text
    numbers = text.split("on start")[0]
    assert not [word for word in ("simultaneous", "bootstrap-t", "P(below", "p of no difference") if word in numbers]
    assert found.simultaneous is None


def test_factors_that_differ_together_are_alternatives() -> None:
    found = asked(population("a", 0.02), population("b", -0.3, architecture="mlp", start="scratch"))[CLAIM]
    assert found.by_cell is not None
    assert found.by_cell.depends == ("architecture", "start")
    assert "on architecture or start:" in "\n".join(lines([found]))


def test_homogeneous_cells_have_a_general_verdict_for_these_cells() -> None:
    found = asked(population("a", 0.02), population("b", 0.021, architecture="mlp"))[CLAIM]
    assert found.verdict == "supported"
    assert found.by_cell is not None
    assert found.by_cell.scope == "in each of these 2 cells (cnn, mlp on digits; shared start), 16 pools"


def test_a_difference_that_only_one_cell_shows_to_exceed_the_margin_names_it_so() -> None:
    small = population("b", 0.006, architecture="mlp")
    found = asked(population("a", 0.2, spread=0.4), small)[CLAIM]
    assert found.verdict == "supported"
    assert remark(found) == "by more than the margin in 1 of 2 cells"
    assert remark(asked(small)[CLAIM]) == "by an amount that may not matter"


def test_six_weak_cells_that_agree_are_decided_on_average() -> None:
    made = [population(f"p{n}", 0.006 + 0.0004 * n, spread=4, architecture=f"net{n}") for n in range(6)]
    found = asked(*made)[CLAIM]
    assert found.verdict == "supported"
    assert found.by_cell is not None
    assert found.by_cell.scope.startswith("on average over 6 cells (net0, net1")
    assert "supported" not in {one.verdict for one in found.by_cell.cells}
    assert found.finding is not None
    shown = found.finding.estimate
    cells = np.array([(one.estimate.estimate, one.estimate.se, one.estimate.df) for one in found.by_cell.cells])
    together = random_effects(*cells.T)
    assert (shown.estimate, shown.low, shown.high) == (together.mean, together.low, together.high)
    assert (shown.n_units, shown.unit) == (6, "cell")
    assert found.simultaneous is None  # that interval is for the mean over pools, which is not shown
    assert np.isnan(found.bootstrap).all()


def test_equivalence_needs_equivalence_in_each_cell() -> None:
    clear = population("a", 0.0, spread=0.3)
    vague = population("b", 0.002, spread=2.0, pools=3, architecture="mlp")
    both = asked(clear, vague)
    assert asked(clear)[EQUAL].verdict == "supported"
    assert both[EQUAL].verdict == "inconclusive"
    assert both[CLAIM].verdict == "inconclusive"
    assert "supported in cnn on digits" in both[EQUAL].by_cell.scope  # type: ignore[union-attr]
    alike = asked(clear, population("b", 0.0, spread=0.3, architecture="mlp"))
    assert alike[EQUAL].verdict == "supported"


def test_equivalence_of_a_cell_needs_it_in_each_of_its_populations() -> None:
    found = asked(population("a", 0.0, spread=0.3), population("b", 0.001, spread=1.3, pools=3))[EQUAL]
    assert found.by_cell is not None
    assert [one.populations for one in found.by_cell.cells] == [("a", "b")]
    assert found.verdict == "inconclusive"
    assert remark(found) == "within the margin on average, which is not shown for each of the 2 populations"
    assert found.finding is not None
    more = "More pools would show whether it holds for each of them, or on what it depends"
    assert advice(found.needs, found.finding.estimate, found.by_cell) == more


def test_one_cell_has_the_verdict_of_its_estimate_and_a_scope() -> None:
    found = asked(population("a", 0.02))[CLAIM]
    assert found.verdict == "supported"
    assert found.by_cell is not None
    assert found.by_cell.scope == "cnn on digits, shared start, 8 pools"
    assert found.by_cell.together is None


def test_a_contrast_between_populations_is_one_estimate_with_a_scope() -> None:
    found = asked(population("a", 0.0), population("b", 0.02, architecture="mlp"))["architecture_moderates"]
    assert found.by_cell is not None
    assert found.by_cell.cells == ()
    assert found.by_cell.scope == "2 populations (cnn, mlp on digits; shared start), 16 pools"


def test_networks_of_one_library_are_cells_of_their_own() -> None:
    about = {"architecture": "timm", "start": "pretrained"}
    members = []
    for name, network in (("a", "resnet18"), ("b", "test_vit")):
        settings = {"architecture_settings": json.dumps({"name": network})}
        members += [row | settings for row in rows.members(pools=1, members=1, population=name)]
    found = asked(population("a", 0.02, **about), population("b", -0.02, **about), members=members)[CLAIM]
    assert found.by_cell is not None
    assert [one.settings["architecture"] for one in found.by_cell.cells] == ["timm resnet18", "timm test_vit"]
    assert found.by_cell.depends == ("architecture",)


def test_records_have_the_cells_and_the_spread_between_them() -> None:
    found = asked(population("a", 0.02), population("b", -0.02, architecture="mlp"))
    record = next(one for one in json.loads(as_json(table(list(found.values())))) if one["claim"] == CLAIM)
    assert record["verdict_of_claim"] == DEPENDS
    assert record["depends_on"] == ["architecture"]
    assert [one["cell"] for one in record["cells"]] == ["cnn on digits, shared start", "mlp on digits, shared start"]
    assert [one["n_units"] for one in record["cells"]] == [8, 8]
    assert record["between_cells"]["n_cells"] == 2
    assert record["between_cells"]["q_p"] < 0.001


def test_every_verdict_has_a_scope() -> None:
    found = asked(population("a", 0.02), population("b", 0.02, start="scratch"), population("c", 0.0, dataset="other"))
    for one in found.values():
        assert bool(one.verdict) == bool(one.by_cell and one.by_cell.scope)


def test_a_cell_of_one_pool_is_not_decided() -> None:
    found = asked(population("a", 0.02), population("b", 0.02, architecture="mlp", pools=1))[CLAIM]
    assert found.verdict == "inconclusive"
    assert found.by_cell is not None
    assert {one.estimate.n_units: one.verdict for one in found.by_cell.cells} == {8: "supported", 1: "inconclusive"}


def test_the_order_of_rows_does_not_matter() -> None:
    made = [population("a", 0.02), population("b", -0.02, architecture="mlp"), population("c", 0.01, start="scratch")]
    found = table(list(asked(*made).values()))
    again = table(list(asked(*made[::-1]).values()))
    assert as_json(again) == as_json(found)


def test_hochberg_is_that_of_statsmodels() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.5, 1.0])
    assert hochberg(p) == pytest.approx(multipletests(p, method="simes-hochberg")[1])
    assert hochberg(np.array([0.04, 0.049])).max() < 0.05


def arms(pool: int, on_soup: float, on_member: float) -> list[dict[str, Any]]:
    """The four arms of a norm-matched pair, with the effects of a smaller norm on the soup and on its first member."""
    noise = float(NOISE[pool]) / 3
    levels = {"uniform_soup": (0.9, "members", 0.9 - on_soup - noise), "first_member": (0.8, "soup", None)}
    made = [rows.candidate(pool, (index,), "single", accuracy=0.8) for index in range(2)]
    made.append(rows.candidate(pool, (0, 1), "uniform_soup", accuracy=levels["uniform_soup"][0]))
    for method, (_, norm, accuracy) in levels.items():
        scaled = {"scaling": "norm_matched", "scaling_settings": json.dumps({"to": norm})}
        value = 0.8 + on_member + noise if accuracy is None else accuracy
        made.append(rows.candidate(pool, (0, 1), method, accuracy=value, **scaled))
    return made


def test_both_arms_of_a_mean_are_shown_and_opposite_signs_decide_nothing() -> None:
    found = asked([row for pool in range(8) for row in arms(pool, 0.05, -0.04)])["averaging_regularises"]
    assert found.verdict == DEPENDS
    assert found.by_cell is not None
    assert found.by_cell.depends == ("arm",)
    assert found.by_cell.scope.startswith("soup above zero; member below zero (mlp on digits")
    assert found.finding is not None
    parts = {name: one.estimate.estimate for name, one in found.finding.parts.items()}
    assert parts == pytest.approx({"soup": 0.05, "member": -0.04}, abs=1e-3)
    assert "soup +5.0" in "\n".join(lines([found]))
    alike = asked([row for pool in range(8) for row in arms(pool, 0.05, 0.04)])["averaging_regularises"]
    assert alike.verdict == "supported"
    (record,) = json.loads(as_json(table([alike])))
    mean = (record["parts"]["soup"]["estimate"] + record["parts"]["member"]["estimate"]) / 2
    assert record["estimate"] == pytest.approx(mean)


def test_networks_are_compared_within_a_start_and_not_across() -> None:
    kinds = {"vit": "transformer", "vit2": "transformer", "cnn": "cnn", "mlp": "mlp"}
    vit = population("vit", 0.0, architecture="vit")
    vit2 = population("vit2", 0.01, architecture="vit", start="scratch")
    cnn = population("cnn", 0.02, architecture="cnn")
    mlp = population("mlp", 0.5, architecture="mlp", start="scratch")
    shared = asked(vit, cnn, mlp, kinds=kinds)["architecture_moderates"]
    assert shared.finding is not None
    assert shared.finding.estimate.estimate == pytest.approx(0.02)
    left_out = "1 population left out: no counterpart with the same data set and start"
    assert left_out in shared.finding.estimate.warnings
    assert shared.by_cell is not None
    assert "scratch" not in shared.by_cell.scope
    both = asked(vit, vit2, cnn, mlp, kinds=kinds)["architecture_moderates"]
    assert both.finding is not None
    assert both.finding.estimate.estimate == pytest.approx((0.02 + 0.49) / 2)
    neither = asked(vit, mlp, kinds=kinds)["architecture_moderates"]
    assert neither.missing.endswith("with the same data set and start")


def test_a_side_of_populations_that_differ_is_named() -> None:
    made = [population(name, gap, architecture=name) for name, gap in (("vit", 0.0), ("deit", 0.02), ("cnn", 0.05))]
    kinds = {"vit": "transformer", "deit": "transformer", "cnn": "cnn"}
    found = asked(*made, kinds=kinds)["architecture_moderates"]
    assert found.finding is not None
    assert any("2 populations of the first side differ" in text for text in found.finding.estimate.warnings)
    alone = asked(made[0], made[2], kinds=kinds)["architecture_moderates"]
    assert alone.finding is not None
    assert not any("differ" in text for text in alone.finding.estimate.warnings)


def test_a_defect_that_changes_populations_in_opposite_ways_changes_the_claim() -> None:
    made = []
    for name, change in (("a", 0.02), ("b", -0.02)):
        correct = population(name, 0.01)
        acted = [row for row in population(name, 0.01 + change, spread=2) if row["method"] == "logit_average"]
        made += correct + [
            row | {"protocol": "train_mode", "candidate_id": row["candidate_id"] + "train_mode"} for row in acted
        ]
    found = asked(made)[CLAIM]
    assert abs(found.changes["train_mode"].estimate.estimate) < 1e-3
    assert found.changes["train_mode"].verdict == "changed"
    assert found.changes["train_mode"].words(100) == "a \N{MINUS SIGN}2.00; b +2.00"


def test_a_population_that_only_one_effect_is_about_is_not_comparable() -> None:
    question = Question("effect", "pool", 0.0, 0.005)
    pools = [
        {"population": name, "pool_id": f"{name}{pool}", "value": 0.001 * pool} for name in "ab" for pool in (0, 1)
    ]
    numbers = {str(row["pool_id"]): int(str(row["pool_id"])[1:]) for row in pools}
    correct = PoolValues(pd.DataFrame(pools), question)
    found = effect_changes(correct, {"train_mode": PoolValues(pd.DataFrame(pools[:2]), question)}, numbers)
    assert found["train_mode"].words(1) == "not comparable: b"
    assert summary(found) == "does not change by more than the margin; of other populations under train_mode"

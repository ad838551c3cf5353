"""Claims: properties of every claim, verdicts by hand, and claims under audit protocols."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from analysis.claims.averaging_regularises import averaging_regularises
from analysis.cli.main import main
from analysis.core import registry as catalogue
from analysis.core.errors import AnalysisError
from analysis.inference.estimate import Question, pool_mean, stratified_mean
from analysis.inference.finding import Finding
from analysis.report import tables
from analysis.report.claims import VERDICTS, answers, claim_verdict, margin_kind, table
from analysis.rows.contrasts import contrast
from analysis.rows.run import MARGINS, Run, load
from analysis.statistics.paired_difference import paired_difference
from sweep.config.margins import Margins
from tests.helpers import ROOT, rows
from tests.helpers.predictions import prediction

CLAIMS = catalogue.list_plugins("claims")
SILENT = (
    *("architecture_moderates", "soups_resist_scale", "soups_resist_an_outlier"),
    *("templates_resemble_means", "resemblance_grows_with_decay", "mixup_sharpens_templates"),
    "weights_beat_best_member",
)
"""Claims that the made rows have nothing for: one architecture, only soups scaled, one training, no best member."""


def run_of(candidates: list[dict[str, Any]], margin: float = 0.005) -> Run:
    info = {"invocations": [{"margin": margin, "started_at": "2026-01-01T00:00:00+00:00"}]}
    return Run(Path("runs/made"), info, "", {"candidates": rows.frame(candidates)})


def merges(pool: int, gap: float, *, population: str = "people", start: str = "shared") -> list[dict[str, Any]]:
    """Two singles, their soup and their ensemble, which is `gap` better."""
    own = {"population": population, "start": start, "architecture": population}
    made = [rows.candidate(pool, (index,), "single", accuracy=0.8, **own) for index in range(2)]
    made.append(rows.candidate(pool, (0, 1), "uniform_soup", accuracy=0.9, **own))
    made.append(rows.candidate(pool, (0, 1), "logit_average", space="logits", accuracy=0.9 + gap, **own))
    return made


@pytest.mark.parametrize("name", CLAIMS)
class TestEveryClaim:
    def test_its_documentation_asks_and_says_how(self, name: str) -> None:
        question, quantity, *_ = catalogue.caption(catalogue.get_plugin("claims", name))
        assert question.endswith("?")
        assert "over pools" in quantity

    def test_it_gives_the_estimate_that_decides_or_says_what_is_missing(self, name: str) -> None:
        tables = {**rows.tables(), "margin": 0.005}
        function = catalogue.get_plugin("claims", name)
        finding: Finding | None = None
        with contextlib.suppress(AnalysisError):
            finding = function(*(tables[table] for table in catalogue.tables(function)), margin=0.01)
        if finding is None:
            assert name in SILENT, "the rows have all that the other claims ask for"
            return
        assert finding.figure in catalogue.list_plugins("figures")
        assert finding.estimate.margin == 0.01
        assert finding.estimate.verdict
        assert finding.estimate.n_units == 3
        more = {table: tables[table] for table in catalogue.optional_tables(function)}
        again = function(*(tables[table] for table in catalogue.tables(function)), **more, margin=0.01)
        assert again.estimate.n_units == 3
        assert again.estimate.se >= finding.estimate.se
        assert not set(more) & set(catalogue.settings(function))

    def test_it_warns_near_the_ceiling_if_it_rests_on_accuracies(self, name: str) -> None:
        function = catalogue.get_plugin("claims", name)
        texts = {}
        for level, sharpness in ((0.985, 3.5), (0.8, 1.0)):
            tables = rows.at_level(rows.tables(), level, sharpness)
            with contextlib.suppress(AnalysisError):
                found = function(*(tables[table] for table in catalogue.tables(function))).estimate
                texts[level] = [text for text in found.warnings if "near the ceiling" in text]
        if not texts:
            assert name in SILENT, "the rows have all that the other claims ask for"
            return
        assert len(texts[0.985]) == ("candidates" in catalogue.tables(function))
        assert texts[0.8] == []

    def test_without_rows_it_says_so(self, name: str) -> None:
        function = catalogue.get_plugin("claims", name)
        empty = {table: frame.iloc[:0] for table, frame in rows.tables().items()}
        with pytest.raises(AnalysisError, match="no "):
            function(*(empty[table] for table in catalogue.tables(function)))


@pytest.mark.parametrize(
    ("values", "expected", "verdict"),
    [
        ([0.03, 0.031, 0.029, 0.03], "above", "supported"),
        ([0.03, 0.031, 0.029, 0.03], "below", "refuted"),
        ([0.03, 0.031, 0.029, 0.03], "zero", "refuted"),
        ([0.004, 0.009, 0.003, 0.008], "zero", "different"),
        ([0.004, 0.009, 0.003, 0.008], "above", "supported"),
        ([0.0001, -0.0001, 0.0002, -0.0002], "above", "equivalent"),
        ([0.0001, -0.0001, 0.0002, -0.0002], "zero", "supported"),
        ([0.03, -0.03, 0.02, -0.01], "above", "inconclusive"),
    ],
)
def test_verdicts_of_claims(values: list[float], expected: Any, verdict: str) -> None:
    assert claim_verdict(pool_mean(values, null=0.0, margin=0.005), expected) == verdict
    assert verdict in VERDICTS


def test_a_claim_that_cannot_be_decided_says_how_many_pools_would_do() -> None:
    gaps = [0.02, -0.01, 0.015, -0.012]
    found = {one.name: one for one in answers(run_of([row for p, gap in enumerate(gaps) for row in merges(p, gap)]))}
    one = found["weights_or_logits"]
    assert one.verdict == "inconclusive"
    assert one.needs is not None
    # An effect of a fifth of the spread takes about (2.8 x 5)² = 200 pools in one look, and more after a first look.
    assert 200 <= one.needs.pools <= 1000
    assert one.needs.low < one.needs.pools
    assert one.needs.high is None or one.needs.high > one.needs.pools
    assert found["soups_resist_scale"].missing
    assert found["soups_resist_scale"].verdict == ""


def test_the_family_is_corrected_and_shown_as_a_table() -> None:
    gaps = [0.02, 0.024, 0.019, 0.022, 0.021]
    found = answers(run_of([row for p, gap in enumerate(gaps) for row in merges(p, gap)]))
    frame = pd.DataFrame(table(found))
    values = frame.set_index("claim").loc["weights_or_logits"]
    assert values["verdict_of_claim"] == "supported"
    assert values["p_adjusted"] >= values["p"] > 0
    assert values["low"] < values["estimate"] < values["high"]
    assert values["estimate"] == pytest.approx(-np.mean(gaps))
    assert values["audit_summary"] == "not audited"
    assert values["remark"] == "by more than the margin"
    assert set(frame["claim"]) == set(CLAIMS)


def test_an_audited_claim_is_asked_under_every_protocol() -> None:
    correct = [row for p in range(5) for row in merges(p, 0.02 + 0.001 * p)]
    # The switch acts on the ensemble alone: the soup's rows are those of the correct protocol.
    broken = [row for p in range(5) for row in merges(p, -0.02 - 0.001 * p)]
    acted = [row | {"protocol": "train_mode"} for row in broken if row["method"] == "logit_average"]
    acted = [row | {"candidate_id": row["candidate_id"] + "train_mode"} for row in acted]
    found = {one.name: one for one in answers(run_of(correct + acted))}
    assert found["weights_or_logits"].verdict == "supported"
    assert {name: one.verdict for name, one in found["weights_or_logits"].audited.items()} == {"train_mode": "refuted"}
    changed = found["weights_or_logits"].changes["train_mode"]
    assert changed.verdict == "changed"
    # Without the defect the soup is .022 less accurate on average, with it .022 more: pools differ by twice as much.
    assert changed.estimate.estimate == pytest.approx(0.044)
    values = {one["claim"]: one["audit_summary"] for one in table(list(found.values()))}
    assert values["weights_or_logits"] == "changes under train_mode"
    assert values["weights_beat_members"] == "does not change by more than the margin"


def test_claims_take_test_images_as_sampled_where_predictions_are_kept() -> None:
    made = [row for pool in range(4) for row in merges(pool, 0.0)]
    random = np.random.default_rng(0)
    right = random.random((len(made), 100)) < 0.9
    known = []
    for one, own in zip(made, right, strict=True):
        one["accuracy"] = float(own.mean())
        known.append(prediction(one, own.astype(int).tolist(), [0] * 100))
    run = run_of(made)
    tables = {**run.tables, "predictions": rows.frame(known, "predictions")}
    with_images = {one.name: one for one in answers(replace(run, tables=tables))}
    names = ("weights_or_logits", "weights_beat_members", "soup_is_ensemble")
    for name, without in ((one.name, one) for one in answers(run) if one.name in names):
        found = with_images[name].finding
        assert found is not None
        assert without.finding is not None
        assert found.estimate.estimate == without.finding.estimate.estimate
        assert found.estimate.se >= without.finding.estimate.se
        assert "new test images" in found.estimate.estimand
        assert "these test images" in without.finding.estimate.estimand


def test_the_arms_of_norms_have_their_differences_on_each_image() -> None:
    made = [row for row in rows.candidates(pools=3) if row["scaling"] == "none"]
    made += rows.normed(made)
    right = np.random.default_rng(1).random((len(made), 64)) < 0.8
    known = []
    for one, own in zip(made, right, strict=True):
        one["accuracy"] = float(own.mean())
        known.append(prediction(one, own.astype(int).tolist(), [0] * 64))
    found = averaging_regularises(rows.frame(made), rows.frame(known, "predictions")).values
    assert found.examples is not None
    means = [found.examples[pool].values.mean() for pool in found.frame["pool_id"]]
    np.testing.assert_allclose(means, found.frame["value"], atol=1e-12)
    assert averaging_regularises(rows.frame(made), rows.frame(known[1:], "predictions")).values.examples is None


def test_pools_of_exchangeable_members_are_named() -> None:
    for start, named in (("scratch", True), ("pretrained", True), ("shared", False)):
        frame = rows.frame([row for pool in range(3) for row in merges(pool, 0.01 * pool, start=start)])
        found = contrast(frame, "uniform_soup", "logit_average", margin=0.005)
        assert any("exchangeable members" in text for text in found.warnings) == named


def test_pools_with_splits_of_their_own_are_for_new_splits() -> None:
    made = [
        row | {"dataset_settings": f'{{"split":{pool}}}'}
        for pool in range(3)
        for row in merges(pool, 0.01 * pool, start="scratch")
    ]
    found = contrast(rows.frame(made), "uniform_soup", "logit_average", margin=0.005)
    assert found.estimate.estimand.endswith("for new seeds and new training splits, these test images")
    assert not any("exchangeable" in text for text in found.warnings)


def test_near_the_ceiling_a_claim_has_log_odds_beside_it() -> None:
    made = [
        rows.candidate(pool, (0, 1), method, accuracy=level + 0.0025 * pool)
        for pool in range(4)
        for method, level in (("uniform_soup", 0.97), ("logit_average", 0.99))
    ]
    found = contrast(rows.frame(made), "uniform_soup", "logit_average", margin=0.005)
    texts = "; ".join(found.warnings)
    assert "near the ceiling: mean accuracy 98.4%" in texts
    second = paired_difference(rows.frame(made), scale="log_odds").iloc[0]
    assert f"in log-odds {second['estimate']:+.2f} [{second['low']:+.2f}, {second['high']:+.2f}]" in texts


def test_the_margin_is_the_one_of_the_first_invocation() -> None:
    run = run_of(merges(0, 0.0), margin=0.02)
    assert run.margin == 0.02
    assert replace(run, info={}).margin == 0.005
    # A number is the margin of accuracy: earlier versions recorded no other.
    assert run.margins == MARGINS | {"accuracy": 0.02}


def test_a_claim_has_the_margin_of_its_kind_of_quantity() -> None:
    made = [row for pool in range(4) for row in merges(pool, 0.02 + 0.001 * pool)]
    made += [row for pool in range(4) for row in scaled(pool, "uniform_soup", "first", 0.1)[1:]]
    made += [row for pool in range(4) for row in scaled(pool, "logit_average", "first", 0.3 + 0.01 * pool)[1:]]
    chosen = {"accuracy": 0.01, "retention": 0.2, "unknown kind": 0.3, "slope": True}
    recorded = {"margin": 0.01, "margins": chosen}
    run = replace(run_of(made), info={"invocations": [recorded, {"margin": 0.5}]})
    found = {one.name: one.finding.estimate for one in answers(run) if one.finding}
    assert found["weights_or_logits"].margin == 0.01
    assert found["soups_resist_an_outlier"].margin == 0.2
    assert run.margins["slope"] == MARGINS["slope"]


def test_margins_are_those_of_a_configuration() -> None:
    assert Margins().model_dump() == MARGINS
    assert {margin_kind(name) for name in CLAIMS} == set(MARGINS)
    for name in CLAIMS:
        default = catalogue.settings(catalogue.get_plugin("claims", name))["margin"]
        assert default == MARGINS[margin_kind(name)]


def scaled(pool: int, method: str, which: str, falls: float) -> list[dict[str, Any]]:
    """A pair, or each of its members, at half and at twice its weights, where it loses `falls`."""
    made = []
    subsets = [(0,), (1,)] if method == "single" else [(0, 1)]
    for subset in subsets:
        made.append(rows.candidate(pool, subset, method, accuracy=0.9))
        for factor in (0.5, 2.0):
            values = {"scaling": "magnify", "scaling_factor": factor, "scaling_members": which}
            values["scaling_settings"] = f'{{"factor": {factor}, "members": "{which}"}}'
            made.append(rows.candidate(pool, subset, method, accuracy=0.9 - falls, **values))
    return made


@pytest.mark.parametrize(
    ("claim", "which", "other"),
    [("soups_resist_scale", "all", "single"), ("soups_resist_an_outlier", "first", "logit_average")],
)
def test_scale_is_resisted_by_what_falls_less(claim: str, which: str, other: str) -> None:
    made = []
    for pool in range(4):
        made += scaled(pool, "uniform_soup", which, 0.1) + scaled(pool, other, which, 0.3 + 0.01 * pool)
    (found,) = (one for one in answers(run_of(made)) if one.name == claim)
    assert found.verdict == "supported"
    assert found.finding is not None
    # The fall is linear in log c from 0: its mean over the range is half of it, and of .8 above chance.
    assert found.finding.estimate.estimate == pytest.approx(-(0.2 + 0.015) / 2 / 0.8)
    assert "(factors 0.5, 1, 2)" in found.finding.estimate.estimand
    assert found.finding.beside is not None
    assert found.finding.beside.estimate.estimate == pytest.approx(-(0.2 + 0.015) / 2)
    (row,) = table([found])
    assert row["beside"].startswith("accuracy lost over the same factors: uniform_soup minus ")
    assert "−10.75 points" in row["beside"]


def test_the_soup_against_the_best_of_its_members() -> None:
    """The soup gains 3, 4, 5 and 6 points over the mean member, but loses a point to the best one."""
    made = []
    for pool in range(4):
        gain = 0.03 + 0.01 * pool
        made += [rows.candidate(pool, (i,), "single", accuracy=0.8 + (gain + 0.01) * (2 * i - 1)) for i in range(2)]
        made += [rows.candidate(pool, (0, 1), "uniform_soup", accuracy=0.8 + gain)]
        made += [rows.candidate(pool, (0, 1), "best_member", accuracy=0.8 + gain + 0.01 + 0.0001 * pool)]
    found = {one.name: one for one in answers(run_of(made))}
    best = found["weights_beat_best_member"]
    assert best.finding is not None
    assert best.finding.values.frame["value"].to_numpy() == pytest.approx([-0.01, -0.0101, -0.0102, -0.0103])
    assert best.verdict == "refuted"
    mean = found["weights_beat_members"].finding
    assert mean is not None
    assert mean.estimate.estimate == pytest.approx(0.045)
    compared = tables.differences(rows.frame(made))
    assert compared.columns == ["best_member", "mean_member"]
    assert set(compared.merges["label"]) == {"uniform_soup"}
    assert compared.found["uniform_soup", "best_member"]["people", 2].estimate == pytest.approx(-0.01015)


@pytest.mark.parametrize(
    ("kinds", "estimate", "words"),
    [
        ({"gravity": "cnn", "xcit": "transformer", "mlp": "mlp"}, 0.03, "transformers minus the others"),
        ({"gravity": "cnn", "xcit": "cnn"}, 0.02, "gravity minus xcit"),
        ({"gravity": None, "xcit": "transformer"}, 0.02, "gravity minus xcit"),
        ({}, 0.02, "gravity minus xcit"),
    ],
)
def test_transformers_against_the_others(kinds: dict[str, str | None], estimate: float, words: str) -> None:
    """By the recorded kind and not by a name that holds `vit`; where a kind is unknown, two architectures by name."""
    gaps = {"xcit": 0.0, "gravity": -0.02, "mlp": 0.08}
    made = []
    for pool, name in itertools.product(range(3), list(kinds) or ["gravity", "xcit"]):
        gap = {"gravity": 0.02, "mlp": 0.04}.get(name, 0.0) if len(kinds) == 3 else gaps[name]
        made += merges(pool, gap + 0.001 * pool, population=name)
    run = run_of(made)
    if kinds:
        run.tables["candidates"]["architecture_kind"] = run.tables["candidates"]["population"].map(kinds)
    (found,) = (one for one in answers(run) if one.name == "architecture_moderates")
    assert found.finding is not None
    assert found.finding.values.question.estimand.startswith(f"accuracy: uniform_soup minus logit_average, {words}, ")
    assert found.finding.estimate.estimate == pytest.approx(estimate)
    assert found.verdict == "supported"


def test_kinds_come_from_the_members_and_earlier_folders_have_none(tmp_path: Path) -> None:
    made = [row for pool in range(2) for row in merges(pool, 0.01)]
    people = rows.members(pools=2, members=2)
    for row in people:
        row["architecture_kind"] = "transformer"
    written = {"candidates": made, "members": people}
    assert set(load(rows.write(tmp_path / "run", written, {})).candidates["architecture_kind"]) == {"transformer"}
    earlier = load(ROOT / "tests/golden/earlier_run/run")
    assert earlier.candidates["architecture_kind"].isna().all()
    assert earlier.members["architecture_kind"].isna().all()


def test_cells_are_those_of_the_paired_difference() -> None:
    made = [row for p in range(4) for row in merges(p, 0.01 * p)]
    made += [row for p in range(3) for row in merges(p, 0.02 + 0.004 * p, population="others")]
    frame = rows.frame(made)
    ours = contrast(frame, "uniform_soup", "logit_average", margin=0.005).estimate
    theirs = paired_difference(frame, over="these cells", margin=0.005).iloc[0]
    for name in ("estimate", "se", "df", "low", "high", "p"):
        assert getattr(ours, name) == pytest.approx(theirs[name])


def test_shares_make_a_contrast_of_cells() -> None:
    values = np.array([1.0, 2.0, 3.0, 10.0, 12.0])
    populations = np.array(["a", "a", "a", "b", "b"], dtype=object)
    found = stratified_mean(values, populations, Question("a minus b", null=0.0), shares=np.array([1.0, -1.0]))
    variance = 1.0 / 3 + 2.0 / 2
    assert found.estimate == 2 - 11
    assert found.se == pytest.approx(math.sqrt(variance))
    assert found.df == pytest.approx(variance**2 / ((1 / 3) ** 2 / 2 + 1.0**2 / 1))  # Welch's


def test_sizes_weigh_the_same_however_many_subsets_they_have() -> None:
    made = []
    for pool in range(2):
        made += [rows.candidate(pool, (i,), "single", accuracy=0.5) for i in range(3)]
        for subset, accuracy in [((0, 1), 0.6), ((0, 2), 0.6), ((1, 2), 0.6), ((0, 1, 2), 0.8)]:
            made.append(rows.candidate(pool, subset, "uniform_soup", accuracy=accuracy))
    found = contrast(pd.DataFrame(rows.frame(made)), "uniform_soup", "mean_member", margin=0.005)
    assert found.estimate.estimate == pytest.approx(0.2)


def test_the_verb_prints_every_claim(tmp_path: Path) -> None:
    folder = rows.run_folder(tmp_path / "run")
    result = CliRunner().invoke(main, ["claims", str(folder)])
    assert result.exit_code == 0, result.stderr
    values = json.loads(CliRunner().invoke(main, ["claims", str(folder), "--json"]).stdout)
    assert [one["claim"] for one in values] == CLAIMS
    for one in values:
        assert one["question"] in result.stdout
        assert one["verdict_of_claim"] in (*VERDICTS, "not asked")
        assert one["missing"] or one["low"] <= one["estimate"] <= one["high"]

"""What claims on accuracy do not count, and what they name: controls, equal functions, other training settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims.architecture_moderates import architecture_moderates
from analysis.inference.estimate import Question
from analysis.inference.finding import PoolValues
from analysis.report.audit_changes import effect_changes, summary
from analysis.report.claims import Answer, answers, notes
from analysis.rows.run import Run
from tests.helpers import rows

NOISE = np.array([0.003, -0.002, 0.001, -0.001, 0.002, -0.003])


def study(population: str, gap: float, **own: Any) -> list[dict[str, Any]]:
    """Pools whose ensemble is `gap` more accurate than their soup."""
    made = []
    own = {"population": population, **own}
    for pool, noise in enumerate((gap + NOISE).tolist()):
        made += [rows.candidate(pool, (index,), "single", accuracy=0.8, **own) for index in range(2)]
        made.append(rows.candidate(pool, (0, 1), "uniform_soup", accuracy=0.9, **own))
        ensemble = {"space": "logits", "accuracy": 0.9 + noise, **own}
        made.append(rows.candidate(pool, (0, 1), "logit_average", **ensemble))
    return made


def run_of(made: list[dict[str, Any]], kinds: dict[str, str], shuffled: set[str]) -> Run:
    members = []
    for name in kinds:
        training = json.dumps({"shuffle_labels": name in shuffled})
        members += [row | {"training": training} for row in rows.members(pools=6, members=2, population=name)]
    candidates = rows.frame(made)
    candidates["architecture_kind"] = candidates["population"].map(kinds)
    return Run(Path("runs/made"), {}, "", {"candidates": candidates, "members": rows.frame(members, "members")})


def claim(run: Run, name: str = "weights_or_logits") -> Answer:
    return next(one for one in answers(run) if one.name == name)


def test_members_trained_on_shuffled_labels_count_in_no_claim_on_accuracy() -> None:
    made = study("true", 0.02) + study("control", -0.1)
    found = run_of(made, {"true": "cnn", "control": "cnn"}, {"control"})
    alone = run_of(study("true", 0.02), {"true": "cnn"}, set())
    (shown, expected) = (claim(one).finding for one in (found, alone))
    assert shown is not None
    assert expected is not None
    assert shown.estimate == expected.estimate
    assert notes(found) == ["`control`: trained on shuffled labels, a control that no claim on accuracy counts"]
    assert notes(alone) == []


def test_soup_and_ensemble_of_one_linear_layer_are_not_compared() -> None:
    made = study("cnn", 0.02) + study("linear", 0.0)
    found = claim(run_of(made, {"cnn": "cnn", "linear": "linear"}, set())).finding
    alone = claim(run_of(study("cnn", 0.02), {"cnn": "cnn"}, set())).finding
    assert found is not None
    assert alone is not None
    assert found.estimate.estimate == alone.estimate.estimate
    text = "`linear` left out: in one linear layer, `uniform_soup` and `logit_average` are the same function"
    assert found.estimate.warnings[0] == text
    for name in ("weights_or_logits", "soup_is_ensemble"):
        assert claim(run_of(study("linear", 0.0), {"linear": "linear"}, set()), name).missing == text


def test_defects_that_cannot_act_are_not_counted_as_open() -> None:
    def values(effects: np.ndarray) -> PoolValues:
        frame = pd.DataFrame({"population": "a", "pool_id": [f"a-{pool}" for pool in range(6)], "value": effects})
        return PoolValues(frame, Question("effect", "pool", 0.0, 0.005))

    correct = values(NOISE)
    defects = {"greedy_variant": values(NOISE), "train_mode": values(NOISE + 4 * NOISE[::-1])}
    numbers = {f"a-{pool}": pool for pool in range(6)}
    changes = effect_changes(correct, defects, numbers)
    assert {name: change.acts for name, change in changes.items()} == {"greedy_variant": False, "train_mode": True}
    assert summary(changes) == "open under 1 of 1 defects"


def test_training_settings_that_differ_between_architectures_are_named() -> None:
    """Only those of the populations compared, and pools of scratch starts only where they are among these."""
    made = study("vit", 0.0, architecture="vit") + study("cnn", 0.02, architecture="cnn")
    made += study("alone", 0.0, architecture="mlp", start="scratch")
    candidates = rows.frame(made)
    kinds = {"vit": "transformer", "cnn": "cnn", "alone": "mlp"}
    settings = {"vit": {"optimizer": "adamw", "epochs": 5}, "cnn": {"optimizer": "sgd", "epochs": 5}}
    training = {name: json.dumps(settings.get(name, {"epochs": 9})) for name in kinds}
    population = candidates["population"]
    known = candidates.assign(architecture_kind=population.map(kinds), training=population.map(training))
    warnings = architecture_moderates(known).estimate.warnings
    assert "settings differ, too: optimizer: sgd in cnn, adamw in vit" in warnings
    assert not any("exchangeable" in text for text in warnings)
    scratch = known.assign(start="scratch")
    assert any(
        "a scratch start are groups of exchangeable" in text
        for text in architecture_moderates(scratch).estimate.warnings
    )
    alike = known.assign(training=training["cnn"])
    assert not any("settings differ" in text for text in architecture_moderates(alike).estimate.warnings)


def test_settings_that_differ_between_groups_alone_are_no_difference() -> None:
    """Both networks are trained for 5 epochs from a shared start, and for 9 from starts of their own."""
    made = []
    for start in ("shared", "scratch"):
        made += study(f"vit {start}", 0.0, architecture="vit", start=start)
        made += study(f"cnn {start}", 0.02, architecture="cnn", start=start)
    candidates = rows.frame(made)
    kinds = {name: "transformer" if name.startswith("vit") else "cnn" for name in set(candidates["population"])}
    epochs = candidates["start"].map({"shared": '{"epochs": 5}', "scratch": '{"epochs": 9}'})
    known = candidates.assign(architecture_kind=candidates["population"].map(kinds), training=epochs)
    assert not any("settings differ" in text for text in architecture_moderates(known).estimate.warnings)
    longer = known["population"] == "vit scratch"
    other = known.assign(training=known["training"].mask(longer, '{"epochs": 10}'))
    text = "settings differ, too: epochs: 9 in cnn scratch, 10 in vit scratch"
    assert text in architecture_moderates(other).estimate.warnings

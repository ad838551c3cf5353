"""Rows of the engine: what changes no number, what is lost or failed, and which outputs are kept."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
import torch

from sweep.core.state_dict import state_dict_mismatches
from sweep.evaluation.block import BlockRunner
from sweep.evaluation.engine import make_engine
from sweep.execution.local import merged_model
from sweep.model.layout import make_layout
from sweep.model.split import Batching
from sweep.plan.work import CandidateWork
from tests.helpers.engine import Trained, trained
from tests.helpers.plain_loop import CNN, plain_logits, row


@pytest.mark.parametrize(
    "method", ["uniform_soup", "greedy_soup", "logit_average", "probability_average", "feature_average"]
)
def test_a_subset_of_one_is_the_member(method: str) -> None:
    pool = trained(CNN)
    merged = row(pool, method, 1)
    alone = row(pool, "single", 1)
    assert merged["accuracy"] == alone["accuracy"]
    assert merged["cross_entropy"] == pytest.approx(alone["cross_entropy"], abs=1e-6)


def test_two_copies_of_one_member_merge_to_its_bits() -> None:
    pool = trained(CNN)
    twice = Trained(pool.plan, pool.pool, pool.dataset, (pool.states[1], pool.states[1], pool.states[2]), pool.start)
    engine = twice.engine()
    merged = merged_model(engine, twice.candidate("uniform_soup", 0, 1)).state_dict()
    assert all(torch.equal(merged[name], tensor) for name, tensor in pool.states[1].items())


def test_batch_size_changes_no_prediction() -> None:
    pool = trained(CNN)
    for method, subset in (("single", (0,)), ("uniform_soup", (0, 1, 2)), ("feature_average", (0, 1))):
        one, many = (row(pool, method, *subset, batch=size) for size in (1, 64))
        assert one["accuracy"] == many["accuracy"]
        assert one["cross_entropy"] == pytest.approx(many["cross_entropy"], abs=1e-6)


def test_the_members_are_never_written_to() -> None:
    """Torch would write through to memory that all workers share."""
    pool = trained(CNN)
    weights = pool.weights()
    before = hashlib.sha256(weights.matrix.tobytes()).hexdigest()
    weights.matrix.flags.writeable = False
    evaluator = BlockRunner(
        make_engine(pool.pool, weights, pool.dataset, "cpu", Batching(256)), pool.pool, "test", ("accuracy",)
    )
    assert evaluator.engine.matrix.data_ptr() == weights.matrix.ctypes.data, "shared, not copied"
    evaluator.run(CandidateWork([(candidate, ("test", "validation")) for candidate in pool.plan.candidates]))
    assert hashlib.sha256(weights.matrix.tobytes()).hexdigest() == before


def test_equal_weights_are_evaluated_once() -> None:
    pool = trained(CNN)
    evaluator = pool.evaluator()
    work = CandidateWork([(candidate, ("test",)) for candidate in pool.plan.candidates])
    first = evaluator.run(work)
    second = evaluator.run(work)
    n = len(pool.dataset.splits["test"])
    # 3 members, 3 pairs and 1 triple over the test set, members once more with features; the search over validation.
    assert sum(r["forward_passes"] for r in first.candidates) <= n * (7 + 3) + 7 * len(
        pool.dataset.splits["validation"]
    )
    assert second.cost["forward_passes"] == 0
    same = ("candidate_id", "accuracy", "cross_entropy", "brier", "ece")
    assert [[r[key] for key in same] for r in first.candidates] == [[r[key] for key in same] for r in second.candidates]


def test_outputs_that_overflow_are_a_status_and_not_an_accuracy() -> None:
    pool = trained(CNN)
    outcome, prediction = pool.evaluator().evaluate(
        pool.candidate("single", 0, scaling="{magnify: {factor: 1.0e+12}}"), ("test",)
    )[0]
    assert (outcome["status"], outcome["finite"]) == ("non_finite", False)
    assert outcome.get("accuracy") is None
    assert "finite outputs" in outcome["error"]
    assert prediction is not None


def test_a_fault_of_one_candidate_is_its_own_row() -> None:
    pool = trained(CNN)
    bad = pool.candidate("uniform_soup", 0, 1, scaling="{magnify: {tensors: nothing.*}}")
    rows = pool.evaluator().run(CandidateWork([(bad, ("test",)), (pool.candidate("single", 0), ("test",))]))
    assert [each["status"] for each in rows.candidates] == ["failed", "ok"]
    assert rows.candidates[0]["error"] == "ValueError: magnify: no tensor matches `nothing.*`"


def test_predictions_hold_what_the_metrics_count() -> None:
    pool = trained(CNN)
    outcome, prediction = pool.evaluator().evaluate(pool.candidate("uniform_soup", 0, 1), ("test",))[0]
    assert prediction is not None
    bits = np.unpackbits(np.frombuffer(prediction["correct"], dtype=np.uint8))[: outcome["n_examples"]]
    classes = np.frombuffer(prediction["classes"], dtype=np.uint8)
    assert bits.mean() == outcome["accuracy"]
    assert np.array_equal(bits.astype(bool), classes == pool.dataset.splits["test"].labels)


def test_probabilities_are_kept_where_they_are_asked_for() -> None:
    pool = trained(CNN)
    asking = dataclasses.replace(pool.evaluator(), probabilities=True)
    candidate = pool.candidate("probability_average", 0, 1)
    outcome, prediction = asking.evaluate(candidate, ("test",))[0]
    _, without = pool.evaluator().evaluate(candidate, ("test",))[0]
    assert prediction is not None
    assert without == {key: prediction[key] for key in prediction if key not in ("labels", "log_probabilities")}
    labels = np.frombuffer(prediction["labels"], dtype=np.uint8)
    assert np.array_equal(labels, pool.dataset.splits["test"].labels)
    log_p = np.frombuffer(prediction["log_probabilities"], dtype="<f2").reshape(len(labels), 10).astype(float)
    each = [plain_logits(pool, state)[0].double().softmax(1).numpy() for state in pool.states[:2]]
    np.testing.assert_allclose(log_p, np.log(np.mean(each, axis=0)), rtol=1e-3, atol=1e-6)
    assert -log_p[np.arange(len(labels)), labels].mean() == pytest.approx(outcome["cross_entropy"], rel=1e-3)


def test_probabilities_beyond_half_precision_are_its_ends_and_outputs_that_are_not_finite_have_none() -> None:
    pool = trained(CNN)
    asking = dataclasses.replace(pool.evaluator(), probabilities=True)
    outcome, sharp = asking.evaluate(pool.candidate("single", 0, scaling="{magnify: {factor: 100}}"), ("test",))[0]
    assert sharp is not None
    log_p = np.frombuffer(sharp["log_probabilities"], dtype="<f2")
    assert outcome["status"] == "ok"
    assert (log_p.min(), log_p.max()) == (np.finfo(np.float16).min, 0)
    _, overflowed = asking.evaluate(pool.candidate("single", 0, scaling="{magnify: {factor: 1.0e+12}}"), ("test",))[0]
    assert overflowed is not None
    assert "log_probabilities" not in overflowed


def test_a_checkpoint_of_another_architecture_is_reported_by_its_first_differences() -> None:
    pool = trained(CNN)
    layout = make_layout(pool.model(), 10)
    state = dict(pool.states[0])
    state["conv9.weight"] = state.pop("conv1.weight")
    state["fc2.bias"] = state["fc2.bias"][:5]
    state["extra"] = torch.zeros(1)
    assert state_dict_mismatches(state, layout) == [
        "`conv1.weight` is missing",
        "`conv9.weight` is unknown",
        "`extra` is unknown",
        "`fc2.bias` has shape (5,) instead of (10,)",
    ]
    other = Trained(pool.plan, pool.pool, pool.dataset, (state, *pool.states[1:]), pool.start)
    with pytest.raises(ValueError, match=r"`conv1.weight` is missing; .* \(and 1 more\)$"):
        other.weights()

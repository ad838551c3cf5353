"""The published greedy searches under magnification, against a plain loop over state dicts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from sweep.model.split import to_device
from tests.helpers.audits import row
from tests.helpers.engine import Trained, trained
from tests.helpers.plain_loop import plain_logits

CNN = "{cnn: {width: 4}}"
State = dict[str, Tensor]
MEMBERS = (0, 1, 2)


def times(state: State, factor: float) -> State:
    return {name: tensor * factor for name, tensor in state.items()}


def mixed(states: Sequence[State], shares: Sequence[float]) -> State:
    return {name: sum(share * state[name] for share, state in zip(shares, states, strict=True)) for name in states[0]}


@torch.no_grad()
def validation_accuracy(pool: Trained, state: State) -> float:
    split = to_device(pool.dataset, "validation", torch.device("cpu"))
    return float((pool.model(state)(split.normalize(split.images)).argmax(1) == split.labels).double().mean())


def magnified(pool: Trained, factor: float, which: str) -> list[State]:
    return [times(state, factor) if which == "all" or place == 0 else state for place, state in enumerate(pool.states)]


@pytest.mark.parametrize("which", ["all", "first"])
@pytest.mark.parametrize("factor", [0.5, 1.5, 10])
def test_the_audited_greedy_soup_starts_unscaled_and_scales_what_enters(factor: float, which: str) -> None:
    pool = trained(CNN)
    scores = [validation_accuracy(pool, state) for state in pool.states]
    best = max(scores)
    soup = pool.states[scores.index(best)]
    for member in magnified(pool, factor, which):
        trial = mixed([soup, member], [0.5, 0.5])
        accuracy = validation_accuracy(pool, trial)
        if accuracy > best:
            soup = trial
            best = accuracy
    scaling = {"magnify": {"factor": factor, "members": which}}
    found = row(pool, "greedy_variant", "greedy_soup", *MEMBERS, scalings=[scaling])
    logits, labels = plain_logits(pool, soup)
    assert found["accuracy"] == pytest.approx(float((logits.argmax(1) == labels).double().mean()), abs=1e-12)
    expected = float(torch.nn.functional.cross_entropy(logits.double(), labels))
    assert found["cross_entropy"] == pytest.approx(expected, rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("factor", [0.3, 10])
def test_the_audited_greedy_ensemble_chooses_by_unscaled_members(factor: float) -> None:
    pool = trained(CNN)
    accepted = [0]
    soup = pool.states[0]
    best = validation_accuracy(pool, pool.states[0])
    for place in (1, 2):
        trial = mixed([soup, pool.states[place]], [place / (place + 1), 1 / (place + 1)])
        accuracy = validation_accuracy(pool, trial)
        if accuracy > best:
            soup = trial
            best = accuracy
            accepted.append(place)
    scaled = magnified(pool, factor, "first")
    logits = torch.stack([plain_logits(pool, scaled[place])[0] for place in accepted]).mean(0)
    scaling = {"magnify": {"factor": factor, "members": "first"}}
    found = row(pool, "greedy_variant", "greedy_ensemble", *MEMBERS, scalings=[scaling])
    expected = float(torch.nn.functional.cross_entropy(logits.double(), pool.test_split()[1]))
    assert found["cross_entropy"] == pytest.approx(expected, rel=1e-6, abs=1e-5)


def test_without_a_scaling_the_variant_is_halving_to_the_last_bit() -> None:
    pool = trained(CNN)
    found = row(pool, "greedy_variant", "greedy_soup", *MEMBERS)
    expected = row(pool, "correct", "greedy_halving", *MEMBERS)
    assert (found["accuracy"], found["cross_entropy"]) == (expected["accuracy"], expected["cross_entropy"])

"""What a search chose is in its row."""

from __future__ import annotations

import pytest
import torch

from sweep.core.registry import get_plugin, list_plugins
from sweep.evaluation.rows import choice_columns
from sweep.execution.local import merged_model
from tests.helpers.engine import trained
from tests.helpers.plain_loop import CNN, assert_scores, plain_logits, plain_mean, row

SEARCHES = [name for name in list_plugins("methods") if "score" in get_plugin("methods", name).needs]
OTHERS = ["uniform_soup", "logit_average", "feature_average", "single"]


@pytest.mark.parametrize("method", SEARCHES)
def test_the_row_of_a_search_has_what_makes_its_merge(method: str) -> None:
    pool = trained(CNN)
    found = row(pool, method, 0, 1, 2)
    ids = [member.id for member in pool.pool.members]
    assert found["chosen"] == [one for one in ids if one in found["chosen"]]
    assert sum(found["coefficients"]) == pytest.approx(1) or method == "greedy_indexed"
    states = [pool.states[ids.index(one)] for one in found["chosen"]]
    if found["space"] == "logits":
        logits = sum(
            share * plain_logits(pool, state)[0] for share, state in zip(found["coefficients"], states, strict=True)
        )
        assert_scores(found, torch.as_tensor(logits), plain_logits(pool, states[0])[1])
        return
    merged = merged_model(pool.engine(), pool.candidate(method, 0, 1, 2)).state_dict()
    for name, tensor in plain_mean(states).items():
        parts = torch.stack([state[name] * share for state, share in zip(states, found["coefficients"], strict=True)])
        torch.testing.assert_close(merged[name], parts.sum(0).to(tensor.dtype), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", OTHERS)
def test_other_methods_choose_nothing(method: str) -> None:
    subset = (0,) if method == "single" else (0, 1, 2)
    found = row(trained(CNN), method, *subset)
    assert (found["chosen"], found["coefficients"]) == (None, None)


def test_a_greedy_soup_of_one_member_shows_it() -> None:
    assert choice_columns(["a", "b", "c"], [0.0, 1.0, 0.0]) == {"chosen": ["b"], "coefficients": [1.0]}

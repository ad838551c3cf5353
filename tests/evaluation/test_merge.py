"""Merges, searches, repairs and forward passes are made once per candidate; caches are bounded."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from sweep.core.choice import PluginConfig
from sweep.core.registry import Plugin, get_plugin
from sweep.evaluation import engine as engine_module
from sweep.evaluation import merge as merge_module
from sweep.evaluation.cache import BoundedCache
from sweep.evaluation.merge import LinearMerge, OutputEnsemble, WeightMerge, load_merge, make_merge
from sweep.plan.candidates import Candidate
from sweep.plan.work import CandidateWork
from tests.helpers.audits import NORMED, candidates
from tests.helpers.engine import Trained, trained
from tests.helpers.plain_loop import CNN

SPLITS = ("test", "validation")


def repaired(pool: Trained, repair: str, method: str, *subset: int, **settings: Any) -> Candidate:
    config = PluginConfig("repairs", repair, get_plugin("repairs", repair).validate({}))
    return pool.candidate(method, *subset, **settings)._replace(repair=config)


def count_work(pool: Trained, candidate: Candidate, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Evaluate a candidate on both splits, and count calls of plug-ins and examples, beside the engine's own count."""
    counts: Counter[str] = Counter()
    runner = pool.evaluator()
    runner.engine.model.register_forward_hook(lambda _, inputs, output: counts.update(passes=len(inputs[0])))
    call = Plugin.call

    def counted(plugin: Plugin, *arguments: Any) -> Any:
        counts.update([plugin.kind])
        return call(plugin, *arguments)

    accuracy = engine_module.PoolEngine.accuracy

    def scored(*arguments: Any) -> float:
        counts.update(["scores"])
        return accuracy(*arguments)

    members = merge_module.SubsetMembers
    monkeypatch.setattr(merge_module, "SubsetMembers", lambda *each: counts.update(["merges"]) or members(*each))
    monkeypatch.setattr(Plugin, "call", counted)
    monkeypatch.setattr(engine_module.PoolEngine, "accuracy", scored)
    rows = runner.run(CandidateWork([(candidate, SPLITS)]))
    assert [row["status"] for row in rows.candidates] == ["ok", "ok"]
    assert counts["passes"] == rows.cost["forward_passes"] == sum(row["forward_passes"] for row in rows.candidates)
    assert counts["merges"] == 1
    return counts


def sizes(pool: Trained) -> tuple[int, int, int]:
    return tuple(len(pool.dataset.splits[name].labels) for name in ("train", *SPLITS))  # type: ignore[return-value]


@pytest.mark.parametrize("method", ["uniform_soup", "greedy_soup"])
def test_a_soup_is_made_and_reset_once_for_two_splits(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = trained(NORMED)
    train, test, validation = sizes(pool)
    counts = count_work(pool, repaired(pool, "reset_bn", method, 0, 1, 2), monkeypatch)
    assert (counts["methods"], counts["repairs"]) == (1, 1)
    searched = counts["scores"] * validation if method == "greedy_soup" else 0
    assert counts["passes"] == train + test + validation + searched


def test_activations_are_rescaled_once_for_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = trained(NORMED)
    train, test, validation = sizes(pool)
    counts = count_work(pool, repaired(pool, "rescale_activations", "uniform_soup", 0, 1), monkeypatch)
    assert (counts["methods"], counts["repairs"]) == (1, 1)
    assert counts["passes"] == 2 + 3 * train + test + validation  # two images find the layers; members, then the soup


def test_a_greedy_search_runs_once_for_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = trained(CNN)
    counts = count_work(pool, pool.candidate("greedy_soup", 0, 1, 2), monkeypatch)
    assert counts["methods"] == 1
    assert counts["scores"] == 5  # three members, two trials


def test_a_greedy_ensemble_selects_its_members_once_for_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = trained(CNN)
    _, test, validation = sizes(pool)
    counts = count_work(pool, pool.candidate("greedy_ensemble", 0, 1, 2), monkeypatch)
    assert counts["scores"] == 3  # the first member, two trials
    assert counts["passes"] == 3 * test + (3 + 2) * validation


def test_what_merging_took_is_in_the_row_of_every_split() -> None:
    pool = trained(NORMED)
    rows = [row for row, _ in pool.evaluator().evaluate(repaired(pool, "reset_bn", "uniform_soup", 0, 1), SPLITS)]
    assert rows[0]["merge_seconds"] == rows[1]["merge_seconds"] > 0
    assert rows[0]["forward_passes"] == sum(sizes(pool)[:2])
    assert rows[1]["forward_passes"] == sizes(pool)[2]
    assert all(row["evaluate_seconds"] > 0 for row in rows)


def test_the_signature_of_a_method_decides_how_it_is_made() -> None:
    pool = trained(CNN)
    engine = pool.engine()
    kinds = {
        method: type(make_merge(engine, pool.candidate(method, *subset)))
        for method, subset in {"uniform_soup": (0, 1), "published_mixup": (0,), "logit_average": (0, 1)}.items()
    }
    expected = {"uniform_soup": LinearMerge, "published_mixup": WeightMerge, "logit_average": OutputEnsemble}
    assert kinds == expected


@pytest.mark.parametrize("method", ["uniform_soup", "published_mixup"])
def test_weights_that_others_replaced_are_loaded_again(method: str) -> None:
    pool = trained(NORMED)
    engine = pool.engine()
    subset = (0, 1) if method == "uniform_soup" else (0,)
    merge = make_merge(engine, repaired(pool, "reset_bn", method, *subset))
    expected, _ = merge.logits("test")
    load_merge(engine, pool.candidate("single", 2))
    again, _ = merge.logits("test")
    assert torch.equal(expected, again)


def test_a_cache_keeps_what_was_used_last_and_always_the_newest() -> None:
    cache: BoundedCache[str, int] = BoundedCache(10, lambda value: value)
    made: list[str] = []

    def use(key: str, value: int) -> None:
        assert cache.get_or_make(key, lambda: made.append(key) or value) == value  # type: ignore[func-returns-value]

    use("a", 4)
    use("b", 6)
    use("a", 4)
    use("c", 5)  # takes the place of b
    assert set(cache) == {"a", "c"}
    use("large", 99)
    assert set(cache) == {"large"}
    use("large", 99)
    assert made == ["a", "b", "c", "large"]


def test_caches_stay_small_whatever_scales_the_members(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = trained(CNN)
    scalings = [{"norm_matched": {"to": ["soup", "members"]}}]
    work = candidates(pool, ["correct"], methods=["logit_average"], scalings=scalings)
    unbounded = pool.evaluator().run(CandidateWork([(each, SPLITS) for each in work])).candidates
    monkeypatch.setattr(engine_module, "_MEMBER_SEGMENTS", 40)
    monkeypatch.setattr(engine_module, "_FACTOR_BYTES", 1)
    runner = pool.evaluator()
    bounded = runner.run(CandidateWork([(each, SPLITS) for each in work])).candidates
    assert 0 < runner.engine._members.currsize <= 40
    assert len(runner.engine._factors) <= 1
    keys = ("candidate_id", "split", "accuracy", "cross_entropy", "brier", "ece")
    assert [[row[key] for key in keys] for row in bounded] == [[row[key] for key in keys] for row in unbounded]
    assert len(bounded) == 2 * len(work) > 8

"""Sweeps under protocols, and the rows that a small pool gives under them."""

from __future__ import annotations

from typing import Any

from sweep.config.document import Document
from sweep.config.loader import check
from sweep.config.spec import Sweep
from sweep.core.registry import get_plugin, list_plugins
from sweep.plan.candidates import Candidate
from sweep.plan.planner import make_plan
from sweep.plan.work import CandidateWork
from tests.helpers.engine import Trained

VIT = "{timm: {name: test_vit, upsample: 32}}"
NORMED = "{mlp_bn: {hidden: [24, 16], dropout: 0}}"
METHODS = ["uniform_soup", "greedy_soup", "logit_average", {"feature_average": {"head": "average"}}]
OF_RECIPES = {name for name in list_plugins("protocols") if "recipe" in get_plugin("protocols", name).needs}
SWITCHES = sorted({*list_plugins("protocols")} - OF_RECIPES)
ALL = ["correct", *SWITCHES, {"combined": SWITCHES}]


def swept(population: Any, protocols: Any, methods: Any = METHODS, scalings: Any = "none", **more: Any) -> Sweep:
    values = {
        "name": "t",
        "dataset": {"digits": {"size": 8}},
        "populations": [population],
        "subsets": {"sizes": [2, 3], "per_size": 100},
        "methods": methods,
        "scalings": scalings,
        "protocols": protocols,
    }
    return check(Document("f.yaml", values | more))


def candidates(pool: Trained, protocols: Any, **more: Any) -> list[Candidate]:
    plan = make_plan(swept(pool.plan.sweep.populations[0].to_config, protocols, **more))
    return [candidate for candidate in plan.candidates if candidate.pool_id == pool.pool.id]


def row(
    pool: Trained, protocol: Any, method: Any, *subset: int, scalings: Any = "none", batch: int = 256
) -> dict[str, Any]:
    """The row of one candidate under one protocol, whatever its status."""
    found = candidates(pool, ["correct", protocol], methods=[method], scalings=scalings)
    name = method if isinstance(method, str) else next(iter(method))
    wanted = [c for c in found if c.subset == subset and c.method.name == name]
    audited = [c for c in wanted if (c.protocol.name != "correct") == (protocol != "correct")]
    assert len(audited) == 1
    return pool.evaluator(batch).evaluate(audited[0], ("test",))[0][0]


def measured(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    keys = ("status", "accuracy", "cross_entropy", "brier", "ece", "n_examples")
    return {row["candidate_id"]: [row.get(key) for key in keys] for row in rows}


def evaluated(pool: Trained, work: list[Candidate]) -> dict[str, list[Any]]:
    return measured(pool.evaluator().run(CandidateWork([(each, ("test",)) for each in work])).candidates)

"""Ids: canonical content, and defaults that must not change behind them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.config.recipe import Recipe
from sweep.core.ids import canonical_json, content_id, derive_seed
from sweep.core.registry import NEEDS, get_plugin, list_plugins
from tests.helpers import ROOT

GOLDEN = ROOT / "tests/golden/defaults.json"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def test_defaults_do_not_change_behind_ids() -> None:
    """Settings at their defaults stay out of ids, so a default that changes would mix old rows with new ones.

    A new setting is added to the golden file (`python -m tests.golden.write_defaults`); a new plug-in may be, since it
    changes no old id. For a changed default, raise TRAINING_VERSION or EVALUATION_VERSION as well
    (sweep/plan/pools.py, sweep/plan/planner.py).
    """
    golden = json.loads(GOLDEN.read_text())
    defaults = {f"{kind}/{name}": _defaults(kind, name) for kind in NEEDS for name in list_plugins(kind)}
    defaults["recipe"] = json.loads(Recipe().model_dump_json())
    assert {name: settings for name, settings in defaults.items() if name in golden} == golden


def _defaults(kind: str, name: str) -> dict[str, Any]:
    fields = get_plugin(kind, name).settings.model_fields
    return {key: json.loads(json.dumps(field.default, default=str)) for key, field in fields.items()}


@given(json_values)
def test_ids_depend_on_content_alone(value: Any) -> None:
    shuffled = json.loads(json.dumps(value), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert content_id("test", value) == content_id("test", shuffled)
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)
    assert len(content_id("test", value)) == 32


@given(json_values, json_values)
def test_different_content_has_different_ids(first: Any, second: Any) -> None:
    assert (content_id("test", first) == content_id("test", second)) == (
        canonical_json(first) == canonical_json(second)
    )


@pytest.mark.parametrize(
    ("first", "second"), [(1, 1.0), (0, -0.0), ([1, 2], (1, 2)), ({"a": 1, "b": 2}, {"b": 2, "a": 1})]
)
def test_what_is_the_same_however_written(first: Any, second: Any) -> None:
    assert content_id("test", first) == content_id("test", second)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_id("test", [value])


def test_kinds_and_seeds_are_reported_apart() -> None:
    assert content_id("member", 1) != content_id("pool", 1)
    seeds = {derive_seed(*parts) for parts in ((0, "a"), (0, "b"), (1, "a"), ("0", "a"), (0, "a", 0))}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_ids_are_the_same_for_ever() -> None:
    """Golden: another value here means that no run folder can be continued."""
    assert content_id("member", {"seed": 1, "name": "ü"}) == GOLDEN_ID
    assert derive_seed("subsets", 0, 1, 2) == GOLDEN_SEED


GOLDEN_ID = "3149729ffd26626f39dd310680c2b509"
GOLDEN_SEED = 1216795294408792331

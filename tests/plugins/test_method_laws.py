"""Laws of merging that a method keeps, or states in `EXEMPT` not to keep."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sweep.core.registry import Plugin
from sweep.core.weights import Heads
from sweep.plugins.methods import _task_vectors
from tests.helpers import ROOT
from tests.helpers.provided import LAYOUT, provided
from tests.plugins.test_methods import METHODS, counts, exemptions

IN_WEIGHTS = [entry for entry in METHODS if entry.space == "weights"]
UNSEARCHED = [entry for entry in METHODS if "score" not in entry.needs]  # a search follows the score, not these laws
WITH_BASE = [entry for entry in METHODS if "base" in entry.needs]
Law = Callable[[Plugin, int], None]


def merge(entry: Plugin, count: int, change: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> Tensor:
    """The result in double precision for what an engine would bring, changed."""
    values: Tensor = entry.function(**change(provided(entry, count, dtype=torch.float64)))
    return values.as_subclass(Tensor)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-8)


def keeps_copies(entry: Plugin, count: int) -> None:
    """Merging copies of one member gives it."""

    def copied(values: dict[str, Any]) -> dict[str, Any]:
        return values | {"members": values["members"][:1].repeat(count, 1)}

    if entry.space == "weights" and entry.arity != 1:
        close(merge(entry, count, copied), copied(provided(entry, count, dtype=torch.float64))["members"][0])


def ignores_order(entry: Plugin, count: int) -> None:
    """Members in another order give the same."""

    def turned(values: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for need, value in values.items():
            if isinstance(value, Heads):
                found[need] = Heads(*(part.roll(1, 0) for part in value))
            elif need in ("members", "unscaled", "logits", "features"):
                found[need] = value.roll(1, 0)
        return values | found

    close(merge(entry, count, turned), merge(entry, count))


def follows_units(entry: Plugin, count: int) -> None:
    """Permuting the units of all members alike permutes those of the result."""
    if entry.space != "weights":
        return
    places = torch.arange(LAYOUT.n_entries)
    for columns in LAYOUT.entries:
        own = places[columns.offset : columns.stop].view(columns.shape)
        own = own if columns.role == "head" else own.flip(0)  # the rows of the head are classes, not units
        own = own.roll(1, 1) if own.ndim > 1 else own
        places[columns.offset : columns.stop] = own.flatten()

    def permuted(values: dict[str, Any]) -> dict[str, Any]:
        rows = {need: value[..., places] for need, value in values.items() if need in ("members", "base")}
        return values | rows

    close(merge(entry, count, permuted), merge(entry, count)[places])


def follows_scale(entry: Plugin, count: int) -> None:
    """Task vectors times c give c times the merged task vector; where there is no base, weights take their place."""
    if entry.space != "weights":
        return

    def scaled(values: dict[str, Any]) -> dict[str, Any]:
        base = values.get("base", 0)
        return values | {"members": base + 3 * (values["members"] - base)}

    base = provided(entry, count, dtype=torch.float64).get("base", 0)
    close(merge(entry, count, scaled) - base, 3 * (merge(entry, count) - base))


LAWS: dict[str, Law] = {
    "copies": keeps_copies,
    "order": ignores_order,
    "units": follows_units,
    "scale": follows_scale,
}


def check(entry: Plugin, law: str) -> None:
    for count in counts(entry):
        LAWS[law](entry, count)


CASES = [pytest.param(entry, law, id=f"{entry.name}-{law}") for entry in UNSEARCHED for law in LAWS]


@pytest.mark.parametrize(("entry", "law"), CASES)
def test_a_method_keeps_the_laws_or_states_that_it_does_not(entry: Plugin, law: str) -> None:
    assert set(exemptions(entry)) <= set(LAWS)
    if law not in exemptions(entry):
        check(entry, law)
    else:
        with pytest.raises(AssertionError):
            check(entry, law)


@pytest.mark.parametrize("entry", WITH_BASE, ids=lambda entry: str(entry.name))
def test_members_that_did_not_move_give_the_base(entry: Plugin) -> None:
    for count in counts(entry):
        values = provided(entry, count)
        values["members"] = values["base"].repeat(count, 1)
        torch.testing.assert_close(entry.function(**values).as_subclass(Tensor), values["base"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("entry", WITH_BASE, ids=lambda entry: str(entry.name))
def test_a_base_that_is_a_member_gives_finite_weights(entry: Plugin) -> None:
    for count in counts(entry):
        values = provided(entry, count)
        values["base"] = values["members"][-1].clone()
        assert torch.isfinite(entry.function(**values)).all()


@pytest.mark.parametrize("entry", IN_WEIGHTS, ids=lambda entry: str(entry.name))
def test_tensors_that_are_zero_or_did_not_move_give_finite_weights(entry: Plugin) -> None:
    """Dead units and fresh biases are zero in all members, or in one."""
    for count in counts(entry):
        values = provided(entry, count)
        for columns in LAYOUT.entries:
            values["members"][:, columns.offset : columns.stop : 2] = 0
            values["members"][0, columns.offset : columns.stop] = 0
        if "base" in values:
            values["base"][::2] = 0
        assert torch.isfinite(entry.function(**values)).all()


@pytest.mark.parametrize("entry", IN_WEIGHTS, ids=lambda entry: str(entry.name))
def test_no_number_depends_on_the_size_of_steps(entry: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [merge(entry, count) for count in counts(entry)]
    monkeypatch.setattr(_task_vectors, "_CHUNK", 7)
    monkeypatch.setattr(_task_vectors, "_FEW", 1)
    for count, expected in zip(counts(entry), whole, strict=True):
        torch.testing.assert_close(merge(entry, count), expected, atol=1e-13, rtol=1e-13)


def test_another_process_gives_the_same_bits() -> None:
    started = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.helpers.method_bits"]
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True))
    first, second = (process.communicate()[0] for process in started)
    assert len(first.splitlines()) == len(METHODS)
    assert first == second

"""Laws that every method in the folder obeys."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from sweep.core.registry import Plugin, get_plugin, list_plugins
from sweep.core.weights import Heads, LinearCombination
from tests.helpers.provided import provided, score

METHODS = [get_plugin("methods", name) for name in list_plugins("methods")]
LINEAR = [entry for entry in METHODS if entry.hints["return"] is LinearCombination]


def tensors(values: dict[str, Any]) -> list[Tensor]:
    flat = [part for value in values.values() for part in (value if isinstance(value, Heads) else [value])]
    return [part for part in flat if isinstance(part, Tensor)]


def exemptions(entry: Plugin) -> dict[str, str]:
    """Laws that a method states not to keep, with the reasons."""
    return entry.constant("EXEMPT") or {}


def counts(entry: Plugin) -> list[int]:
    return [entry.arity] if entry.arity else [1, 2, 3, 5]


@pytest.fixture(params=METHODS, ids=lambda entry: str(entry.name))
def entry(request: pytest.FixtureRequest) -> Plugin:
    value: Plugin = request.param
    return value


def test_inputs_are_never_modified(entry: Plugin) -> None:
    for count in counts(entry):
        values = provided(entry, count)
        before = [tensor.clone() for tensor in tensors(values)]
        entry.function(**values)
        assert all(torch.equal(old, new) for old, new in zip(before, tensors(values), strict=True))


def test_same_inputs_give_the_same_bits(entry: Plugin) -> None:
    for count in counts(entry):
        first, second = (entry.function(**provided(entry, count)) for _ in range(2))
        assert torch.equal(first, second)


def test_merging_copies_of_one_model_returns_it(entry: Plugin) -> None:
    exempt = entry.arity == 1 or "copies" in exemptions(entry)  # of one model there are no copies
    for count in [] if exempt else counts(entry):
        values = provided(entry, count, same=True)
        alone = provided(entry, 1, same=True)
        space = entry.validate({}).get("space", entry.space)
        if space == "weights":
            expected = values["members"][0]
        elif space == "logits":
            expected = values["logits"][0].log_softmax(-1)
        else:
            expected = values["features"][0] @ values["heads"].weight[0].T + values["heads"].bias[0]
        merged = entry.function(**values)
        merged = merged.log_softmax(-1) if space == "logits" else merged
        torch.testing.assert_close(merged.as_subclass(Tensor).double(), expected.double(), atol=1e-5, rtol=1e-5)
        assert alone.keys() == values.keys()


def test_single_precision_agrees_with_double(entry: Plugin) -> None:
    for count in counts(entry):
        single = entry.function(**provided(entry, count))
        double = entry.function(**provided(entry, count, dtype=torch.float64))
        torch.testing.assert_close(
            single.double().as_subclass(Tensor), double.as_subclass(Tensor), atol=1e-4, rtol=1e-4
        )


def test_finite_inputs_give_finite_outputs(entry: Plugin) -> None:
    for count in counts(entry):
        assert torch.isfinite(entry.function(**provided(entry, count))).all()


def test_defaults_are_the_neutral_settings_of_the_schema(entry: Plugin) -> None:
    parameters = inspect.signature(entry.function).parameters.values()
    assert entry.validate({}) == {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def test_a_search_shows_what_it_chose(entry: Plugin) -> None:
    """It is linear, or records coefficients, which make its result where outputs are averaged."""
    if "score" not in entry.needs:
        assert "record" not in entry.needs
    elif entry not in LINEAR:
        for count in counts(entry):
            recorded: list[Tensor] = []
            values = provided(entry, count, dtype=torch.float64)
            values["record"] = lambda coefficients, to=recorded: to.append(torch.tensor(coefficients).double())
            result = entry.function(**values)
            assert [len(each) for each in recorded] == [count]
            average = torch.einsum("m,mec->ec", recorded[0], values["logits"])
            torch.testing.assert_close(result, average, atol=1e-12, rtol=0)


@pytest.mark.parametrize("linear", LINEAR, ids=lambda each: str(each.name))
def test_linear_methods_are_linear(linear: Plugin) -> None:
    """On coordinates they give the coefficients of what they give on weights."""
    for count in counts(linear):
        values = provided(linear, count, dtype=torch.float64)
        needs = [need for need in ("members", "unscaled", "base") if need in values]
        rows = torch.cat([values[need].view(-1, values["members"].shape[1]) for need in needs])
        basis = torch.eye(len(rows), dtype=torch.float64)
        on_basis = {"members": basis[:count], "unscaled": basis[count:], "base": basis[-1]}
        on_coordinates = values | {need: on_basis[need] for need in needs}
        if "score" in values:
            on_coordinates["score"] = lambda row, rows=rows: score(row @ rows)
        coefficients = linear.function(**on_coordinates).as_subclass(Tensor)
        expected = linear.function(**values).as_subclass(Tensor)
        torch.testing.assert_close(coefficients @ rows, expected, atol=1e-12, rtol=0)

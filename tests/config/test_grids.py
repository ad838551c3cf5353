"""Lists, ranges and grids of a configuration expand as documented, into populations with names of their own."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.helpers.texts import again, checked, text


def test_a_list_means_each_of_these() -> None:
    sweep = checked(
        text(
            "methods: [uniform_soup, {interpolation: {weight: [0, 0.5]}}]\n"
            "scalings: [none, {magnify: {factor: [0.5, 2], members: [all, first]}}]\nmetrics: [ece, accuracy]",
            "architecture: [linear, {mlp: {hidden: [[8], [8, 4]]}}], members: 4, train: {lr: [0.1, 0.2, 0.1]}",
        )
    )
    assert [p.name for p in sweep.populations] == [
        *("linear-digits-shared,lr=0.1", "linear-digits-shared,lr=0.2"),
        *("mlp-digits-shared,hidden=(8,),lr=0.1", "mlp-digits-shared,hidden=(8,),lr=0.2"),
        *("mlp-digits-shared,hidden=(8, 4),lr=0.1", "mlp-digits-shared,hidden=(8, 4),lr=0.2"),
    ]
    (grid,) = sweep.grids
    assert [method.to_config for method in grid.methods] == [
        *({"uniform_soup": {}}, {"interpolation": {"weight": 0.0}}, {"interpolation": {"weight": 0.5}}),
    ]
    message = [(s.name, s.settings.get("factor"), s.settings.get("members")) for s in grid.scalings]
    assert message == [
        ("none", None, None),
        *[("magnify", factor, members) for factor in (0.5, 2.0) for members in ("all", "first")],
    ]
    assert sweep.metrics == ("ece", "accuracy")


def test_choices_that_mean_the_same_are_one() -> None:
    sweep = checked(
        text("methods: [uniform_soup, {uniform_soup: {}}, {uniform_soup: }]\nscalings: {magnify: {factor: [2, 2.0]}}")
    )
    assert (len(sweep.grids[0].methods), len(sweep.grids[0].scalings)) == (1, 1)


def test_grids_take_what_they_leave_out_from_the_top() -> None:
    sweep = checked(
        text("methods: greedy_soup\nscalings: magnify\ngrids: [{}, {methods: uniform_soup}, {scalings: none}]")
    )
    found = [([m.name for m in grid.methods], [s.name for s in grid.scalings]) for grid in sweep.grids]
    assert found == [
        (["greedy_soup"], ["magnify"]),
        (["uniform_soup"], ["magnify"]),
        (["greedy_soup"], ["none"]),
    ]
    assert all(grid.subsets.sizes == (2,) for grid in sweep.grids)


NUMBERS = st.floats(1e-6, 1e6) | st.integers(1, 10**6)


@given(NUMBERS, NUMBERS, st.integers(2, 30), st.booleans())
@settings(max_examples=100, deadline=None)
def test_ranges_hold_both_ends_and_go_evenly_between(low: float, high: float, steps: int, log: bool) -> None:
    assume(abs(high - low) > 1e-6 * max(low, high))
    span = json.dumps({"from": low, "to": high, "steps": steps, "log": log})
    scalings = checked(text(f"scalings: {{magnify: {{factor: {span}}}}}")).grids[0].scalings
    values = [scaling.settings["factor"] for scaling in scalings]
    assert (values[0], values[-1]) == (low, high)
    assert len(values) == steps
    assert values == sorted(values, reverse=high < low)
    for index, value in enumerate(values):
        part = index / (steps - 1)
        even = low * (high / low) ** part if log else low + (high - low) * part
        assert value == pytest.approx(even, rel=1e-9, abs=1e-11 * max(low, high) if not log else 0)


def test_ranges_have_no_dust() -> None:
    def factors(span: str) -> list[float]:
        scalings = checked(text(f"scalings: {{magnify: {{factor: {span}}}}}")).grids[0].scalings
        return [scaling.settings["factor"] for scaling in scalings]

    assert factors("{from: 0.1, to: 1, steps: 10}") == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert factors("{from: 1e-3, to: 1e3, steps: 7, log: true}") == [0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
    assert factors("{from: 1e-15, to: 3e-15, steps: 3}") == [1e-15, 2e-15, 3e-15]
    assert factors("{from: 2, to: 1, steps: 3}") == [2.0, 1.5, 1.0]


FOLDERS = """name: t
subsets: {sizes: [2]}
populations:
- {architecture: linear, dataset: {imagefolder: {root: [/a/b, /a/c]}}}
"""


def test_names_of_populations_are_their_own_and_can_be_written() -> None:
    sweep = checked(FOLDERS)
    assert [p.name for p in sweep.populations] == [f"linear-imagefolder-shared,root=-a-{end}" for end in "bc"]
    long = f"/{'x' * 60}/{'y' * 60}"
    deep = checked(FOLDERS.replace("/a/b", f"{long}1").replace("/a/c", f"{long}2"))
    taken = checked(
        "name: t\nsubsets: {sizes: [2]}\npopulations:\n- {architecture: mlp, train: {lr: [0.1, 0.2]}, name: a}\n"
        "- {architecture: cnn, name: 'a,lr=0.1'}"
    )
    for found in (sweep, deep, taken):
        message = [p.name for p in found.populations]
        assert len(set(message)) == len(message)
        assert [p.name for p in again(found).populations] == message

"""What calls of a run had otherwise than the call before: versions and hardware, on this machine or a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from sweep.core.provenance import run_environment
from sweep.status.changes import all_changes, describe_changes


def call(version: str = "0.1.0", torch: str = "2.15.0", cpu: str = "AVX2", **more: Any) -> dict[str, Any]:
    """A call as run.json has it."""
    kept = {"code_version": version, "versions": {"torch": torch, "ray": "2.60.0"}, "started_at": f"at {version}"}
    return kept | {"determinism": {"cpu_capability": cpu}, "machine": {"accelerators": []}} | more


def test_a_first_call_and_an_equal_one_change_nothing() -> None:
    now = run_environment()
    assert describe_changes([]) == describe_changes([now]) == describe_changes([now, now]) == ""
    assert all_changes([now, now, now]) == []


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (call("0.2.0"), "merge-sweep 0.2.0 instead of 0.1.0"),
        (call(torch="2.16.0"), "torch 2.16.0 instead of 2.15.0"),
        (call(cpu="AVX512"), "instruction set AVX512 instead of AVX2"),
        (call(machine={"accelerators": ["L4", "L4"]}), "accelerators L4 instead of none"),
        (call(nodes={"cpu_capability": "AVX512", "accelerators": ""}), "instruction set AVX512 instead of AVX2"),
        (call(nodes={"cpu_capability": "AVX2", "accelerators": "A100"}), "accelerators A100 instead of none"),
        (call(cpu="AVX512", nodes={"cpu_capability": "AVX2"}), ""),
        (call(versions={"torch": "2.15.0", "ray": "3.0.0"}), ""),
        ({"code_version": "0.1.0"}, ""),
    ],
)
def test_what_numbers_depend_on_is_named_with_both_values(other: dict[str, Any], text: str) -> None:
    assert describe_changes([call(), other]) == (f"this run continues one of at 0.1.0 with {text}" if text else "")


def test_each_change_has_the_time_of_its_call() -> None:
    found = all_changes([call(), call("0.2.0"), call("0.2.0"), call("0.3.0", cpu="AVX512")])
    assert [one["started_at"] for one in found] == ["at 0.2.0", "at 0.3.0"]
    assert found[1]["changes"] == ["merge-sweep 0.3.0 instead of 0.2.0", "instruction set AVX512 instead of AVX2"]

"""What nodes of a cluster report of themselves and of the run folder, and how differences are worded."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.execution import node_checks
from sweep.execution.node_checks import NodeReport, difference, make_report, report_with_storage
from sweep.storage.files import create_atomic

OWN = NodeReport("a" * 64, "0.1.0+abc", {"torch": "2.15.0", "numpy": "2.4.6"}, {"cpu_capability": "AVX512"})


def test_equal_nodes_differ_in_nothing_and_a_processor_is_no_difference() -> None:
    assert difference(OWN, OWN) == ""
    assert difference(OWN, OWN._replace(hardware={"cpu_capability": "AVX2"})) == ""


def test_other_code_and_libraries_are_named_with_both_versions() -> None:
    other = OWN._replace(code="b" * 64, version="0.0.9", libraries={"torch": "2.14.0", "timm": "1.0.31"})
    assert difference(OWN, other) == (
        "it has other code of merge-sweep (0.0.9, here 0.1.0+abc), numpy none instead of 2.4.6, timm 1.0.31 instead of "
        "none, torch 2.14.0 instead of 2.15.0"
    )


def test_the_report_of_a_process_is_the_same_twice() -> None:
    assert make_report() == make_report()
    assert "cpu_capability" in make_report().hardware


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a node called `n` reads and writes in a run folder; nobody waits for listings here."""
    monkeypatch.setattr(node_checks, "_APPEAR_SECONDS", 0.5)
    return tmp_path / "run" / ".nodes" / "n"


def test_a_node_that_sees_the_run_folder_answers_in_it(place: Path) -> None:
    create_atomic(place / "driver", b"1")
    assert NodeReport(*report_with_storage(place)).storage_problem == ""
    assert (place / "n").read_bytes() == b"seen"


def test_a_node_without_the_run_folder_or_with_another_one_says_so(place: Path) -> None:
    folder = place.parents[1]
    assert NodeReport(*report_with_storage(place)).storage_problem == f"it does not see {folder}"
    place.mkdir(parents=True)
    assert NodeReport(*report_with_storage(place)).storage_problem == f"it does not see new files in {folder}"


def test_a_node_that_cannot_write_the_run_folder_says_why(place: Path) -> None:
    create_atomic(place / "driver", b"1")
    (place / "lock").mkdir()
    expected = f"it cannot write {place.parents[1]}: Is a directory"
    assert NodeReport(*report_with_storage(place)).storage_problem == expected

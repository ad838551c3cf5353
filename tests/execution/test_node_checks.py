"""What processes of a cluster report of themselves and of the run folder, what is refused, and how it is worded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweep.config.spec import Execution
from sweep.execution import handshake as module
from sweep.execution.handshake import Handshake, open_handshake
from sweep.execution.node_report import NodeReport, make_report
from sweep.execution.ray_checks import LaunchError
from sweep.execution.refusals import Answer, Refusals, Resources

LIBRARIES = {"torch": "2.15.0", "torchvision": "0.29.2", "numpy": "2.4.6"}
HARDWARE = {"cpu_capability": "AVX512", "cuda": "13.2", "cudnn": "92600"}
OWN = NodeReport("a" * 64, "0.1.0+abc", LIBRARIES, HARDWARE)
AVX2 = OWN._replace(hardware=HARDWARE | {"cpu_capability": "AVX2"})
TORCH = OWN._replace(libraries=LIBRARIES | {"torch": "2.14.0", "torchvision": "0.28.0"})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where processes agree in a run folder; nobody waits for listings here."""
    monkeypatch.setattr(module, "APPEAR_SECONDS", 0.5)
    return tmp_path / "run/.nodes/some"


def hands(place: Path, *, mixed: bool = False) -> Handshake:
    """The handshake of a run whose first process has what the driver has."""
    place.mkdir(parents=True)
    (place / "driver").touch()
    shake = Handshake(place, OWN, mixed)
    assert shake.judge(OWN) == ("", "", "")
    return shake


def test_other_code_and_libraries_are_named_with_both_versions_and_never_allowed(place: Path) -> None:
    other = OWN._replace(code="b" * 64, version="0.0.9", libraries={"torch": "2.14.0", "timm": "1.0.31"})
    for verdict in (hands(place, mixed=True).judge(other), Handshake(place, OWN, is_mixed=False).judge(other)):
        assert verdict.problem == (
            "it has other code of merge-sweep (0.0.9, here 0.1.0+abc), numpy none instead of 2.4.6, timm 1.0.31 "
            "instead of none"
        )
        assert "install the same merge-sweep" in verdict.hint


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (AVX2, "it has instruction set AVX2 instead of AVX512"),
        (TORCH, "it has torch 2.14.0 instead of 2.15.0, torchvision 0.28.0 instead of 0.29.2"),
        (OWN._replace(hardware=HARDWARE | {"cuda": "none"}), "it has CUDA none instead of 13.2"),
    ],
)
def test_what_can_change_numbers_is_refused_unless_it_is_allowed(place: Path, other: NodeReport, text: str) -> None:
    refused = hands(place).judge(other)
    assert refused.problem == f"{text}: numbers may differ"
    assert "execution.mixed_nodes=true" in refused.hint
    assert Handshake(place, OWN, is_mixed=True).judge(other) == ("", "", text)


def test_the_first_gpu_that_computes_is_the_kind_of_all(place: Path) -> None:
    """Processes without a GPU, which see none, agree with both."""
    shake = hands(place)
    one, other = (OWN._replace(hardware=HARDWARE | {"gpu": name}) for name in ("NVIDIA H200", "NVIDIA L4"))
    assert shake.judge(one).problem == shake.judge(OWN).problem == ""
    assert shake.judge(other).problem == "it has GPU NVIDIA L4 instead of NVIDIA H200: numbers may differ"
    assert shake.judge(one).problem == ""


def test_the_driver_of_a_cluster_computes_nothing_and_may_have_another_processor(place: Path) -> None:
    place.mkdir(parents=True)
    shake = Handshake(place, OWN, is_mixed=False)
    assert shake.judge(AVX2).problem == ""
    assert shake.judge(OWN).problem == "it has instruction set AVX512 instead of AVX2: numbers may differ"


def test_the_report_of_a_process_is_the_same_twice() -> None:
    first = make_report()
    make_report.cache_clear()
    assert make_report() == first
    assert "cpu_capability" in first.hardware


def test_a_handshake_leaves_nothing_behind_and_a_killed_run_neither(tmp_path: Path) -> None:
    (tmp_path / ".nodes/killed").mkdir(parents=True)
    with open_handshake(tmp_path, Execution()) as shake:
        assert [each.name for each in (tmp_path / ".nodes").iterdir()] == [shake.place.name]
        assert shake.judge(shake.report(0.0, "n")) == ("", "", "")
        assert (shake.place / "n").read_bytes() == b"seen"
    assert not (tmp_path / ".nodes").exists()


def test_a_node_without_the_run_folder_or_with_another_one_is_refused(place: Path) -> None:
    folder = place.parents[1]
    shake = Handshake(place, make_report(), is_mixed=False)
    for text in (f"it does not see {folder}", f"it does not see new files in {folder}"):
        verdict = shake.judge(shake.report(0.0, "n"))
        assert verdict.problem == text
        assert "must be one folder on every node" in verdict.hint
        folder.mkdir(exist_ok=True)


def test_a_node_that_cannot_write_the_run_folder_says_why(place: Path) -> None:
    (hands(place).place / "lock").mkdir()
    shake = Handshake(place, make_report(), is_mixed=False)
    assert shake.judge(shake.report(0.0, "n")).problem == f"it cannot write {place.parents[1]}: Is a directory"


def node(name: str, **more: Any) -> dict[str, Any]:
    """A node as Ray lists it."""
    return {"NodeID": name, "Alive": True, "Resources": {"CPU": 2.0}} | more


def test_a_run_ends_with_every_refused_node_once_no_other_has_room(place: Path) -> None:
    refusals = Refusals()
    needed = Resources(2.0, 0.0)
    refused = Answer("process 1 on b", "b", "10.0.0.2", hands(place).judge(AVX2))
    refusals.check_room([node("b")], needed)
    assert not refusals.take(refused._replace(node="a", verdict=refused.verdict._replace(problem="")))
    assert refusals.take(refused)
    assert [one["NodeID"] for one in refusals.others([node("a"), node("b")])] == ["a"]
    refusals.check_room([node("a"), node("b")], needed)
    for others in ([], [node("a", Alive=False)], [node("a", Resources={"CPU": 1.0})]):
        with pytest.raises(
            LaunchError, match=r"no node is left to compute on: node 10\.0\.0\.2: it has instruction set"
        ):
            refusals.check_room([node("b"), *others], needed)

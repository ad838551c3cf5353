"""Who is late, by a clock of the test's own; and a clock on the wall that is set back."""

from __future__ import annotations

import pytest

from sweep.execution.progress import ClockGuard, Progress
from sweep.execution.stragglers import StragglerDetector


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def watch(*took: float, patience: float = 60.0) -> tuple[StragglerDetector, Clock]:
    """A watch that has seen some things end."""
    clock = Clock()
    made = StragglerDetector(patience, clock)
    for seconds in took:
        made.start("before")
        clock.at += seconds
        made.finish("before")
    return made, clock


@pytest.mark.parametrize(
    ("took", "limit"), [((1.0,), 60.0), ((5.0, 7.0, 30.0), 70.0), ((8.0, 2.0, 9.0, 1.0), 80.0), ((0.0, 0.0), 60.0)]
)
def test_late_is_beyond_patience_and_ten_times_the_median(took: tuple[float, ...], limit: float) -> None:
    made, clock = watch(*took)
    made.start("it")
    clock.at += limit
    assert not made.is_late("it")
    assert list(made.new_stragglers()) == []
    clock.at += 0.5
    assert made.is_late("it")
    assert [who for who, _ in made.new_stragglers()] == ["it"]


def test_nobody_is_late_before_anything_has_ended_nor_after_its_own_end() -> None:
    made, clock = watch()
    made.start("first")
    clock.at += 1e6
    assert not made.is_late("first")
    made.finish("first")
    assert not made.is_late("first")
    assert not made.is_late("stranger")


def test_each_is_reported_once_for_each_thing_that_it_does() -> None:
    made, clock = watch(6.0, 6.0, 6.0)
    made.start("it")
    clock.at += 720
    assert list(made.new_stragglers()) == [("it", "12 min, 120 times the median")]
    clock.at += 720
    assert list(made.new_stragglers()) == []
    made.finish("it")
    made.start("it")
    clock.at += 61
    assert [who for who, _ in made.new_stragglers()] == ["it"]
    made.drop("it")
    assert not made.is_late("it")
    made.finish("it")
    assert len(made.durations[None]) == 4, "what was forgotten does not count"


def test_a_task_is_compared_with_its_own_kind_and_else_with_the_longest() -> None:
    made, clock = watch(1.0, 1.0, 30.0)
    made.start("vit", "vit")
    clock.at += 299
    assert not made.is_late("vit"), "ten times the longest task is 300 s"
    clock.at += 2
    assert [text for _, text in made.new_stragglers()] == ["5 min 1 s, 10 times the longest"]
    made.finish("vit")
    made.start("vit", "vit")
    clock.at += 2000
    assert not made.is_late("vit"), "its own kind takes 301 s"
    made.start("mlp")
    clock.at += 61
    assert list(made.new_stragglers()) == [("mlp", "1 min 1 s, 61 times the median")]


def test_a_wall_clock_that_is_set_back_is_reported_once_and_one_that_is_set_forward_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wall = Clock()
    steady = Clock()
    with Progress() as progress:
        progress.clock_guard = ClockGuard(wall, steady)
        for back, seconds in ((0.0, 1.0), (3600.0, 1.0), (0.0, 5.0), (-86400.0, 1.0), (30.0, 1.0)):
            wall.at += seconds - back
            steady.at += seconds
            progress.advance(0)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("system clock jumped back by 1 h 0 min; Ray may stall")

"""Progress of a run without a terminal: plain lines on stderr and in the log."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sweep.core.text import format_duration
from sweep.execution.progress import Progress, Stage


@pytest.mark.parametrize(
    ("seconds", "message"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_times_read_as_a_person_would(seconds: float, message: str) -> None:
    assert format_duration(seconds) == message


def test_a_stage_tells_rate_and_time_left() -> None:
    stage = Stage("candidates done", 300, done=100, failed=2)
    stage.started_at -= 50
    assert str(stage).startswith("candidates done: 100 of 300, 2 failed, 2 per second, about 1 min 40 s left")


def test_pairs_that_take_longer_than_candidates_have_their_time_left() -> None:
    started_at = time.monotonic() - 100
    some, none, every = (Stage("pairs compared", 40_000, count, started_at=started_at) for count in (10_000, 0, 40_000))
    texts = [
        str(Stage("candidates done", 10, 10, beside=pairs, started_at=started_at)) for pairs in (some, none, every)
    ]
    assert texts == [
        "candidates done: 10 of 10, pairs compared: 10,000 of 40,000, about 5 min left",
        "candidates done: 10 of 10, pairs compared: 0 of 40,000",
        "candidates done: 10 of 10, pairs compared: 40,000 of 40,000, in 1 min 40 s",
    ]
    assert Stage("candidates done", 0, beside=every).left == 0


def test_pairs_are_counted_beside_candidates(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress.begin("candidates done", 2, Stage("pairs compared", 3))
        progress.advance(2, 1, 3)
    assert capsys.readouterr().err == "candidates done: 2 of 2, 1 failed, pairs compared: 3 of 3, in 0 s\n"


def test_lines_go_to_stderr_and_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(tmp_path / "log.txt") as progress:
        progress.begin("members trained", 2)
        progress.advance()
        progress.advance()
        logging.getLogger("sweep.somewhere").info("[not markup], 100 %s")
        logging.getLogger("ray").error("not caught")
    message = capsys.readouterr()
    assert message.out == ""
    assert message.err.splitlines() == ["[not markup], 100 %s", "members trained: 2 of 2, in 0 s"]
    assert [line[20:] for line in (tmp_path / "log.txt").read_text().splitlines()] == message.err.splitlines()


def test_a_line_each_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress.begin("candidates done", 10)
        progress.advance()
        assert capsys.readouterr().err == ""
        progress.last_printed -= 31
        progress.advance(0)
        assert capsys.readouterr().err.startswith("candidates done: 1 of 10")


def test_the_log_is_as_before_after_a_run(tmp_path: Path) -> None:
    logger = logging.getLogger("sweep")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with suppress(KeyboardInterrupt), Progress(tmp_path / "log.txt"):
        assert len(logger.handlers) == 2 + len(before[2])
        raise KeyboardInterrupt
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_a_log_file_needs_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(tmp_path / "later" / "log.txt"):
        logging.getLogger("sweep.somewhere").info("early")
        (tmp_path / "later").mkdir()
        logging.getLogger("sweep.somewhere").warning("late")
    assert capsys.readouterr().err == "early\nlate\n"
    assert [line[20:] for line in (tmp_path / "later" / "log.txt").read_text().splitlines()] == ["late"]

"""Requests to stop as a process gets them: real signals, once, twice, and twice at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import ROOT

PROGRAM = """
import logging
import sys
import time
from pathlib import Path

import click

from sweep.core.command_group import ErrorHandlingGroup
from sweep.execution.invocation import StopRequest

logging.basicConfig(level=logging.INFO, format="%(message)s")
where, code = sys.argv[1:]

@click.group(cls=ErrorHandlingGroup)
def main(): ...

@main.command()
def work():
    stopping = StopRequest(Path("."), int(code))
    with stopping.on_signals():
        if where == "checks":
            print("ready", flush=True)
            time.sleep(60)
        with stopping.finishing():
            print("ready", flush=True)
            end = time.monotonic() + {"work": 3, "long work": 60}[where]
            while time.monotonic() < end:
                stopping()
                time.sleep(0.01)

main(["work"])
"""


def started(cwd: Path, where: str, code: int = 143) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, where, str(code)]
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    _, printed = process.communicate(timeout=60)
    return process.returncode, printed.splitlines()


@pytest.mark.parametrize("code", [143, 75])
def test_sigterm_outside_of_work_ends_the_process_at_once(tmp_path: Path, code: int) -> None:
    process = started(tmp_path, "checks", code)
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (code, ["stopped by SIGTERM"] * 2)  # in the log, and at the end
    assert time.monotonic() - sent < 30


def test_ctrl_c_outside_of_work_ends_the_process_at_once(tmp_path: Path) -> None:
    process = started(tmp_path, "checks")
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, ["stopped by Ctrl-C"] * 2)


def test_work_is_finished_first_and_a_signal_sent_twice_at_once_is_one(tmp_path: Path) -> None:
    process = started(tmp_path, "work")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    code, printed = ended(process)
    assert (code, printed) == (
        143,
        ["stopped by SIGTERM: trainings are saved, running blocks have 10 s", "stopped by SIGTERM"],
    )


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    process = started(tmp_path, "long work", 75)
    process.send_signal(signal.SIGTERM)
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    code, printed = ended(process)
    assert (code, len(printed)) == (75, 1)


def test_sigterm_after_ctrl_c_is_the_reason(tmp_path: Path) -> None:
    process = started(tmp_path, "work")
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    code, printed = ended(process)
    assert (code, printed[-1]) == (143, "stopped by SIGTERM")


HANDLER = """
import ctypes, os, signal, time
from sweep.core.termination import unchanged_handler

signal.signal(signal.SIGTERM, lambda number, frame: print("own", flush=True))
with unchanged_handler(signal.SIGTERM):
    ctypes.CDLL(None).signal(int(signal.SIGTERM), None)  # as Ray's end does: the default, which kills
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.1)
"""


def test_a_handler_that_native_code_replaced_is_restored(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HANDLER]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout) == (0, "own\n"), done.stderr

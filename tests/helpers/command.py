"""Calls the command as a user does, and reads the results of its runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from sweep.cli import main
from sweep.storage.run_folder import RunFolder

MEASURED = ("accuracy", "cross_entropy", "brier", "ece", "status", "error", "finite", "n_examples")
SWEEP = (sys.executable, "-m", "sweep")


def sweep(*arguments: object, cwd: Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call the command as a user does: in this process, since imports take seconds.

    With variables, which workers are to have as well, it gets a process and a Ray of its own.
    """
    words = list(map(str, arguments))
    if environment:
        variables = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | environment
        options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 300}
        done = subprocess.run([*SWEEP, *words], cwd=cwd, env=variables, check=False, **options)
    else:
        with contextlib.chdir(cwd):
            result = CliRunner().invoke(main, words, catch_exceptions=False)
        done = subprocess.CompletedProcess(words, result.exit_code, result.stdout, result.stderr)
    assert not check or done.returncode == 0, done.stderr
    return done


def rows(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The measured columns of a run by candidate_id and split. A repeated key fails."""
    table = RunFolder(folder).read("candidates").to_pylist()
    found = {(row["candidate_id"], row["split"]): {key: row[key] for key in MEASURED} for row in table}
    assert len(found) == len(table)
    return found


def weights(folder: Path) -> dict[str, str]:
    """member_id -> hash of the member's weights. A repeated member fails."""
    table = RunFolder(folder).read("members", ["member_id", "weights_sha256"]).to_pylist()
    assert len({row["member_id"] for row in table}) == len(table)
    return {row["member_id"]: row["weights_sha256"] for row in table}

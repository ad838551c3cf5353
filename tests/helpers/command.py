"""Calls the command as a user does, and reads the results of its runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sweep.storage.run_folder import RunFolder

MEASURED = ("accuracy", "cross_entropy", "brier", "ece", "status", "error", "finite", "n_examples")
SWEEP = (sys.executable, "-m", "sweep")


def sweep(*arguments: object, cwd: Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call the command as a user does."""
    command = [*SWEEP, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=os.environ | environment)
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

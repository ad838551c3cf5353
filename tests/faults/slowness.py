"""A sweep that takes its time, so that there is some to hurt its nodes, until it is told to go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweep.storage.run_folder import RunFolder
from tests.faults.harness import SWEEP

_METHOD = '''"""A method that waits, so that there is time to lose a node."""

import os
import time
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from sweep.core.weights import Members, Weights


def slow(members: Members, *, step: Annotated[int, Ge(0)] = 0) -> Weights:
    """The mean, after a while."""
    if not Path(os.environ["HURT_GO"]).exists():
        time.sleep(0.4)
    return members.mean(0) * (1 + step)
'''
_METHODS = "methods: [{'slow:slow': {step: {from: 0, to: 29, steps: 30}}}]"


def slowed(base: Path) -> dict[str, str]:
    """The sweep with such a method before its own, on as many workers as there is room for; what it runs with."""
    text = SWEEP.replace("methods:", f"grids: [{{{_METHODS}, scalings: none}}, {{}}]\nmethods:")
    (base / "hurt.yaml").write_text(text.replace("workers: 2", "mlflow: false"))
    (base / "slow.py").write_text(_METHOD)
    return {"PYTHONPATH": str(base), "HURT_GO": str(base / "go")}


def go(base: Path) -> None:
    """Let it hurry."""
    (base / "go").touch()


def tasks(base: Path) -> list[dict[str, Any]]:
    """What is known of the blocks that are done."""
    return [row for row in RunFolder(base / "runs/hurt").read("tasks").to_pylist() if row["kind"] == "block"]

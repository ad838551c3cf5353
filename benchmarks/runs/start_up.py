"""What a user waits for before anything is computed: help, a plan, a run with nothing left to do.

    python -m benchmarks.runs.start_up [repetitions]

Then, of each, the packages that take longest to import (`-X importtime`), each without those that it imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

PLAN = """
name: large
populations: [{architecture: linear, pools: 5, members: 50, start: scratch}]
subsets: {sizes: [2, 3, 5, 8], per_size: 1000, seed: 0}
methods: [uniform_soup, greedy_soup, logit_average, probability_average, {feature_average: {head: average}}]
execution: {mlflow: false}
"""
NOTHING = """
name: nothing
dataset: {digits: {size: 8}}
populations: [{architecture: linear, members: 3, start: scratch, train: {epochs: 1}}]
subsets: {sizes: [2]}
execution: {mlflow: false}
"""


def timed(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one call of the command in a fresh process."""
    before = os.times()
    started = time.perf_counter()
    command = [sys.executable, "-m", "sweep", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    wall = time.perf_counter() - started
    after = os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def imported(arguments: list[str], folder: Path) -> Counter[str]:
    """Seconds of importing each package in a fresh process."""
    command = [sys.executable, "-X", "importtime", "-m", "sweep", *arguments]
    lines = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stderr.splitlines()
    found = Counter[str]()
    for own, _, name in (line.removeprefix("import time:").split("|") for line in lines if line.count("|") == 2):
        if own.strip().isdigit():
            found[name.strip().partition(".")[0]] += int(own)
    return found


def main(repetitions: int) -> None:
    """Print the median and the range of each."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "large.yaml").write_text(PLAN)
        (folder / "nothing.yaml").write_text(NOTHING)
        timed(["run", "nothing.yaml"], folder)
        calls = {
            "sweep --help": ["--help"],
            "sweep plan, 100,250 candidates": ["plan", "large.yaml"],
            "sweep run, nothing left to do": ["run", "nothing.yaml"],
        }
        for name, arguments in calls.items():
            walls, cpus = zip(*(timed(arguments, folder) for _ in range(repetitions)), strict=True)
            spread = f"{min(walls):.2f} to {max(walls):.2f}"
            print(f"{name:34} wall {median(walls):6.2f} s ({spread})   CPU {median(cpus):6.2f} s")
        for name, arguments in calls.items():
            found = imported(arguments, folder)
            largest = ", ".join(f"{package} {took / 1e6:.2f}" for package, took in found.most_common(5))
            print(f"{name:34} imports {found.total() / 1e6:.2f} s: {largest}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)

"""Ensembles cost no forward pass: `sweep run` on random logit averages of 50 tiny networks, and its memory.

    python -m benchmarks.evaluation.ensembles [repetitions] [candidates] [larger candidates]

100,000 candidates of 2 to 10 members over 400 test images, and fewer over 10,000, with all four metrics; rows and
predictions are written and counted by `sweep sql` (not timed). Wall of the whole command on 2 workers of one thread,
and the largest memory of all its processes together.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import command, with_range
from sweep.core.registry import get_plugin
from sweep.model.build import build

MEMBERS = 50
CLASSES = 10
SIDE = 4
SIZES = range(2, 11)
SWEEP = """
name: NAME
dataset: {arrays: {file: images.npz}}
populations: [{checkpoints: "member*.pt", architecture: linear}]
subsets: {sizes: SIZES, per_size: COUNT}
methods: logit_average
execution: {mlflow: false, workers: 2, storage: runs}
"""


def make(folder: Path, examples: int, candidates: int) -> int:
    """Networks and images in a folder, and the sweep as `sweep.yaml`; how many candidates it has."""
    random = np.random.default_rng(0)
    counts = {"train": 20, "validation": 20, "test": examples}
    arrays: dict[str, Any] = {}
    for name, count in counts.items():
        arrays[f"{name}_images"] = random.integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)
        arrays[f"{name}_labels"] = np.arange(count) % CLASSES
    np.savez(folder / "images.npz", **arrays)
    for member in range(MEMBERS):
        model = build(get_plugin("architectures", "linear").function, (CLASSES, 1, SIDE), member)
        torch.save(model.state_dict(), folder / f"member{member:02}.pt")
    pairs = math.comb(MEMBERS, 2)
    each = candidates // len(SIZES) if candidates < pairs * len(SIZES) else (candidates - pairs) // (len(SIZES) - 1)
    text = SWEEP.replace("SIZES", str(list(SIZES))).replace("COUNT", str(each))
    (folder / "sweep.yaml").write_text(text)
    return MEMBERS + sum(min(each, math.comb(MEMBERS, size)) for size in SIZES)


def asked(folder: Path, name: str, query: str) -> list[dict[str, float]]:
    """What `sweep sql` answers."""
    arguments = [sys.executable, "-m", "sweep", "sql", f"runs/{name}", query, "--json"]
    answer = subprocess.run(arguments, cwd=folder, check=True, capture_output=True).stdout
    found: list[dict[str, float]] = json.loads(answer)
    return found


def measure(examples: int, candidates: int, repetitions: int) -> None:
    """Run and print."""
    walls = []
    peaks = []
    inside = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        count = make(folder, examples, candidates)
        for repetition in range(repetitions):
            name = f"run{repetition}"
            wall, peak = command([sys.executable, "-m", "sweep", "run", "sweep.yaml", f"name={name}"], folder)
            (rows,) = asked(folder, name, "select count(*) as n, sum(forward_passes) as passes from candidates")
            assert rows["n"] == count, f"{rows['n']} rows for {count} candidates"
            assert int(rows["passes"]) <= MEMBERS * examples * 2, "a worker pushed images of one member twice"
            (task,) = asked(folder, name, "select sum(seconds) as busy from tasks where kind = 'block'")
            walls.append(wall)
            peaks.append(peak / 2**30)
            inside.append(task["busy"] / 2)
    print(f"\n{count:,} candidates of {MEMBERS} members, {examples:,} x {CLASSES} logits, four metrics")
    for name, seconds in (("whole command", walls), ("blocks, by two workers", inside)):
        rates = [count / each for each in seconds]
        print(f"{name:<26} {with_range(seconds, 1)} s = {with_range(rates, 0)} candidates/s")
    print(f"memory of all processes    {with_range(peaks)} GiB at most", flush=True)


def main(repetitions: int, small: int, large: int) -> None:
    """Print both tables."""
    measure(400, small, repetitions)
    measure(10_000, large, repetitions)


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    main(*(given + [5, 100_000, 10_000][len(given) :]))

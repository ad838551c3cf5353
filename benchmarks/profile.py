"""Where the time of a benchmark goes, in all of its processes, by py-spy: a table in benchmarks/profiles/.

    pip install py-spy
    python -m benchmarks.profile ensembles 1 20000 0
    python -m benchmarks.profile --as plan runs.growth 1 100000

Samples of threads that do something, a hundred per second. A sample belongs to the innermost function of this project
on its stack, with whatever libraries do for it; what has none is told by its outermost library, and imports apart.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
OURS = tuple(f"{HERE.parent / name}/" for name in ("sweep", "analysis", "benchmarks"))
SHOWN = 12


def sampled(command: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Stacks, outermost frame first, and how many samples each has."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "raw"
        how = ["--subprocesses", "--function", "--full-filenames", "--rate", "100", "--format", "raw"]
        subprocess.run(["py-spy", "record", *how, "--output", str(file), "--", *command], check=True)
        found = Counter[tuple[str, ...]]()
        for line in file.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            found[tuple(stack.split(";"))] += int(count)
    return found


def owner(stack: Iterable[str]) -> str:
    """To whom a sample belongs."""
    frames = [frame for frame in stack if "(" in frame]
    if any("importlib._bootstrap" in frame for frame in frames):
        return "imports"
    for frame in reversed(frames):
        name, _, file = frame.rpartition(" (")
        if file.startswith(OURS):
            return f"{Path(file.rstrip(')')).relative_to(HERE.parent)} {name}"
    library = next((part for frame in frames for part in _packages(frame)), "Python itself")
    return f"({library}, on its own)"


def _packages(frame: str) -> list[str]:
    """The library that a frame is of."""
    _, found, inner = frame.partition("site-packages/")
    return [inner.split("/")[0].split(".")[0]] if found else []


def leaf(stack: Sequence[str]) -> str:
    """The innermost frame, by its module and name."""
    if "(" not in stack[-1]:
        return "outside of Python"
    name, _, file = stack[-1].rpartition(" (")
    place = file.rstrip(")").rpartition("site-packages/")[2].removeprefix(f"{HERE.parent}/")
    return f"{Path(*Path(place).parts[-3:])} {name}"


def table(title: str, counts: Counter[str], total: int) -> str:
    """The largest shares, a line each."""
    lines = [f"{100 * count / total:5.1f}%  {what}" for what, count in counts.most_common(SHOWN)]
    return "\n".join([title, *lines])


def main() -> None:
    """Run a benchmark under py-spy and write its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--as", dest="name", help="name of the table; the benchmark's where it is not given")
    parser.add_argument("benchmark", help="such as `evaluation.ensembles`")
    parser.add_argument("arguments", nargs="*", help="what the benchmark takes")
    given = parser.parse_args()
    script = ["-m", f"benchmarks.{given.benchmark}", *given.arguments]
    stacks = sampled([sys.executable, *script])
    owners = Counter[str]()
    leaves = Counter[str]()
    for stack, count in stacks.items():
        owners[owner(stack)] += count
        leaves[leaf(stack)] += count
    total = sum(stacks.values())
    about = f"python {' '.join(script)}\n{datetime.now(UTC):%Y-%m-%d}, {total:,} samples of a hundredth of a second"
    ours = "By function of this project, libraries included"
    innermost = "By innermost frame"
    text = "\n\n".join([about, table(ours, owners, total), table(innermost, leaves, total)]) + "\n"
    file = HERE / "profiles" / f"{given.name or given.benchmark.rpartition('.')[2]}.txt"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    print(text)


if __name__ == "__main__":
    main()

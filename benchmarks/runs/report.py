"""The report of a large run: a million candidate rows in 20 populations of 5 pools, made up, in a fresh process.

python -m benchmarks.runs.report [rows] [repetitions]
python -m benchmarks.runs.report make FOLDER [rows]
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sweep.storage import tables as table
from sweep.storage.columns import COLUMNS

POPULATIONS = 20
POOLS = 5
MEMBERS = 12
EPOCHS = 20
PART = 5000
METHODS = (
    ("weights", "uniform_soup", "{}", 0.020),
    ("weights", "greedy_soup", "{}", 0.022),
    ("logits", "logit_average", "{}", 0.030),
    ("logits", "probability_average", "{}", 0.029),
    ("features", "feature_average", '{"head": "first"}', 0.024),
    ("features", "feature_average", '{"head": "average"}', 0.026),
)
FACTORS = (0.1, 0.25, 0.5, 2.0, 4.0, 10.0, 100.0)
WEIGHTS = np.linspace(0, 1, 21).round(3).tolist()
PLAIN: dict[str, Any] = {
    **dict.fromkeys(("alignment", "scaling", "repair"), "none"),
    **{f"{name}_settings": "{}" for name in ("alignment", "scaling", "repair")},
    **{"scaling_factor": 1.0, "scaling_members": "all", "settings": "{}", "space": "weights", "gain": 0.0},
}


def recipe(count: int) -> pd.DataFrame:
    """What is tried in each pool: members, paths between all pairs, then each method on subset after subset."""
    rows = [PLAIN | {"method": "single", "subset": (index,)} for index in range(MEMBERS)]
    for pair, weight in itertools.product(itertools.combinations(range(MEMBERS), 2), WEIGHTS):
        message = {"method": "interpolation", "subset": pair, "settings": json.dumps({"weight": weight})}
        rows.append(PLAIN | message | {"gain": -0.8 * weight * (1 - weight)})
    sizes = [itertools.combinations(range(MEMBERS), size) for size in (2, 3, 5, 8, 10)]
    for subset in itertools.chain.from_iterable(itertools.zip_longest(*sizes)):
        rows += _merges(subset) if subset else []
        if len(rows) >= count:
            break
    return pd.DataFrame(rows[:count])


def _merges(subset: tuple[int, ...]) -> list[dict[str, Any]]:
    """Every method on a subset, the soup with steps around it and with its members magnified."""
    rows = [
        PLAIN | {"space": space, "method": method, "settings": settings, "subset": subset, "gain": gain}
        for space, method, settings, gain in METHODS
    ]
    soup = PLAIN | {"method": "uniform_soup", "subset": subset}
    rows.append(soup | {"alignment": "weight_matching", "gain": 0.018})
    rows.append(soup | {"repair": "reset_bn", "gain": 0.021})
    for which, factor in itertools.product(("all", "first"), FACTORS):
        settings = json.dumps({"factor": factor, "members": which})
        message = {"scaling": "magnify", "scaling_settings": settings, "scaling_factor": factor, "scaling_members": which}
        rows.append(soup | message | {"gain": -0.1 * np.log10(factor) ** 2})
    return rows


def make(folder: Path, count: int) -> Path:
    """A run folder with that many rows of candidates, and members, curves, pairs, layers and predictions to match."""
    random = np.random.default_rng(0)
    plan = recipe(count // (POPULATIONS * POOLS))
    for population, pool in itertools.product(range(POPULATIONS), range(POOLS)):
        origin = {"sweep": "large", "population": f"population {population:02}", "pool": pool, "dataset": "cifar10"}
        origin |= {"architecture": ("resnet18", "vgg11", "vit_tiny")[population % 3], "start": "shared"}
        origin |= {"pool_id": random.bytes(16).hex(), "code_version": "0.1.0+abc1234", "status": "ok"}
        members = [random.bytes(16).hex() for _ in range(MEMBERS)]
        name = f"{population:02}-{pool}"
        _write(folder, "candidates", name, _candidates(plan, members, random, origin))
        _write(folder, "members", name, _members(members, random, origin))
        _write(folder, "curves", name, _curves(members, random, origin))
        _write(folder, "pairs", name, _pairs(members, random, origin))
    (folder / "run.json").write_text(json.dumps({"schema_version": 1, "sweep": "large"}), encoding="utf-8")
    (folder / "sweep.yaml").write_text("name: large\n", encoding="utf-8")
    return folder


def _write(folder: Path, name: str, part: str, rows: pd.DataFrame) -> None:
    """Immutable parts of at most 5,000 rows; columns that are not made up are null."""
    schema = table.schema(name)
    parts = folder / "tables" / name / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    stamped = rows.assign(created_at=pd.Timestamp("2026-01-05"))
    filled = stamped.reindex(columns=[column.name for column in COLUMNS[name]])
    for begin in range(0, len(filled), PART):
        arrow = pa.Table.from_pandas(filled.iloc[begin : begin + PART], schema, preserve_index=False)
        pq.write_table(arrow, parts / f"{part}-{begin:06}.parquet")


def _candidates(
    plan: pd.DataFrame, members: list[str], random: np.random.Generator, origin: dict[str, Any]
) -> pd.DataFrame:
    """The rows of one pool: a level of its own, the plan's gains, and noise; the largest factors overflow."""
    n = len(plan)
    accuracy = 0.9 + 0.02 * random.standard_normal() + plan["gain"] + 0.005 * random.standard_normal(n)
    missing = (plan["scaling_factor"] >= 100).to_numpy()
    ids = random.bytes(16 * n).hex()
    message = {"split": "test", "protocol": "correct", "n_examples": 10_000, "device": "cpu", "forward_passes": 10_000}
    message |= {"status": np.where(missing, "non_finite", "ok"), "error": np.where(missing, "outputs overflowed", None)}
    return plan.assign(
        **origin | message,
        candidate_id=[ids[32 * i : 32 * i + 32] for i in range(n)],
        block_id=[ids[32 * (i // 64) : 32 * (i // 64) + 32] for i in range(n)],
        members=[[members[index] for index in subset] for subset in plan["subset"]],
        member_indices=[list(subset) for subset in plan["subset"]],
        n_members=plan["subset"].map(len),
        accuracy=accuracy.mask(missing),
        cross_entropy=(1.3 - accuracy).mask(missing),
        brier=(1.1 - accuracy).mask(missing),
        ece=np.where(missing, np.nan, 0.02),
        finite=~missing,
        merge_seconds=random.random(n),
        evaluate_seconds=random.random(n),
    )


def _members(members: list[str], random: np.random.Generator, origin: dict[str, Any]) -> pd.DataFrame:
    """One row per member."""
    rows = pd.DataFrame({"member_id": members, "member_index": range(MEMBERS)})
    made = {"role": "member", "n_parameters": 11_173_962, "train_seconds": 60.0, "device": "cpu", "kept_epoch": EPOCHS}
    return rows.assign(**origin, **made, validation_accuracy=0.9 + 0.01 * random.standard_normal(MEMBERS))


def _curves(members: list[str], random: np.random.Generator, origin: dict[str, Any]) -> pd.DataFrame:
    """One row per member and epoch."""
    rows = pd.DataFrame(itertools.product(range(MEMBERS), range(1, EPOCHS + 1)), columns=["member_index", "epoch"])
    loss = 1.2 / rows["epoch"] + 0.02 * random.standard_normal(len(rows))
    made = {"role": "member", "learning_rate": 0.05, "train_loss": loss, "validation_cross_entropy": loss + 0.1}
    ids = rows["member_index"].map(dict(enumerate(members)))
    return rows.assign(**origin, **made, member_id=ids, validation_accuracy=0.95 - 0.3 * loss, seconds=rows["epoch"])


def _pairs(members: list[str], random: np.random.Generator, origin: dict[str, Any]) -> pd.DataFrame:
    """One row per pair."""
    rows = pd.DataFrame(itertools.combinations(range(MEMBERS), 2), columns=["index_a", "index_b"])
    made = {name: random.random(len(rows)) for name in ("l2_distance", "cosine", "task_cosine", "cka")}
    ids = {name: rows[f"index_{name[-1]}"].map(dict(enumerate(members))) for name in ("member_a", "member_b")}
    return rows.assign(**origin, **made, **ids)


def timed(arguments: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak resident gibibytes of one call of the command in a fresh process."""
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "analysis.cli", *arguments], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"analysis {' '.join(arguments)} ended with {process.returncode}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def main(count: int, repetitions: int) -> None:
    """Print the median and the range of each verb."""
    with tempfile.TemporaryDirectory() as place:
        folder = make(Path(place) / "large", count)
        calls = {
            "analysis report": ["report", str(folder)],
            "analysis stats paired_difference": ["stats", "paired_difference", str(folder)],
            "analysis compare, with itself": ["compare", str(folder), str(folder)],
            "analysis cite": ["cite", str(folder)],
        }
        for name, arguments in calls.items():
            walls, cpus, peaks = zip(*(timed(arguments) for _ in range(repetitions)), strict=True)
            spread = f"{min(walls):.1f} to {max(walls):.1f}"
            print(
                f"{name:34} wall {median(walls):6.1f} s ({spread})   CPU {median(cpus):6.1f} s   {max(peaks):.2f} GiB"
            )
        print(f"{'report.html':34} {(folder / 'report.html').stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1_000_000)
    else:
        main(*(int(text) for text in [*sys.argv[1:], *("1000000", "3")[len(sys.argv) - 1 :]]))

"""About how long a sweep will take, from what earlier rows took."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from sweep.core.choice import PluginConfig
from sweep.core.ids import canonical_json
from sweep.core.registry import RegistryError
from sweep.status.outline import DatasetInfo, PlanSummary, outline_in
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder

Quartiles = tuple[float, float]  # seconds per image
RowsLeft = Mapping[tuple[str, str, str], int]  # (pool_id, method, split) -> rows
Row = Mapping[str, Any]
Known = Mapping[tuple[str, str], DatasetInfo]  # by name and settings (JSON) of a data set
_OF_MEMBERS = (
    *("pool_id", "architecture", "architecture_settings", "dataset", "dataset_settings", "role", "start", "training"),
    *("train_seconds", "device"),
)
_ENOUGH = 100  # rows of a method in a pool
_OF_CANDIDATES = ("pool_id", "method", "n_examples", "merge_seconds", "evaluate_seconds", "device")


class Network(NamedTuple):
    """What images are pushed through."""

    architecture: str  # with its settings
    channels: int
    size: int


class Cell(NamedTuple):
    """What is done with images, and where: within it an image takes about the same time."""

    network: Network
    work: str  # a method, or nothing for training
    on_gpu: bool


def estimate(
    outline: PlanSummary, left: RowsLeft, missing: Collection[str], storage: Path, cores: int
) -> dict[str, Any] | None:
    """Seconds that the members that are missing and the rows that are left take, from `low` to `high`.

    By the quartiles of earlier rows in the storage folder, of which it says the number; rows on other data sets count,
    too, where images have the same size. None where nothing like it was run.
    """
    needed = _images_to_process(outline, left, missing)
    (measured, rows) = _observed_speeds(storage, outline.planned_blocks)
    known = {cell: images for cell, images in needed.items() if cell in measured}
    if not known:
        return None
    workers = _workers(outline, cores)
    low, high = (sum(measured[cell][end] * images for cell, images in known.items()) / workers for end in (0, 1))
    unknown = sorted({cell.work or "training" for cell in needed if cell not in measured})
    return {"low_seconds": low, "high_seconds": high, "workers": workers, "from_rows": rows, "not_estimated": unknown}


def _workers(outline: PlanSummary, cores: int) -> int:
    """How much is done at a time on this machine."""
    if outline.workers is not None:
        return outline.workers
    seats = cores // outline.threads
    share = max(outline.gpus_per_member, outline.gpus_per_worker)
    if share:
        import torch

        seats = min(seats, int(torch.cuda.device_count() / share))
    return max(1, seats)


def _images_to_process(outline: PlanSummary, left: RowsLeft, missing: Collection[str]) -> Counter[Cell]:
    """Images that are to be pushed through."""
    images = Counter[Cell]()
    networks = [
        _network(each.architecture, each.architecture_settings, facts)
        for each, facts in zip(outline.populations, outline.facts, strict=True)
    ]
    for identity in missing:
        pool_id, epochs = outline.members[identity]
        place = outline.pools[pool_id]
        if epochs:
            cell = Cell(networks[place], "", outline.gpus_per_member > 0)
            images[cell] += epochs * outline.facts[place].examples["train"]
    for (pool_id, method, split), rows in left.items():
        place = outline.pools[pool_id]
        cell = Cell(networks[place], method, outline.gpus_per_worker > 0)
        images[cell] += rows * outline.facts[place].examples[split]
    return images


def _network(name: str, settings: str | None, facts: DatasetInfo) -> Network:
    """The network of an architecture (settings in JSON) on a data set; where its weights came from costs nothing."""
    chosen = {key: value for key, value in json.loads(settings or "{}").items() if key != "pretrained"}
    return Network(canonical_json([name, chosen]), *facts.shape[1:])


def _observed_speeds(storage: Path, facts: Known) -> tuple[Mapping[Cell, Quartiles], int]:
    """Quartiles of seconds per image over every run folder, and the number of rows."""
    seconds: dict[Cell, list[float]] = {}
    for folder in (RunFolder(path.parent) for path in sorted(storage.glob("*/run.json"))):
        try:
            members = folder.read("members", _OF_MEMBERS)
            candidates = _first(folder.read("candidates", _OF_CANDIDATES))
        except StoreError:  # another run's damage is no reason not to plan this one
            continue
        own = outline_in(folder)
        known = {**(own.planned_blocks if own else {}), **facts}
        for cell, value in _speeds(members.to_pylist(), candidates.to_pylist(), known):
            seconds.setdefault(cell, []).append(value)
    return {cell: _quartiles(values) for cell, values in seconds.items()}, sum(map(len, seconds.values()))


def _first(candidates: pa.Table) -> pa.Table:
    """The first rows of each method in each pool: quartiles need no more, and a run may have millions."""
    cells = np.zeros(len(candidates), dtype=np.int64)
    for name in ("pool_id", "method"):
        codes = candidates[name].combine_chunks().dictionary_encode()
        cells = cells * (len(codes.dictionary) + 1) + codes.indices.fill_null(len(codes.dictionary)).to_numpy()
    order = np.argsort(cells, kind="stable")
    begins = np.flatnonzero(np.diff(cells[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
    return candidates.take(np.sort(order[place < _ENOUGH]))


def _speeds(members: Sequence[Row], candidates: Sequence[Row], facts: Known) -> Iterator[tuple[Cell, float]]:
    """Seconds per image of each row of a run whose data set is known."""
    networks = {}
    for row in members:
        found = _facts(row, facts)
        if found:
            network = _network(row["architecture"], row["architecture_settings"], found)
            networks[row["pool_id"]] = network
            images = _epochs(row) * found.examples["train"]
            if images and row["train_seconds"] is not None:
                yield Cell(network, "", _on_gpu(row)), row["train_seconds"] / images
    for row in candidates:
        if row["pool_id"] in networks and row["n_examples"] and row["evaluate_seconds"] is not None:
            spent = row["evaluate_seconds"] + (row["merge_seconds"] or 0.0)
            yield Cell(networks[row["pool_id"]], row["method"], _on_gpu(row)), spent / row["n_examples"]


def _facts(row: Row, known: Known) -> DatasetInfo | None:
    """The facts of a member's data set, where no files are needed to tell."""
    name = row["dataset"] or ""
    settings = row["dataset_settings"] or "{}"
    if (name, settings) in known:
        return known[name, settings]
    from sweep.status.dataset_info import published_info

    try:
        return published_info(PluginConfig("datasets", name, json.loads(settings)))
    except (RegistryError, KeyError):  # one's own, of another day
        return None


def _epochs(row: Row) -> int:
    """How long a member or start was trained, in epochs; 0 if unknown."""
    training = json.loads(row["training"] or "{}")
    if row["role"] == "member":
        return int(training.get("epochs", 0))
    return int(training.get("start_epochs", 0)) if row["start"] == "shared" else 0


def _on_gpu(row: Row) -> bool:
    return row["device"] not in (None, "cpu")


def _quartiles(values: Sequence[float]) -> Quartiles:
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = quantiles(values, n=4, method="inclusive")
    return first, third

"""Estimates the duration of a sweep from the measured durations of earlier rows."""

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
from sweep.status.outline import DatasetInfo, PlanSummary, read_plan_summary
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder

Quartiles = tuple[float, float]  # seconds per image
Row = Mapping[str, Any]
DatasetInfos = Mapping[tuple[str, str], DatasetInfo]  # by name and settings (JSON) of a data set
_OF_MEMBERS = (
    *("pool_id", "architecture", "architecture_settings", "dataset", "dataset_settings", "role", "start", "training"),
    *("train_seconds", "device"),
)
PAIRS = "pairs"
"""The work of comparing members, as `tasks` names it."""
LONG_PAIRS = 10_000
"""From so many pairs on they are counted and estimated; fewer take less than a second or two."""
_OF_PAIRS = ("pool_id", "rows", "seconds", "device")
_MAX_ROWS = 100  # rows per method and pool; more would hardly change the quartiles
_OF_CANDIDATES = ("pool_id", "method", "n_examples", "merge_seconds", "evaluate_seconds", "device")


class Remaining(NamedTuple):
    """What a sweep has still to do."""

    rows: Mapping[tuple[str, str, str], int]  # (pool_id, method, split) -> rows of candidates
    members: Collection[str]
    pairs: Mapping[str, int]  # pool_id -> pairs of members


class Network(NamedTuple):
    """A network and the size of its images, which determine the cost of a forward pass."""

    architecture: str  # with its settings
    channels: int
    size: int


class Cell(NamedTuple):
    """Work with about the same time per image (of `PAIRS`, per pair): one network, one method, CPU or GPU."""

    network: Network
    work: str  # the method, or `PAIRS`; empty for training
    on_gpu: bool


def estimate(outline: PlanSummary, left: Remaining, storage: Path, cores: int) -> dict[str, Any] | None:
    """Estimate the seconds that the missing members, rows and pairs will take, from the first to the third quartile.

    The quartiles are those of the time per image in all run folders of `storage`; `from_rows` is the number of rows
    used. Rows on other data sets count if their images have the same size. None if no comparable row exists.
    """
    needed = _images_to_process(outline, left)
    measured, rows = _observed_speeds(storage, outline.dataset_infos)
    known = {cell: images for cell, images in needed.items() if cell in measured}
    if not known:
        return None
    workers = _workers(outline, cores)
    low, high = (
        sum(measured[cell][quartile] * images for cell, images in known.items()) / workers for quartile in (0, 1)
    )
    unknown = sorted({cell.work or "training" for cell in needed if cell not in measured})
    return {"low_seconds": low, "high_seconds": high, "workers": workers, "from_rows": rows, "not_estimated": unknown}


def _workers(outline: PlanSummary, cores: int) -> int:
    """The number of workers that fit on this machine, unless the configuration sets it."""
    if outline.workers is not None:
        return outline.workers
    workers = cores // outline.threads
    gpus = max(outline.gpus_per_member, outline.gpus_per_worker)
    if gpus:
        import torch

        workers = min(workers, int(torch.cuda.device_count() / gpus))
    return max(1, workers)


def _images_to_process(outline: PlanSummary, left: Remaining) -> Counter[Cell]:
    """The number of images that missing members and rows still have to process, and of missing pairs, per cell."""
    images = Counter[Cell]()
    networks = [
        _network(population.architecture, population.architecture_settings, dataset_info)
        for population, dataset_info in zip(outline.populations, outline.facts, strict=True)
    ]
    for member_id in left.members:
        member = outline.members[member_id]
        epochs = member.epochs
        population = outline.pools[member.pool_id]
        if epochs:
            cell = Cell(networks[population], "", outline.gpus_per_member > 0)
            images[cell] += epochs * outline.facts[population].examples["train"]
    for pool_id, pairs in left.pairs.items():
        if sum(left.pairs.values()) >= LONG_PAIRS:
            images[Cell(networks[outline.pools[pool_id]], PAIRS, outline.gpus_per_worker > 0)] += pairs
    for (pool_id, method, split), rows in left.rows.items():
        population = outline.pools[pool_id]
        cell = Cell(networks[population], method, outline.gpus_per_worker > 0)
        images[cell] += rows * outline.facts[population].examples[split]
    return images


def _network(name: str, settings: str | None, dataset_info: DatasetInfo) -> Network:
    """The network of an architecture (settings in JSON) on a data set; `pretrained` is left out, as it has no cost."""
    relevant = {key: value for key, value in json.loads(settings or "{}").items() if key != "pretrained"}
    return Network(canonical_json([name, relevant]), *dataset_info.shape[1:])


def _observed_speeds(storage: Path, planned: DatasetInfos) -> tuple[Mapping[Cell, Quartiles], int]:
    """Quartiles of the seconds per image over all run folders, per cell, and the number of rows used."""
    seconds: dict[Cell, list[float]] = {}
    for folder in (RunFolder(path.parent) for path in sorted(storage.glob("*/run.json"))):
        try:
            members = folder.read("members", _OF_MEMBERS)
            candidates = _limit_rows(folder.read("candidates", _OF_CANDIDATES))
            pairs = folder.read("tasks", _OF_PAIRS, kind=PAIRS)
        except StoreError:  # a damaged run folder must not prevent the plan of another one
            continue
        summary = read_plan_summary(folder)
        known = {**(summary.dataset_infos if summary else {}), **planned}
        for cell, value in _speeds(members.to_pylist(), candidates.to_pylist(), pairs.to_pylist(), known):
            seconds.setdefault(cell, []).append(value)
    return {cell: _quartiles(values) for cell, values in seconds.items()}, sum(map(len, seconds.values()))


def _limit_rows(candidates: pa.Table) -> pa.Table:
    """The first `_MAX_ROWS` rows of each method in each pool, since a run may have millions."""
    cells = np.zeros(len(candidates), dtype=np.int64)
    for name in ("pool_id", "method"):
        codes = candidates[name].combine_chunks().dictionary_encode()
        cells = cells * (len(codes.dictionary) + 1) + codes.indices.fill_null(len(codes.dictionary)).to_numpy()
    order = np.argsort(cells, kind="stable")
    group_starts = np.flatnonzero(np.diff(cells[order], prepend=-1))
    position = np.arange(len(order)) - np.repeat(group_starts, np.diff(group_starts, append=len(order)))
    return candidates.take(np.sort(order[position < _MAX_ROWS]))


def _speeds(
    members: Sequence[Row], candidates: Sequence[Row], pairs: Sequence[Row], known: DatasetInfos
) -> Iterator[tuple[Cell, float]]:
    """Yield the cell and the seconds per image (of blocks of pairs, per pair) of each row whose data set is known."""
    networks = {}
    for row in members:
        dataset_info = _dataset_info(row, known)
        if dataset_info:
            network = _network(row["architecture"], row["architecture_settings"], dataset_info)
            networks[row["pool_id"]] = network
            images = _epochs(row) * dataset_info.examples["train"]
            if images and row["train_seconds"] is not None:
                yield Cell(network, "", _on_gpu(row)), row["train_seconds"] / images
    for row in candidates:
        if row["pool_id"] in networks and row["n_examples"] and row["evaluate_seconds"] is not None:
            seconds = row["evaluate_seconds"] + (row["merge_seconds"] or 0.0)
            yield Cell(networks[row["pool_id"]], row["method"], _on_gpu(row)), seconds / row["n_examples"]
    for row in pairs:
        if row["pool_id"] in networks and row["rows"] and row["seconds"] is not None:
            yield Cell(networks[row["pool_id"]], PAIRS, _on_gpu(row)), row["seconds"] / row["rows"]


def _dataset_info(row: Row, known: DatasetInfos) -> DatasetInfo | None:
    """Shape and size of a member's data set, as planned or published, without reading its files; None if unknown."""
    name = row["dataset"] or ""
    settings = row["dataset_settings"] or "{}"
    if (name, settings) in known:
        return known[name, settings]
    from sweep.status.dataset_info import published_info

    try:
        return published_info(PluginConfig("datasets", name, json.loads(settings)))
    except (RegistryError, KeyError):  # a plug-in or setting that no longer exists
        return None


def _epochs(row: Row) -> int:
    """The number of epochs for which a member or start was trained; 0 if unknown."""
    training = json.loads(row["training"] or "{}")
    if row["role"] == "member":
        return int(training.get("epochs", 0))
    return int(training.get("start_epochs", 0)) if row["start"] == "shared" else 0


def _on_gpu(row: Row) -> bool:
    return not (row["device"] or "cpu").startswith("cpu")


def _quartiles(values: Sequence[float]) -> Quartiles:
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = quantiles(values, n=4, method="inclusive")
    return first, third

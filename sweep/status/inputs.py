"""What a run reads from elsewhere, data sets and checkpoints: recorded in its folder, which is then enough for it.

The record is part of the plan's summary. With it the ids of a run stay the same, and its weights can be merged, after
the originals were moved, deleted or overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import NamedTuple, NoReturn

import numpy as np

from sweep.config.spec import Input, Sweep, input_key
from sweep.core.choice import PluginConfig
from sweep.core.dataset import DataError, Dataset, Split, load_dataset


class DatasetRecord(NamedTuple):
    """All of a data set but its images and labels."""

    fingerprint: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    examples: Mapping[str, int]  # split -> number of images
    class_counts: Mapping[str, tuple[int, ...]] | None = None  # split -> images of each class; None in earlier versions

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetRecord:
        """The record of a data set."""
        examples = {name: len(split) for name, split in dataset.splits.items()}
        counts = {name: _count_classes(split, len(dataset.classes)) for name, split in dataset.splits.items()}
        return cls(dataset.fingerprint, dataset.classes, dataset.mean, dataset.std, dataset.size, examples, counts)


def _count_classes(split: Split, n_classes: int) -> tuple[int, ...]:
    """The number of images of each class in a split."""
    return tuple(np.bincount(split.labels, minlength=n_classes).tolist())


class RunInputs(NamedTuple):
    """The fingerprints in the ids of a run, and its data sets, by `input_key`."""

    fingerprints: Mapping[str, str]
    datasets: Mapping[str, DatasetRecord]


def fingerprinted(sweep: Sweep) -> list[Input]:
    """The data sets and checkpoints whose content enters ids: those that are read from files."""
    configs = [config for config in sweep.datasets if reads_files(config)]
    return [*configs, *dict.fromkeys(source for each in sweep.populations for source in each.checkpoints)]


def recorded_fingerprints(inputs: RunInputs, sweep: Sweep) -> dict[Input, str] | None:
    """The recorded fingerprints of all that a sweep reads; None if something is not recorded."""
    sources = fingerprinted(sweep)
    if not {input_key(source) for source in sources} <= inputs.fingerprints.keys():
        return None
    if not {input_key(config) for config in sweep.datasets} <= inputs.datasets.keys():
        return None
    return {source: inputs.fingerprints[input_key(source)] for source in sources}


def record_inputs(sweep: Sweep, fingerprints: Mapping[Input, str]) -> RunInputs | None:
    """The record of what a sweep reads; None if one of its data sets cannot be read here."""
    try:
        datasets = {config: load_dataset(config) for config in sweep.datasets}
    except DataError:
        return None
    return RunInputs(
        {input_key(source): fingerprint for source, fingerprint in fingerprints.items()},
        {input_key(config): DatasetRecord.of(dataset) for config, dataset in datasets.items()},
    )


def reads_files(config: PluginConfig) -> bool:
    """Whether a data set is read from files that its settings name."""
    return any(isinstance(value, PurePath) for value in config.settings.values())


def original_dataset(config: PluginConfig, record: DatasetRecord | None) -> Dataset:
    """The data set of a run, from its files. Raises DataError if these are gone or have other contents now."""
    try:
        dataset = load_dataset(config)
    except DataError as error:
        hint = f"put its files back to where {place_of(config)} was; sql, report, status, export and sync work without"
        raise DataError(f"the data set of this run, {config.name}, cannot be read: {error}", hint) from None
    found = DatasetRecord.of(dataset)
    if record is not None and record not in (found, found._replace(class_counts=None)):
        what = f"the data at {place_of(config)} is not that of this run: its files were changed since"
        raise DataError(what, "put the files of the run back; `sweep run` of a configuration evaluates the new ones")
    return dataset


def dataset_of_run(config: PluginConfig, record: DatasetRecord | None) -> Dataset:
    """The data set of a run; without its files, one of its shape, whose images raise DataError when they are read."""
    try:
        return original_dataset(config, record)
    except DataError as error:
        if record is None:
            raise
        problem = error
    n_classes = len(record.classes)
    splits = {name: _unreadable_split(count, n_classes, problem) for name, count in record.examples.items()}
    return Dataset(record.classes, splits, record.mean, record.std, record.size, record.fingerprint)


def _unreadable_split(count: int, n_classes: int, problem: DataError) -> Split:
    """A split without images; its labels are made up, of all classes."""

    def decode() -> NoReturn:
        raise problem

    return Split(np.arange(count) % n_classes, decode)


def place_of(config: PluginConfig) -> str:
    """The files or folders that the settings of a data set name."""
    return ", ".join(str(value) for value in config.settings.values() if isinstance(value, PurePath)) or config.name

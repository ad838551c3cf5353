"""Shapes and sizes of data sets, also of published ones whose files are missing, and the summary of a plan."""

from __future__ import annotations

from collections.abc import Sequence

from sweep.config.spec import Sweep, input_key
from sweep.core.choice import PluginConfig
from sweep.core.dataset import DataError, PublishedInfo, load_dataset
from sweep.plan.pools import Pool
from sweep.status.inputs import RunInputs
from sweep.status.outline import DatasetInfo, PlanSummary


def summarize_plan(
    sweep: Sweep, pools: Sequence[Pool], inputs: RunInputs | None = None, *, estimated: bool = True
) -> PlanSummary:
    """Summarize a sweep with these pools; `estimated` adds the data sets' sizes. Raises DataError.

    Data sets in `inputs` are not read.
    """
    configs = {population.first_dataset for population in sweep.populations if estimated}
    infos = {config: dataset_info(config, inputs) for config in configs}
    return PlanSummary.from_plan(sweep, pools, infos, inputs)


def missing_datasets(sweep: Sweep) -> dict[PluginConfig, DataError]:
    """Published data sets that cannot be read here, with the error; a plan can be made without them."""
    found: dict[PluginConfig, DataError] = {}
    for config in sweep.datasets:
        try:
            if published_info(config):
                load_dataset(config)
        except DataError as error:
            found[config] = error
    return found


def dataset_info(config: PluginConfig, inputs: RunInputs | None = None) -> DatasetInfo:
    """Shape and size of a data set: as recorded, from its files, or else from its publication. Raises DataError."""
    record = inputs.datasets.get(input_key(config)) if inputs else None
    if record is not None:
        return DatasetInfo((len(record.classes), len(record.mean), record.size), record.examples)
    try:
        dataset = load_dataset(config)
    except DataError:
        found = published_info(config)
        if found is None:
            raise
        return found
    examples = {name: len(split) for name, split in dataset.splits.items()}
    return DatasetInfo(dataset.shape, examples)


def published_info(config: PluginConfig) -> DatasetInfo | None:
    """Shape and size as published; split sizes are off by a few images if classes differ in size."""
    published = config.plugin.constant("ON_PAPER")
    if not isinstance(published, PublishedInfo):
        return None
    n_validation = round(published.train * config.settings["validation"])
    examples = {"train": published.train - n_validation, "validation": n_validation, "test": published.test}
    return DatasetInfo((published.classes, config.settings.get("channels", 3), config.settings["size"]), examples)

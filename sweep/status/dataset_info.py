"""What a data set is to networks and costs, also where its files are not here; the outline of a sweep with it."""

from __future__ import annotations

from collections.abc import Sequence

from sweep.config.spec import Sweep
from sweep.core.choice import PluginConfig
from sweep.core.dataset import DataError, PublishedInfo, load_dataset
from sweep.plan.pools import Pool
from sweep.status.outline import DatasetInfo, PlanSummary


def summarize_plan(sweep: Sweep, pools: Sequence[Pool], *, estimated: bool = True) -> PlanSummary:
    """The outline of a sweep with these pools, with facts where its time is to be estimated. Raises DataError."""
    facts = {each.dataset: dataset_info(each.dataset) for each in sweep.populations if estimated}
    return PlanSummary.from_plan(sweep, pools, facts)


def missing_datasets(sweep: Sweep) -> dict[PluginConfig, DataError]:
    """Published data sets that cannot be read here, and why: a plan does without them."""
    found: dict[PluginConfig, DataError] = {}
    for choice in {population.dataset: None for population in sweep.populations}:
        try:
            if published_info(choice):
                load_dataset(choice)
        except DataError as error:
            found[choice] = error
    return found


def dataset_info(choice: PluginConfig) -> DatasetInfo:
    """The facts of a data set: its own where it is here, else those of its publication. Raises DataError."""
    try:
        made = load_dataset(choice)
    except DataError:
        found = published_info(choice)
        if found is None:
            raise
        return found
    examples = {name: len(split) for name, split in made.splits.items()}
    return DatasetInfo(made.shape, examples)


def published_info(choice: PluginConfig) -> DatasetInfo | None:
    """What the file of a published data set states; where classes differ in size, to a few images."""
    about = choice.plugin.constant("ON_PAPER")
    if not isinstance(about, PublishedInfo):
        return None
    held = round(about.train * choice.settings["validation"])
    examples = {"train": about.train - held, "validation": held, "test": about.test}
    return DatasetInfo((about.classes, choice.settings.get("channels", 3), choice.settings["size"]), examples)

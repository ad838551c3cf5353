"""What a data set is to networks and costs, also where its files are not here; the outline of a sweep with it."""

from __future__ import annotations

from collections.abc import Sequence

from sweep.config.spec import Sweep
from sweep.core.choice import Choice
from sweep.core.dataset import DataError, OnPaper, dataset_of
from sweep.plan.pools import Pool
from sweep.status.outline import Facts, Outline


def outline_of(sweep: Sweep, pools: Sequence[Pool], *, estimated: bool = True) -> Outline:
    """The outline of a sweep with these pools, with facts where its time is to be estimated. Raises DataError."""
    facts = {each.dataset: facts_of(each.dataset) for each in sweep.populations if estimated}
    return Outline.of(sweep, pools, facts)


def absent(sweep: Sweep) -> dict[Choice, DataError]:
    """Published data sets that cannot be read here, and why: a plan does without them."""
    found: dict[Choice, DataError] = {}
    for choice in {population.dataset: None for population in sweep.populations}:
        try:
            if published(choice):
                dataset_of(choice)
        except DataError as error:
            found[choice] = error
    return found


def facts_of(choice: Choice) -> Facts:
    """The facts of a data set: its own where it is here, else those of its publication. Raises DataError."""
    try:
        made = dataset_of(choice)
    except DataError:
        found = published(choice)
        if found is None:
            raise
        return found
    examples = {name: len(split) for name, split in made.splits.items()}
    return Facts(made.shape, examples)


def published(choice: Choice) -> Facts | None:
    """What the file of a published data set states; where classes differ in size, to a few images."""
    about = choice.entry.stated("ON_PAPER")
    if not isinstance(about, OnPaper):
        return None
    held = round(about.train * choice.settings["validation"])
    examples = {"train": about.train - held, "validation": held, "test": about.test}
    return Facts((about.classes, choice.settings.get("channels", 3), choice.settings["size"]), examples)

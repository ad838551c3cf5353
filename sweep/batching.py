"""How many images at a time a network is handed, in which memory format: as told, or as was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from sweep.data import Dataset
from sweep.evaluate import Batching
from sweep.identity import canonical
from sweep.lineage import Pool

MEASURED: Literal["measured"] = "measured"


class Measured(NamedTuple):
    """The fastest way found, as run.json holds it."""

    images: int
    channels_last: bool | None
    images_per_second: float | None

    @property
    def batching(self) -> Batching:
        """The way itself."""
        return Batching(self.images, self.channels_last)

    def __str__(self) -> str:
        """For people."""
        last = "channels last" if self.channels_last else "channels first"
        return f"{self.images:,} images at a time, {last}: {self.images_per_second or 0:,.0f} images/s"


UNMEASURED = Measured(128, None, None)  # of a network that nothing could be measured of


def network_of(pool: Pool, dataset: Dataset) -> str:
    """The network of a pool and the images that it takes, as run.json names them."""
    choice = pool.population.architecture
    return canonical([choice.name, choice.content["settings"], len(dataset.classes), dataset.channels, dataset.size])


def batching_of(batch: int | Literal["measured"], info: Mapping[str, Any], network: str) -> Batching:
    """What `execution.batch` comes to for a network; what was measured stands in run.json."""
    if batch != MEASURED:
        return Batching(batch)
    found = info.get("evaluation", {}).get(MEASURED, {}).get(network)
    return (Measured(**found) if found else UNMEASURED).batching

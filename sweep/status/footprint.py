"""The size of a sweep before it runs: parameters of networks, bytes of weights, images to process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sweep.config.spec import Population
from sweep.core.choice import PluginConfig
from sweep.core.dataset import DataError
from sweep.model.build import layout_on_meta
from sweep.status.dataset_info import dataset_info
from sweep.status.outline import DatasetInfo
from sweep.status.state import RunState


def footprint(state: RunState, absent: Mapping[PluginConfig, DataError]) -> dict[str, Any]:
    """Parameters of each population's network, bytes of all weights, and images that the pending work processes."""
    sweep = state.sweep
    infos = {population.name: dataset_info(population.first_dataset) for population in sweep.populations}
    networks = {population.name: _network(population, infos[population.name]) for population in sweep.populations}
    models = [member.population.name for member in state.planned]
    return {
        "networks": networks,
        "weights_bytes": sum(networks[name].get("bytes", 0) for name in models),
        "training_images": sum(m.epochs * infos[m.population.name].examples["train"] for m in state.missing),
        "evaluation_images": round(_evaluation_images(state, infos)),
        "absent": {dataset.name: f"{error} ({error.hint})" for dataset, error in absent.items()},
    }


def _network(population: Population, info: DatasetInfo) -> dict[str, Any]:
    """Parameters and bytes of one model, or the error if it cannot be built; needs no pretrained weights."""
    try:
        layout = layout_on_meta(population.architecture, info.shape, pretrained=False)
    except Exception as error:  # a user's architecture may raise anything
        return {"error": str(error)}
    return {"parameters": layout.n_parameters, "bytes": 4 * layout.n_entries}


def _evaluation_images(state: RunState, infos: Mapping[str, DatasetInfo]) -> float:
    """Approximate number of images in the forward passes of the pending candidates."""
    pending = state.pending
    examples = {pool.id: infos[pool.population.name].examples for pool in state.pools}
    passes = pending.candidates.costs[:, None] * pending.missing
    images = pending.candidates.by_group(
        lambda group: [examples[group.pool_id][split] for split in pending.splits], np.int64
    )
    return float((passes * images).sum())

"""What a plan comes to before anything is there: networks, weights, and images to push through them."""

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
    """Parameters of each population's network, bytes of all weights, and images that what is left to do takes."""
    sweep = state.sweep
    facts = {population.name: dataset_info(population.dataset) for population in sweep.populations}
    networks = {population.name: _network(population, facts[population.name]) for population in sweep.populations}
    models = [member.population.name for member in state.planned]
    return {
        "networks": networks,
        "weights_bytes": sum(networks[name].get("bytes", 0) for name in models),
        "training_images": sum(m.epochs * facts[m.population.name].examples["train"] for m in state.missing),
        "evaluation_images": round(_evaluated(state, facts)),
        "absent": {choice.name: f"{error} ({error.hint})" for choice, error in absent.items()},
    }


def _network(population: Population, facts: DatasetInfo) -> dict[str, Any]:
    """Parameters and bytes of one model, or why it cannot be built; pretrained weights need not be here."""
    try:
        layout = layout_on_meta(population.architecture, facts.shape, pretrained=False)
    except Exception as error:  # a user's architecture may raise anything
        return {"error": str(error)}
    return {"parameters": layout.n_parameters, "bytes": 4 * layout.n_entries}


def _evaluated(state: RunState, facts: Mapping[str, DatasetInfo]) -> float:
    """About how many images the open candidates push through networks."""
    todo = state.pending
    examples = {pool.id: facts[pool.population.name].examples for pool in state.pools}
    passes = todo.candidates.costs[:, None] * todo.missing
    images = todo.candidates.by_group(lambda each: [examples[each.pool_id][split] for split in todo.splits], np.int64)
    return float((passes * images).sum())

"""The Ray actor that evaluates blocks, and the Ray task that tunes batch sizes with the same resources."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweep.core.errors import root_cause
from sweep.execution.refusals import Answer, answer
from sweep.plan.work import BlockWork
from sweep.storage.rows import BlockRows

if TYPE_CHECKING:
    from sweep.config.spec import Execution
    from sweep.core.choice import PluginConfig
    from sweep.core.dataset import Dataset
    from sweep.execution.handshake import Handshake
    from sweep.plan.pools import Pool

_log = logging.getLogger(__name__)


class Worker:
    """Evaluates blocks, with the engine of one pool at a time."""

    def __init__(
        self,
        datasets: Mapping[PluginConfig, Dataset],
        sweep: str,
        metrics: tuple[str, ...],
        execution: Execution,
        handshake: Handshake,
    ) -> None:
        from sweep.model.runtime import setup_worker

        self.datasets = datasets
        self.sweep = sweep
        self.metrics = metrics
        self.execution = execution
        self.handshake = handshake
        self.device = setup_worker(execution.threads, execution.gpus_per_worker)
        self.runner: Any = None

    def ready(self) -> Answer:
        """Which process this is and whether it may compute; returns once the actor has imported its libraries."""
        return answer(self.handshake, self.execution.gpus_per_worker)

    def run(self, pool_id: str, shared: Sequence[Any], work: BlockWork) -> BlockRows:
        """Evaluate work of a pool; `shared` lists object references to the pool, its weights and its batching.

        Ray does not resolve references inside a list, so an actor that already holds the pool copies nothing.
        """
        import ray
        import torch

        from sweep.core.provenance import worker_columns
        from sweep.evaluation.block import BlockRunner
        from sweep.evaluation.engine import make_engine

        if self.runner is None or self.runner.pool.id != pool_id:
            self.runner = None  # free the previous pool before loading the next
            pool, weights, batching = ray.get(list(shared))
            dataset = self.datasets[pool.population.dataset]
            engine = make_engine(pool, weights, dataset, str(self.device), batching)
            self.runner = BlockRunner(engine, pool, self.sweep, self.metrics, self.execution.probabilities)
        try:
            rows: BlockRows = self.runner.run(work)
        except torch.AcceleratorError:
            os._exit(1)  # the device is unusable in this process; a new process finds the candidate at fault
        rows.cost |= worker_columns(self.device.type)
        return rows


def tune_batches(
    pools: Iterable[Pool],
    known: Collection[str],
    datasets: Mapping[PluginConfig, Dataset],
    execution: Execution,
    stopping: Callable[[], bool],
) -> dict[str, Any]:
    """Tune the batch size of each network that is not in `known`, with the resources of a worker.

    Returns entries for run.json. Networks are tuned one after the other, so that they do not slow each other down. Once
    `stopping` returns true, only the networks tuned so far are returned.
    """
    import ray

    from sweep.model.batching import DEFAULT_TUNING, network_key, tune_batch

    resources = (execution.threads, execution.gpus_per_worker)
    task: Any = ray.remote(num_cpus=resources[0], num_gpus=resources[1], max_calls=1, max_retries=0)(tune_batch)
    networks = {network_key(pool.population.architecture, datasets[pool.population.dataset]): pool for pool in pools}
    missing = {network: pool for network, pool in networks.items() if network not in known}
    if missing:
        _log.info("tuning batch sizes of evaluation")
    data = {config: ray.put(datasets[config]) for config in {pool.population.dataset for pool in missing.values()}}
    tuned: dict[str, Any] = {}
    for network, pool in missing.items():
        first_member = pool.members[0]
        network_and_seed = (pool.population.architecture, first_member.init_seed)
        call = task.remote(*network_and_seed, data[pool.population.dataset], *resources)
        while not ray.wait([call], timeout=1.0)[0]:
            if stopping():
                ray.cancel(call, force=True)
                return tuned
        try:
            tuning = ray.get(call)
            _log.info(f"{network}: {tuning}")
        except ray.exceptions.RayError as error:  # a user's architecture may raise anything
            tuning = DEFAULT_TUNING
            _log.warning(f"{network}: using batch size {tuning.images}, since tuning failed: {root_cause(error)}")
        tuned[network] = tuning._asdict()
    return tuned

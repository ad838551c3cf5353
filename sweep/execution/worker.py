"""What an evaluator's process does, on whatever node it has its place."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweep.core.errors import root_cause
from sweep.plan.work import BlockWork
from sweep.storage.rows import BlockRows

if TYPE_CHECKING:
    from sweep.config.spec import Execution
    from sweep.core.choice import PluginConfig
    from sweep.core.dataset import Dataset
    from sweep.plan.pools import Pool

_log = logging.getLogger(__name__)


class Worker:
    """What an actor does: it holds the bench of one pool at a time."""

    def __init__(
        self, datasets: Mapping[PluginConfig, Dataset], sweep: str, metrics: tuple[str, ...], execution: Execution
    ) -> None:
        from sweep.model.runtime import setup_worker

        self.datasets, self.sweep, self.metrics, self.execution = datasets, sweep, metrics, execution
        self.device = setup_worker(execution.threads, execution.gpus_per_worker)
        self.runner: Any = None

    def ready(self) -> str:
        """Who it is, once the actor has its place and its libraries."""
        return f"process {os.getpid()} on {socket.gethostname()}"

    def run(self, pool_id: str, shared: Sequence[Any], work: BlockWork) -> BlockRows:
        """Evaluate a piece of a block; what belongs to its pool comes as references in a list, which Ray leaves be."""
        import ray
        import torch

        from sweep.core.provenance import worker_columns
        from sweep.evaluation.block import BlockRunner
        from sweep.evaluation.engine import make_engine

        if self.runner is None or self.runner.pool.id != pool_id:
            self.runner = None  # let go of one pool before the next comes
            pool, weights, batching = ray.get(list(shared))
            dataset = self.datasets[pool.population.dataset]
            bench = make_engine(pool, weights, dataset, str(self.device), batching)
            self.runner = BlockRunner(bench, pool, self.sweep, self.metrics, self.execution.probabilities)
        try:
            rows: BlockRows = self.runner.run(work)
        except torch.AcceleratorError:
            os._exit(1)  # the device is of no use to this process any more; another one finds who is to blame
        rows.cost |= worker_columns()
        return rows


def tune_batches(
    pools: Iterable[Pool],
    known: Collection[str],
    datasets: Mapping[PluginConfig, Dataset],
    execution: Execution,
    stopping: Callable[[], bool],
) -> dict[str, Any]:
    """How each network that is not known yet is fastest where an evaluator has its place, as run.json holds it.

    One after the other, so that they do not disturb each other; those that were measured when it is to stop.
    """
    import ray

    from sweep.model.batching import DEFAULT_TUNING, network_key, tune_batch

    place = (execution.threads, execution.gpus_per_worker)
    task: Any = ray.remote(num_cpus=place[0], num_gpus=place[1], max_calls=1, max_retries=0)(tune_batch)
    wanted = {network_key(pool.population.architecture, datasets[pool.population.dataset]): pool for pool in pools}
    lacking = {network: pool for network, pool in wanted.items() if network not in known}
    if lacking:
        _log.info("measuring at how many images at a time evaluation is fastest")
    data = {choice: ray.put(datasets[choice]) for choice in {pool.population.dataset for pool in lacking.values()}}
    found: dict[str, Any] = {}
    for network, pool in lacking.items():
        first = pool.members[0]
        network_and_seed = (pool.population.architecture, first.init_seed)
        call = task.remote(*network_and_seed, data[pool.population.dataset], *place)
        while not ray.wait([call], timeout=1.0)[0]:
            if stopping():
                ray.cancel(call, force=True)
                return found
        try:
            fast = ray.get(call)
            _log.info(f"{network}: {fast}")
        except ray.exceptions.RayError as error:  # a user's architecture may raise anything; its candidates will tell
            fast = DEFAULT_TUNING
            _log.warning(f"{network}: {fast.images} images at a time, for it cannot be measured: {root_cause(error)}")
        found[network] = fast._asdict()
    return found

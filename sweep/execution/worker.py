"""The Ray actor that evaluates blocks, and the task that tunes batch sizes where such actors run."""

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
    """Evaluates blocks, with the engine of one pool at a time."""

    def __init__(
        self, datasets: Mapping[PluginConfig, Dataset], sweep: str, metrics: tuple[str, ...], execution: Execution
    ) -> None:
        from sweep.model.runtime import setup_worker

        self.datasets = datasets
        self.sweep = sweep
        self.metrics = metrics
        self.execution = execution
        self.device = setup_worker(execution.threads, execution.gpus_per_worker)
        self.runner: Any = None

    def ready(self) -> str:
        """Process and host, once the actor is placed and has imported its libraries."""
        return f"process {os.getpid()} on {socket.gethostname()}"

    def run(self, pool_id: str, shared: Sequence[Any], work: BlockWork) -> BlockRows:
        """Evaluate work of a pool. `shared` lists references to the pool, its weights and batching.

        Ray does not resolve references inside a list, so a worker that has the pool copies nothing.
        """
        import ray
        import torch

        from sweep.core.provenance import worker_columns
        from sweep.evaluation.block import BlockRunner
        from sweep.evaluation.engine import make_engine

        if self.runner is None or self.runner.pool.id != pool_id:
            self.runner = None  # free one pool before the next is loaded
            pool, weights, batching = ray.get(list(shared))
            dataset = self.datasets[pool.population.dataset]
            engine = make_engine(pool, weights, dataset, str(self.device), batching)
            self.runner = BlockRunner(engine, pool, self.sweep, self.metrics, self.execution.probabilities)
        try:
            rows: BlockRows = self.runner.run(work)
        except torch.AcceleratorError:
            os._exit(1)  # the device is unusable in this process; another one finds the candidate to blame
        rows.cost |= worker_columns()
        return rows


def tune_batches(
    pools: Iterable[Pool],
    known: Collection[str],
    datasets: Mapping[PluginConfig, Dataset],
    execution: Execution,
    stopping: Callable[[], bool],
) -> dict[str, Any]:
    """Tune the batch size of each network that is not in `known`, as a worker would run it; entries for run.json.

    Networks are tuned one after the other, so that they do not slow each other down. Once `stopping` returns true, only
    those tuned so far are returned.
    """
    import ray

    from sweep.model.batching import DEFAULT_TUNING, network_key, tune_batch

    resources = (execution.threads, execution.gpus_per_worker)
    task: Any = ray.remote(num_cpus=resources[0], num_gpus=resources[1], max_calls=1, max_retries=0)(tune_batch)
    wanted = {network_key(pool.population.architecture, datasets[pool.population.dataset]): pool for pool in pools}
    missing = {network: pool for network, pool in wanted.items() if network not in known}
    if missing:
        _log.info("tuning batch sizes of evaluation")
    data = {config: ray.put(datasets[config]) for config in {pool.population.dataset for pool in missing.values()}}
    found: dict[str, Any] = {}
    for network, pool in missing.items():
        first = pool.members[0]
        network_and_seed = (pool.population.architecture, first.init_seed)
        call = task.remote(*network_and_seed, data[pool.population.dataset], *resources)
        while not ray.wait([call], timeout=1.0)[0]:
            if stopping():
                ray.cancel(call, force=True)
                return found
        try:
            fast = ray.get(call)
            _log.info(f"{network}: {fast}")
        except ray.exceptions.RayError as error:  # a user's architecture may raise anything
            fast = DEFAULT_TUNING
            _log.warning(f"{network}: using batch size {fast.images}, since tuning failed: {root_cause(error)}")
        found[network] = fast._asdict()
    return found

"""Ray for as long as a sweep runs: this machine, or the cluster that is there."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweep.config.spec import Execution
from sweep.core.errors import UserError
from sweep.core.paths import PathError, home
from sweep.core.provenance import usable_cores

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # workers without a GPU must not see one
}


_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray reads it on every system: without clusters its ports are bound to the loopback alone."""


class LaunchError(UserError):
    """A cluster that cannot carry out the sweep."""


@contextmanager
def cluster(execution: Execution) -> Iterator[None]:
    """Connect to the cluster of `execution.ray_address` or RAY_ADDRESS; without one, start a local Ray for this sweep.

    Raises LaunchError for a cluster that cannot be reached or lacks what one worker needs.
    """
    os.environ.update({key: value for key, value in _ENVIRONMENT.items() if key not in os.environ})
    address = execution.ray_address or os.environ.get("RAY_ADDRESS") or "local"
    own = auth_environment(address) if "RAY_AUTH_MODE" not in os.environ else {}
    os.environ.update(own)
    if address == "local":
        os.environ.setdefault(_CLUSTERS, "0")
    import ray

    if own:
        reload_ray_config()
    size: dict[str, Any] = {"num_cpus": _cores(execution), "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **size)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise LaunchError(
            f"no Ray at {address}: {error}", "is the cluster up, and RAY_AUTH_MODE and its token set?"
        ) from None
    try:
        if address == "local":  # elsewhere nodes may still be on their way
            _check_resources(execution, ray.cluster_resources())
        yield
    finally:
        ray.shutdown()


class BackgroundCluster:
    """Starts Ray in a thread, and shuts it down there, while the caller goes on.

    The thread lives as long as Ray: Linux kills the processes that a thread started when it ends (PR_SET_PDEATHSIG).
    """

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self._is_up: Future[None] = Future()
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ray")

    def __enter__(self) -> BackgroundCluster:
        self._thread.start()
        return self

    def wait_until_up(self) -> None:
        """Return once Ray is up; raises LaunchError as `cluster` does."""
        self._is_up.result()

    def shut_down(self) -> None:
        """Begin to shut Ray down; leaving the `with` block waits for the end."""
        self._is_done.set()

    def __exit__(self, *error: object) -> None:
        self.shut_down()
        self._thread.join()

    def _run(self) -> None:
        try:
            with cluster(self.execution):
                self._is_up.set_result(None)
                self._is_done.wait()
        except BaseException as error:
            if self._is_up.done():
                raise
            self._is_up.set_exception(error)


def reload_ray_config() -> None:
    """Have Ray look at its environment again: one that was imported before has read that there is no secret."""
    import ray

    native: Any = ray._raylet
    native.Config.initialize("")
    native.AuthenticationTokenLoader.instance().reset_cache()


def _cores(execution: Execution) -> int:
    """Cores for Ray on this machine: as many as the workers that were asked for need, at least."""
    wanted = 1 if execution.workers == "auto" else execution.workers
    return max(usable_cores(), wanted * execution.threads)


def _check_resources(execution: Execution, resources: Mapping[str, float]) -> None:
    """LaunchError where no worker would ever start."""
    gpus = max(execution.gpus_per_member, execution.gpus_per_worker)
    for name, wanted in (("CPU", execution.threads), ("GPU", gpus)):
        if wanted > resources.get(name, 0):
            what = f"a worker needs {wanted:g} {name}, and Ray has {resources.get(name, 0):g}"
            raise LaunchError(what, "set execution.threads, gpus_per_member and gpus_per_worker to what there is")


def n_workers(execution: Execution, nodes: Sequence[Mapping[str, Any]]) -> int:
    """How many workers to ask for: the number that was given, else as many as the nodes have room for now."""
    if execution.workers != "auto":
        return execution.workers
    rooms = [node["Resources"] for node in nodes if node["Alive"]]
    return max(1, sum(_free_places(execution, room.get("CPU", 0.0), room.get("GPU", 0.0)) for room in rooms))


def _free_places(execution: Execution, cpus: float, gpus: float) -> int:
    """Workers that one node has room for: a share of a GPU lies on one GPU, so shares do not add up across them."""
    by_cpu = int(cpus // execution.threads)
    share = execution.gpus_per_worker
    if not share:
        return by_cpu
    per_gpu = int(gpus) * int(1 / share + 1e-9) if share <= 1 else int(gpus // share)
    return min(by_cpu, per_gpu)


def auth_environment(address: str) -> dict[str, str]:
    """Environment variables that turn token authentication on; left alone, Ray enables it in only some processes.

    On this machine with a secret of this run's own, elsewhere with the cluster's, where one is known here.
    """
    if address == "local":
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    token = token_file()
    known = "RAY_AUTH_TOKEN" in os.environ or (token is not None and token.is_file())
    return {"RAY_AUTH_MODE": "token"} if known else {}


def token_file() -> Path | None:
    """Where the secret of a cluster lies, unless RAY_AUTH_TOKEN holds it; None for a user without a home folder."""
    if place := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return Path(place)
    try:
        return home() / ".ray" / "auth_token"
    except PathError:
        return None

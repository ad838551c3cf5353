"""Ray for as long as a sweep runs: this machine, or the cluster that is there."""

from __future__ import annotations

import gc
import json
import logging
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweep.config.spec import Execution
from sweep.core.masking import mask_secrets
from sweep.core.provenance import usable_cores
from sweep.core.termination import unchanged_handler
from sweep.execution.auth_token import auth_environment, check_token_file
from sweep.execution.ray_checks import (
    LOCAL,
    LaunchError,
    RayAddress,
    check_reachable,
    check_temporary_folder,
    ray_address,
)

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # workers without a GPU must not see one
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # below `uv run`, each worker would make an environment anew
}


_log = logging.getLogger(__name__)
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
_ANSWER_SECONDS = 40  # Ray gives up on a silent cluster after as long
_JOIN_SECONDS = 120  # a cluster that has answered may be busy
_ALIVE = 0  # GcsNodeInfo.GcsNodeState.ALIVE
_WHAT_THERE_IS = "set execution.threads, gpus_per_member and gpus_per_worker to what there is"
_SAME_VERSIONS = "run the sweep in the environment of the cluster: all nodes need the same versions"
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray reads it on every system: without clusters its ports are bound to the loopback alone."""


@contextmanager
def cluster(execution: Execution) -> Iterator[None]:
    """Connect to the cluster of `execution.ray_address` or RAY_ADDRESS; without one, start a local Ray for this sweep.

    Raises LaunchError for a cluster that cannot be reached or lacks what one worker needs, TokenError for a token that
    others can read.
    """
    place = ray_address(execution)
    os.environ.update({key: value for key, value in _ENVIRONMENT.items() if key not in os.environ})
    own = auth_environment(place.address) if "RAY_AUTH_MODE" not in os.environ else {}
    os.environ.update(own)
    if place.is_local:
        check_temporary_folder()
        os.environ.setdefault(_CLUSTERS, "0")
    else:
        check_token_file()
    import ray

    if own:
        reload_ray_config()
    # Ray's own handler of SIGTERM prints a stack and aborts the process after three seconds.
    with _masked_job(), unchanged_handler(signal.SIGTERM):
        if place.is_local:
            _start(execution)
        else:
            _connect(place)
    try:
        problem = lacking_resources(execution, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        if problem and place.is_local:
            raise LaunchError(problem, _WHAT_THERE_IS)
        if problem:  # nodes may still be on their way
            _log.warning(f"{problem}: waiting for a node that has it; else {_WHAT_THERE_IS}")
        yield
    finally:
        gc.collect()  # handles of actors in cycles: if another thread frees them while Ray ends, Ray ends this process
        with unchanged_handler(signal.SIGTERM):  # without it, SIGTERM would now end this process without a word
            ray.shutdown()


@contextmanager
def _masked_job() -> Iterator[None]:
    """Keep secrets of the command line out of the description of the job that Ray shows to all users of a cluster."""
    from ray._private import utils

    describe = utils.get_entrypoint_name
    utils.get_entrypoint_name = lambda: mask_secrets(describe())  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        utils.get_entrypoint_name = describe


def _start(execution: Execution) -> None:
    """Start Ray on this machine. Raises LaunchError."""
    import ray

    try:
        ray.init(address=LOCAL, num_cpus=_cores(execution), include_dashboard=False, **_QUIET)
    except Exception as error:  # Ray's processes may fail to start for any reason
        ray.shutdown()  # ends those that did start
        hint = "`sweep doctor` checks this machine; Ray's logs are in ray/session_latest/logs below TMPDIR or /tmp"
        if isinstance(error, PermissionError):  # /tmp/ray of another user
            hint = "RAY_TMPDIR=FOLDER takes another folder for Ray's temporary files"
        raise LaunchError(f"Ray did not start on this machine: {_first_line(error)}", hint) from None


def _connect(place: RayAddress) -> None:
    """Connect to a cluster, after it has answered within seconds. Raises LaunchError."""
    import ray

    found = _resolve(place)
    check_reachable(found)
    _within(_ANSWER_SECONDS, lambda: _check_cluster(found), found)
    try:
        _within(_JOIN_SECONDS, lambda: ray.init(address=found.address, **_QUIET), found)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise LaunchError(f"no Ray at {found}: {_first_line(error)}", found.remedy) from None


def _resolve(place: RayAddress) -> RayAddress:
    """The address as host:port: `auto` is the cluster on this machine. Raises LaunchError if there is none."""
    if place.address != "auto":
        return place
    from ray._private import services

    try:
        return RayAddress(services.canonicalize_bootstrap_address_or_die("auto"), f"{place.origin}=auto")
    except ConnectionError:
        problem = "no cluster runs on this machine"
        raise LaunchError(f"no Ray at {place}: {problem}", place.remedy) from None


def _check_cluster(place: RayAddress) -> None:
    """Raise LaunchError unless the cluster admits us, has our versions, and has a node on this machine."""
    import ray
    from ray._private import ray_constants, utils

    try:
        native: Any = ray._raylet
        client = native.GcsClient(address=place.address)
        seconds = {"timeout": _ANSWER_SECONDS}
        text = client.internal_kv_get(b"CLUSTER_METADATA", ray_constants.KV_NAMESPACE_CLUSTER, **seconds)
        nodes = client.get_all_node_info(**seconds).values()
    except ray.exceptions.AuthenticationError:
        hint = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, as on the cluster"
        raise LaunchError(f"the cluster at {place} refuses the token of this process", hint) from None
    except ray.exceptions.RayError as error:
        raise LaunchError(f"no Ray at {place}: {_first_line(error)}", place.remedy) from None
    metadata = json.loads(text or "{}")
    try:
        utils.check_version_info(metadata, "here")
    except (RuntimeError, KeyError):
        there = f"Ray {metadata.get('ray_version', '?')} and Python {metadata.get('python_version', '?')}"
        here = f"Ray {ray.__version__} and Python {platform.python_version()}"
        raise LaunchError(f"the cluster at {place} has {there}, and this process {here}", _SAME_VERSIONS) from None
    if not any(Path(node.raylet_socket_name).exists() for node in nodes if node.state == _ALIVE):
        hint = f"run the sweep on one of its nodes, or `ray start --address={place.address}` here first"
        raise LaunchError(f"this machine is not a node of the cluster at {place}", hint)


def _within(seconds: int, call: Callable[[], object], place: RayAddress) -> None:
    """Run a call in a thread; LaunchError if it takes longer."""
    outcome: Future[None] = Future()

    def run() -> None:
        try:
            call()
        except BaseException as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(None)

    threading.Thread(target=run, name="ray-connect", daemon=True).start()
    try:
        outcome.result(seconds)
    except TimeoutError:
        if outcome.done():
            raise
        raise LaunchError(f"no Ray at {place}: no answer in {seconds} seconds", place.remedy) from None


def _first_line(error: Exception) -> str:
    """The type and the first line of an error's text."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"[:300]


class BackgroundCluster:
    """Starts Ray in a thread, and shuts it down there, while the caller goes on.

    The thread lives as long as Ray: Linux kills the processes that a thread started when it ends (PR_SET_PDEATHSIG).
    """

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.is_local = ray_address(execution).is_local
        self._is_up: Future[None] = Future()
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ray")

    def __enter__(self) -> BackgroundCluster:
        """Check what can be checked at once; a cluster that is there already is connected to before this returns."""
        if self.is_local:
            check_temporary_folder()
        self._thread.start()
        try:
            if not self.is_local:
                self.wait_until_up()
        except BaseException:
            self.shut_down()
            raise
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


def lacking_resources(execution: Execution, nodes: Sequence[Mapping[str, float]]) -> str:
    """What no node has enough of for one worker, from the resources of the nodes; empty if a worker can start."""
    gpus = max(execution.gpus_per_member, execution.gpus_per_worker)
    for name, wanted in (("CPU", execution.threads), ("GPU", gpus)):
        most = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if wanted > most:
            return f"a worker needs {wanted:g} {name}, and Ray has no node with more than {most:g}"
    return ""


def n_workers(execution: Execution, nodes: Sequence[Mapping[str, Any]]) -> int:
    """How many workers to ask for: the number that was given, else as many as the nodes have room for now.

    On a cluster twice as many: an autoscaler brings nodes for workers that wait, and no others.
    """
    if execution.workers != "auto":
        return execution.workers
    rooms = [node["Resources"] for node in nodes if node["Alive"]]
    places = sum(_free_places(execution, room.get("CPU", 0.0), room.get("GPU", 0.0)) for room in rooms)
    return max(1, places if ray_address(execution).is_local else 2 * places)


def _free_places(execution: Execution, cpus: float, gpus: float) -> int:
    """Workers that one node has room for: a share of a GPU lies on one GPU, so shares do not add up across them."""
    by_cpu = int(cpus // execution.threads)
    share = execution.gpus_per_worker
    if not share:
        return by_cpu
    per_gpu = int(gpus) * int(1 / share + 1e-9) if share <= 1 else int(gpus // share)
    return min(by_cpu, per_gpu)

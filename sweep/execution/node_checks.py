"""Checks of the nodes of a cluster before anything is computed: they agree with the driver and share its folder."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from sweep.core.errors import root_cause
from sweep.core.text import format_count
from sweep.execution.handshake import INSTALL, Handshake, appears
from sweep.execution.node_report import NodeReport
from sweep.execution.ray_checks import LaunchError

_log = logging.getLogger(__name__)
_ANSWER_SECONDS = 180  # a process starts and imports torch, perhaps from a slow disk
_ACCELERATOR = "accelerator_type:"


def check_nodes(handshake: Handshake) -> dict[str, str]:
    """Check every node that takes work; returns what its first has. Raises LaunchError with all that cannot, and why.

    This node comes first if it takes work. Its GPUs and those of others are seen by the processes that get them.
    """
    nodes = _working_nodes()
    own = _own_node()
    others = {node: name for node, name in nodes.items() if node != own}
    reports = [handshake.own] if own in nodes else []
    if own in nodes:
        handshake.judge(handshake.own)
    if others:
        _log.info(f"checking {format_count(len(others), 'other node')} of the cluster")
        with ThreadPoolExecutor(len(others)) as threads:
            answers = list(threads.map(partial(_ask, handshake), others, others.values()))
        found = [(name, each) for name, each in zip(others.values(), answers, strict=True) if each]
        _judge_all(handshake, found)
        reports += [each for _, each in found]
    return {**(reports[0].hardware if reports else {}), "accelerators": _accelerators()}


def _judge_all(handshake: Handshake, reports: list[tuple[str, NodeReport]]) -> None:
    """Log what differs and may; raises LaunchError with every node that differs and may not."""
    verdicts = [(name, handshake.judge(report)) for name, report in reports]
    for name, verdict in verdicts:
        if verdict.note:
            _log.warning(f"node {name} differs: {verdict.note} (execution.mixed_nodes)")
    refused = [(name, verdict) for name, verdict in verdicts if verdict.problem]
    if refused:
        hints = dict.fromkeys(hint for _, verdict in refused for hint in verdict.hint.split("; "))
        raise LaunchError("; ".join(f"node {name}: {each.problem}" for name, each in refused), "; ".join(hints))


def _own_node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _working_nodes() -> dict[str, str]:
    """The nodes that take work, in the order of their addresses: id -> address."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
    places = sorted((node["NodeManagerAddress"], node["NodeID"]) for node in alive)
    return {node: address for address, node in places}


def _accelerators() -> str:
    """The kinds of accelerators that Ray knows of in the cluster."""
    import ray

    names = {name for node in ray.nodes() if node["Alive"] for name in node["Resources"]}
    return ", ".join(sorted(name.removeprefix(_ACCELERATOR) for name in names if name.startswith(_ACCELERATOR)))


def _ask(handshake: Handshake, node: str, name: str) -> NodeReport | None:
    """The report of a node, by its id and name; None if it is gone. Raises LaunchError if it cannot run this code."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task: Any = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(report_of_node)
    try:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        report = ray.get(task.options(scheduling_strategy=there).remote(handshake, node), timeout=_ANSWER_SECONDS)
        found = NodeReport(*report)
        if not found.storage_problem and not appears(handshake.place / node):
            folder = handshake.place.parents[1]
            return found._replace(storage_problem=f"what it writes in {folder} does not appear here")
        return found
    except ray.exceptions.GetTimeoutError:
        raise LaunchError(f"node {name} does not answer within {_ANSWER_SECONDS} seconds", "is it busy?") from None
    except ray.exceptions.RayError as error:
        if node not in _working_nodes():
            return None
        raise LaunchError(f"node {name} cannot run this code: {root_cause(error)}", INSTALL) from None


def report_of_node(handshake: Handshake, node: str) -> tuple[Any, ...]:
    """The report of the node that this runs on, without that of a GPU."""
    return tuple(handshake.report(0.0, node))

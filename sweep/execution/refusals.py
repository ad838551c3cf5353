"""Nodes on which nothing may be computed: what processes answer, what is logged, and how work goes elsewhere."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from sweep.execution.handshake import Handshake, Verdict
from sweep.execution.ray_checks import LaunchError

_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """The handshake of a process: which it is, on which node, and whether it may compute rows."""

    label: str
    node: str
    address: str
    verdict: Verdict


class Resources(NamedTuple):
    """What a process needs of a node."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU and {self.gpus:g} GPU" if self.gpus else f"{self.cpus:g} CPU"

    def are_in(self, node: Mapping[str, Any]) -> bool:
        """Whether a living node has as much in all."""
        there = node["Resources"]
        return bool(node["Alive"]) and there.get("CPU", 0.0) >= self.cpus and there.get("GPU", 0.0) >= self.gpus


def answer(handshake: Handshake, gpus: float) -> Answer:
    """The answer of this process."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    verdict = handshake.judge(handshake.report(gpus, node))
    label = f"process {os.getpid()} on {socket.gethostname()}"
    return Answer(label, node, ray.util.get_node_ip_address(), verdict)


class Refusals:
    """The nodes on which nothing is computed, by the answers of their processes. Each node is logged once."""

    def __init__(self) -> None:
        self.nodes: dict[str, Answer] = {}
        self.is_final = False  # no other node is left
        self._noted: set[str] = set()

    def take(self, found: Answer) -> bool:
        """Whether a process is refused; its node gets no more work."""
        name = f"node {found.address}"
        if found.verdict.problem and found.node not in self.nodes:
            hint = found.verdict.hint
            _log.warning(f"{name} is refused: {found.verdict.problem}; its work goes to other nodes\n  hint: {hint}")
            self.nodes[found.node] = found
        elif found.verdict.note and found.node not in self._noted:
            _log.warning(f"{name} differs: {found.verdict.note} (execution.mixed_nodes)")
            self._noted.add(found.node)
        return bool(found.verdict.problem)

    def others(self, nodes: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The nodes that are not refused."""
        return [node for node in nodes if node["NodeID"] not in self.nodes]

    def check_room(self, nodes: Iterable[Mapping[str, Any]], needed: Resources) -> None:
        """Raise LaunchError if nodes were refused and no other has room for a process."""
        self.is_final = bool(self.nodes) and not any(map(needed.are_in, self.others(nodes)))
        self.raise_if_final()

    def raise_if_final(self) -> None:
        """Raise LaunchError with every refused node and its cause if none is left to compute."""
        if self.is_final:
            causes = [f"node {each.address}: {each.verdict.problem}" for each in self.nodes.values()]
            hints = dict.fromkeys(each.verdict.hint for each in self.nodes.values())
            raise LaunchError(f"no node is left to compute on: {'; '.join(causes)}", "; ".join(hints))


def elsewhere(refused: Collection[str]) -> dict[str, Any]:
    """Options of a Ray task or actor that keep it away from nodes."""
    return {"label_selector": {"ray.io/node-id": f"!in({', '.join(sorted(refused))})"}} if refused else {}


def has_room(needed: Resources, refused: Collection[str]) -> bool:
    """Whether a node that is not refused could run a process."""
    import ray

    return any(needed.are_in(node) for node in ray.nodes() if node["NodeID"] not in refused)


def run_elsewhere(
    call: Callable[..., Any], arguments: tuple[Any, ...], needed: Resources, refused: Collection[str]
) -> Any:
    """The result of a call on a node that is not refused."""
    import ray

    task: Any = ray.remote(num_cpus=needed.cpus, num_gpus=needed.gpus, max_retries=0)(call)
    # By default it would run within the resources of the caller, and so on its node.
    return ray.get(task.options(scheduling_strategy="DEFAULT", **elsewhere(refused)).remote(*arguments))

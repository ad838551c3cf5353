"""Finds the permutations of hidden units under which a network computes the same, by tracing its graph.

Every axis of every tensor gets labels, one number per position. Each operation ties labels: the inputs of a linear
layer to the activations that reach it, both sides of a sum to one another. Positions with tied labels move together;
positions tied to label 0, as the network's outputs are, stay in place.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule, Node

from sweep.core.errors import UserError
from sweep.core.permutations import PermutedAxis, UnitPermutation
from sweep.core.weights import ParameterLayout, TensorSpec
from sweep.model.tracing_rules import FIXED, RULES, Labels, LabelUnion, UnsupportedOperationError

_HINT = "convolutions, linear layers, batch and layer norm, sums and concatenations can be followed"


class AlignmentError(UserError):
    """A network whose units cannot be traced."""


def find_permutations(
    model: nn.Module, layout: ParameterLayout, channels: int, size: int
) -> tuple[UnitPermutation, ...]:
    """The permutations of hidden units under which the outputs for images (channels, size, size) stay the same.

    The model is put into evaluation mode. Raises AlignmentError for an operation without a rule.
    """
    graph, inputs = _trace(model, channels, size)
    ties = LabelUnion()
    shapes = {entry.name: entry.shape for entry in layout.entries}
    labelled = {name: _fresh(shapes[name], ties) for node, name in inputs.items() if name in shapes and node.users}
    _propagate(graph, {node: labelled[name] for node, name in inputs.items() if name in labelled}, ties)
    found = _exchangeable(layout, labelled, ties.groups())
    for permutation in found:
        names_here = [place.entry.name for place in permutation.places]
        twice = next((name for name in names_here if names_here.count(name) > 1), None)
        if twice:
            raise AlignmentError(f"inputs and outputs of `{twice}` are the same units", _HINT)
    return found


def _trace(model: nn.Module, channels: int, size: int) -> tuple[GraphModule, dict[Node, str]]:
    """The model's graph, traced on the meta device, and the tensor that each of its inputs is."""
    from torch.func import functional_call
    from torch.fx.experimental.proxy_tensor import make_fx

    model.eval()
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    state = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    images = torch.empty(2, channels, size, size, device="meta")

    def call(state: dict[str, torch.Tensor], images: torch.Tensor) -> Any:
        return functional_call(model, state, (images,))

    try:
        with torch.no_grad():
            graph = make_fx(call, pre_dispatch=True)(state, images)
    except Exception as error:  # a user's architecture may raise anything, and so may torch if it cannot trace
        cause = re.split(r"\.\s|\n", str(error), maxsplit=1)[0]
        raise AlignmentError(f"its graph cannot be traced: {cause}", _HINT) from error
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    return graph, dict(zip(inputs[:-1], state, strict=True))


def _fresh(shape: tuple[int, ...], ties: LabelUnion) -> Labels:
    """New labels for every axis of a tensor; an axis of one position has none, since nothing can be permuted."""
    return tuple(ties.fresh(size) if size > 1 else None for size in shape)


def _propagate(graph: GraphModule, labels: dict[Node, Labels], ties: LabelUnion) -> None:
    """Apply the rule of each operation in a graph to the labels of its tensors. Raises AlignmentError."""
    steps = [node for node in graph.graph.nodes if node.op == "call_function"]
    unknown = dict.fromkeys(_name(node) for node in steps if _name(node) not in RULES)
    if unknown:
        raise AlignmentError("nothing is known of " + ", ".join(f"`{name}`" for name in unknown), _HINT)
    for node in graph.graph.nodes:
        if node.op in ("placeholder", "get_attr"):
            labels.setdefault(node, (None,) * len(node.meta["val"].shape))
        elif node.op == "call_function":
            labels[node] = _apply_rule(node, labels, ties)
    for axis in (axis for result in graph.graph.output_node().all_input_nodes for axis in labels[result]):
        ties.union(axis, None)


def _apply_rule(node: Node, labels: dict[Node, Labels], ties: LabelUnion) -> Labels:
    """Labels of an operation's result. Raises AlignmentError."""
    try:
        return RULES[_name(node)](node, labels, ties)
    except UnsupportedOperationError as error:
        raise AlignmentError(f"`{_name(node)}` {error}", _HINT) from error


def _name(node: Node) -> str:
    """The name of an operation; the in-place variant has the same."""
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "__name__", packet)).rstrip("_")


def _exchangeable(
    layout: ParameterLayout, labelled: dict[str, Labels], groups: NDArray[np.int64]
) -> tuple[UnitPermutation, ...]:
    """Permutations of units: groups of labels that appear equally often on the same axes."""
    axes = [
        (entry, axis, groups[labels])
        for entry in layout.entries
        for axis, labels in enumerate(labelled.get(entry.name, ()))
        if labels is not None
    ]
    seen: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for place, (_, _, found) in enumerate(axes):
        for group, times in zip(*np.unique(found, return_counts=True), strict=True):
            seen[int(group)].append((place, int(times)))
    seen.pop(FIXED, None)
    alike: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for group in sorted(seen):
        alike[tuple(seen[group])].append(group)
    return tuple(
        UnitPermutation(len(members), tuple(_place(*axes[place], members) for place, _ in where))
        for where, members in alike.items()
        if len(members) > 1
    )


def _place(entry: TensorSpec, axis: int, found: NDArray[np.int64], members: list[int]) -> PermutedAxis:
    """The positions on an axis of the members of a permutation; `found` is the group at each position."""
    positions = np.flatnonzero(np.isin(found, members))
    ordered = positions[np.argsort(found[positions], kind="stable")]
    return PermutedAxis(entry, axis, torch.from_numpy(ordered.reshape(len(members), -1)))

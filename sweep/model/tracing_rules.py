"""Rules of operations: which channel labels an operation ties, and which labels its result has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch.fx import Node

Axis: TypeAlias = NDArray[np.int64] | None  # a label per position; None if all positions stay in place
Labels: TypeAlias = tuple[Axis, ...]  # by axis
Known: TypeAlias = Mapping[Node, Labels]

FIXED = 0
"""The label of positions that stay in place, on an axis where others may move."""


class UnsupportedOperationError(Exception):
    """A use of an operation that its rule does not cover."""


class LabelUnion:
    """Labels, and the pairs of them that must move together."""

    def __init__(self) -> None:
        self.count = 1
        self.pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def fresh(self, size: int) -> NDArray[np.int64]:
        """New labels."""
        self.count += size
        return np.arange(self.count - size, self.count)

    def union(self, one: Axis, other: Axis) -> Axis:
        """Tie two axes position by position; if one of them stays in place, so does the other. Returns the axis."""
        if one is None or other is None:
            for each in (one, other):
                if each is not None:
                    self.pairs.append((each, np.full_like(each, FIXED)))
            return None
        self.pairs.append((one, other))
        return one

    def groups(self) -> NDArray[np.int64]:
        """For each label the smallest label that it is tied to."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        ones, others = (np.concatenate([pair[side] for pair in self.pairs]) for side in (0, 1))
        graph = coo_array((np.ones(len(ones), bool), (ones, others)), shape=(self.count, self.count))
        found = connected_components(graph, directed=False)[1]
        smallest: NDArray[np.int64] = np.unique(found, return_index=True)[1][found]
        return smallest


Rule: TypeAlias = Callable[[Node, Known, LabelUnion], Labels]


def _shape(node: Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _argument(node: Node, place: int, name: str, default: Any = None) -> Any:
    """An argument of an operation, positional or by keyword."""
    return node.args[place] if place < len(node.args) else node.kwargs.get(name, default)


def _same(node: Node, known: Known, _: LabelUnion) -> Labels:
    """An elementwise operation: the result has the labels of its input."""
    return known[node.all_input_nodes[0]]


def _combined(node: Node, known: Known, ties: LabelUnion) -> Labels:
    """Elementwise sums and products: equal positions move together; an axis of one position is broadcast."""
    result: list[Axis] = [None] * len(_shape(node))
    for axis in range(len(result)):
        back = axis - len(result)
        found = [
            known[each][back]
            for each in node.all_input_nodes
            if -back <= len(_shape(each)) and _shape(each)[back] == _shape(node)[axis]
        ]
        result[axis] = found[0]
        for other in found[1:]:
            result[axis] = ties.union(result[axis], other)
    return tuple(result)


def _linear(node: Node, known: Known, ties: LabelUnion) -> Labels:
    """The last axis is tied to the inputs of the weight and replaced by its outputs."""
    inputs, weight, *bias = (known[each] for each in node.all_input_nodes)
    ties.union(inputs[-1], weight[1])
    for each in bias:
        ties.union(weight[0], each[0])
    return (*inputs[:-1], weight[0])


def _convolution(node: Node, known: Known, ties: LabelUnion) -> Labels:
    """A linear layer on channels; a depthwise convolution keeps the channels as they are."""
    groups = _argument(node, 6, "groups", 1)
    inputs, weight, *bias = (known[each] for each in node.all_input_nodes)
    channels = _shape(node.all_input_nodes[0])[1]
    if groups not in (1, channels) or (groups > 1 and _shape(node)[1] != channels):
        raise UnsupportedOperationError(f"has {groups} groups of channels")
    ties.union(inputs[1], weight[1] if groups == 1 else weight[0])
    for each in bias:
        ties.union(weight[0], each[0])
    for axis in (*inputs[2:], *weight[2:]):
        ties.union(axis, None)
    return (inputs[0], weight[0], *(None for _ in inputs[2:]))


def _batch_norm(node: Node, known: Known, ties: LabelUnion) -> Labels:
    """Weight, bias and running statistics move with the channels."""
    inputs, *others = (known[each] for each in node.all_input_nodes)
    for each in others:
        ties.union(inputs[1], each[0])
    return inputs


def _layer_norm(node: Node, known: Known, ties: LabelUnion) -> Labels:
    """Weight and bias move with the last axes, whose mean and variance do not depend on order."""
    inputs, *others = (known[each] for each in node.all_input_nodes)
    for each in others:
        for axis, own in zip(inputs[-len(each) :], each, strict=True):
            ties.union(axis, own)
    return inputs


def _pooled(node: Node, known: Known, ties: LabelUnion) -> Labels:
    """The last two axes are spatial and stay in place."""
    inputs = known[node.all_input_nodes[0]]
    for axis in inputs[-2:]:
        ties.union(axis, None)
    return (*inputs[:-2], None, None)


def _averaged(node: Node, known: Known, _: LabelUnion) -> Labels:
    """A mean over axes, which does not depend on their order."""
    inputs = known[node.all_input_nodes[0]]
    over = _argument(node, 1, "dim")
    gone = {axis % len(inputs) for axis in ([over] if isinstance(over, int) else over or range(len(inputs)))}
    kept = [None if axis in gone else labels for axis, labels in enumerate(inputs)]
    return tuple(kept) if _argument(node, 2, "keepdim") else tuple(kept[a] for a in range(len(kept)) if a not in gone)


def _concatenated(node: Node, known: Known, ties: LabelUnion) -> Labels:
    """Concatenation along one axis; the other axes move together."""
    parts = [known[each] for each in node.args[0]]  # type: ignore[union-attr, index]
    sizes = [_shape(each) for each in node.args[0]]  # type: ignore[union-attr, arg-type]
    along = _argument(node, 1, "dim", 0) % len(parts[0])
    result = list(parts[0])
    for part in parts[1:]:
        for axis in range(len(part)):
            result[axis] = ties.union(result[axis], part[axis]) if axis != along else None
    if any(part[along] is not None for part in parts):
        filled = (_filled(part[along], size[along]) for part, size in zip(parts, sizes, strict=True))
        result[along] = np.concatenate(list(filled))
    return tuple(result)


def _filled(axis: Axis, size: int) -> NDArray[np.int64]:
    return np.full(size, FIXED) if axis is None else axis


def _permuted(node: Node, known: Known, _: LabelUnion) -> Labels:
    """Axes in another order."""
    inputs = known[node.all_input_nodes[0]]
    return tuple(inputs[axis] for axis in _argument(node, 1, "dims"))


def _transposed(node: Node, known: Known, _: LabelUnion) -> Labels:
    """Two axes exchanged."""
    inputs = list(known[node.all_input_nodes[0]])
    one = _argument(node, 1, "dim0")
    other = _argument(node, 2, "dim1")
    inputs[one], inputs[other] = inputs[other], inputs[one]
    return tuple(inputs)


_APART = "takes channels apart"


def _reshaped(node: Node, known: Known, _: LabelUnion) -> Labels:
    """Neighbouring axes become one, in which a channel is a block; an axis with channels is not split."""
    source = node.all_input_nodes[0]
    if all(axis is None for axis in known[source]):
        return (None,) * len(_shape(node))
    before = [(size, axis) for size, axis in zip(_shape(source), known[source], strict=True) if size > 1]
    result: list[Axis] = []
    for size in _shape(node):
        run: list[tuple[int, Axis]] = []
        while math.prod(length for length, _ in run) < size:
            run.append(before.pop(0))
        left, rest = divmod(math.prod(length for length, _ in run), size)
        if rest:
            raise UnsupportedOperationError(_APART)
        result.append(_merged(run, size))
        if left > 1:
            before.insert(0, (left, None))
    return tuple(result)


def _merged(run: list[tuple[int, Axis]], size: int) -> Axis:
    """The labels of axes that become one axis of that size, or the first of several."""
    labelled = [place for place, (_, axis) in enumerate(run) if axis is not None]
    if not labelled:
        return None
    sizes = [length for length, _ in run]
    if len(labelled) > 1 or math.prod(sizes) != size:
        raise UnsupportedOperationError(_APART)
    around = [1] * len(sizes)
    around[labelled[0]] = -1
    axis = run[labelled[0]][1]
    assert axis is not None
    return np.broadcast_to(axis.reshape(around), sizes).flatten()


_SAME = (
    *("relu", "relu6", "gelu", "silu", "elu", "selu", "celu", "leaky_relu", "mish", "sigmoid", "tanh", "softplus"),
    *("hardtanh", "hardswish", "hardsigmoid", "dropout", "feature_dropout", "clone", "contiguous", "detach"),
)
_COMBINED = ("add", "sub", "mul", "div")
_POOLED = ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "upsample_bilinear2d", "upsample_nearest2d")
_RESHAPED = ("flatten", "view", "reshape", "squeeze", "unsqueeze")

RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_COMBINED, _combined),
    **dict.fromkeys(_POOLED, _pooled),
    **dict.fromkeys(_RESHAPED, _reshaped),
    **{"linear": _linear, "conv2d": _convolution, "batch_norm": _batch_norm, "layer_norm": _layer_norm},
    **{"mean": _averaged, "cat": _concatenated, "permute": _permuted, "transpose": _transposed},
}
"""Name of an ATen operation -> its rule."""

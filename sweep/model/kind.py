"""The kind of a network, from what its forward pass computes."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sweep.model.flops import MULTIPLY_ADDS

Kind = Literal["transformer", "hybrid", "cnn", "mlp", "linear", "other"]

_SOFTMAX = ("_softmax", "_safe_softmax")
_ACTIVATION_PRODUCTS = ("bmm", "baddbmm")
_OF_ONE_LAYER = frozenset(
    {"addmm", "mm", "add", "t", "transpose", "permute", "view", "_unsafe_view", "reshape", "expand"}
)
_OF_ONE_LAYER |= {"clone", "detach", "squeeze", "unsqueeze", "alias"}
"""Operations of one linear layer on pixels, and those that move values without changing them."""


def network_kind(model: nn.Module, images: Tensor) -> Kind | None:
    """The kind of a network by the operations of a forward pass over images; None if that fails.

    `transformer`: attention, and more multiply-adds in matrix products than in convolutions; `hybrid`: attention, but
    mostly convolutions; `cnn`: convolutions without attention; `linear`: one linear layer, whose outputs are linear in
    its weights; `mlp`: other networks of matrix products alone; else `other`. Attention is
    torch's fused operation, or a softmax together with products of activations, whether tokens or channels attend
    (arXiv 2106.09681). Convolutions whose stride is their kernel, such as the embedding of patches, are linear layers.
    No names of classes or networks are read.
    """
    training = model.training
    seen = _Operations()
    try:
        with torch.enable_grad(), seen:  # without gradients a whole layer of attention would be one fused kernel
            model.eval()(images)
    except Exception:  # a user's architecture may raise anything
        return None
    finally:
        model.train(training)
    return seen.kind


class _Operations(TorchDispatchMode):
    """Collects the operations of a forward pass, and the multiply-adds of convolutions and of matrix products."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()
        self.in_convolutions = 0
        self.in_products = 0
        self.layers = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler."""
        return False

    @property
    def kind(self) -> Kind:
        """The kind of a network with these operations."""
        has_attention = any("attention" in name for name in self.names) or (
            not self.names.isdisjoint(_SOFTMAX) and not self.names.isdisjoint(_ACTIVATION_PRODUCTS)
        )
        if has_attention:
            return "transformer" if self.in_products > self.in_convolutions else "hybrid"
        if self.in_convolutions:
            return "cnn"
        if self.layers == 1 and self.names <= _OF_ONE_LAYER:
            return "linear"
        return "mlp" if self.in_products else "other"

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function._overloadpacket.__name__
        self.names.add(name)
        if name in MULTIPLY_ADDS:
            count = MULTIPLY_ADDS[name](result, *args)
            self.layers += 1
            if name == "convolution" and tuple(args[1].shape[2:]) != tuple(args[3]):
                self.in_convolutions += count
            else:
                self.in_products += count
        return result

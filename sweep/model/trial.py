"""A trial of a network before anything is trained: whether it can be trained, evaluated and merged as it is.

A network of this project or of a library makes one pass on the meta device, which costs next to nothing. A user's own
network may do anything, so it runs on the CPU with the values of two images, in evaluation and in training mode.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sweep.core.capture import capture_outputs
from sweep.core.errors import UserError
from sweep.core.text import format_count

Shape = tuple[int, int, int]  # classes, channels, size
_LOGITS = "forward returns the logits alone, one tensor (images, classes), in both modes"
_ONE_HEAD = "features are the input of one linear head whose output is returned: choose a network that has it"


class TrialError(UserError):
    """A network that cannot be trained, evaluated or merged as it is."""


def try_on_meta(model: nn.Module, shape: Shape) -> None:
    """One pass in evaluation mode of a network on the meta device. Raises TrialError."""
    with _trying(model):
        check_tensors(model)
        images = torch.empty(2, shape[1], shape[2], shape[2], device="meta")
        _check_output(*_forward_with_head(model, images, shape), shape, 2)


def try_with_values(model: nn.Module, shape: Shape) -> None:
    """Passes of a network with random images on the CPU, in evaluation mode, then in training mode. Raises TrialError.

    The caller seeds torch's generators. Changes the running statistics of the network.
    """
    with _trying(model):
        check_tensors(model)
        images = torch.randn(2, shape[1], shape[2], shape[2])
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        output, heads = _forward_with_head(model, images, shape)
        _check_output(output, heads, shape, 2)
        changed = [name for name, tensor in model.state_dict().items() if not _is_near(tensor, before[name], 0.0)]
        if changed:
            raise TrialError(f"changes `{changed[0]}` in evaluation mode", "change it only if self.training")
        _check_repeatable(model, images, output, shape)
        _check_training(model, images, shape)


@contextmanager
def _trying(model: nn.Module) -> Iterator[None]:
    """Restore the mode and the gradients of a network after its trial; its warnings are not shown."""
    if not isinstance(model, nn.Module):
        raise TrialError(f"is a {type(model).__name__}", "an architecture returns a torch.nn.Module")
    training = model.training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            model.train(training)
            model.zero_grad()


def check_tensors(model: nn.Module) -> None:
    """Raise TrialError if weights are lazy, complex or none, or are held where `state_dict` does not find them."""
    parameters = dict(model.named_parameters())
    lazy = [name for name, parameter in parameters.items() if is_lazy(parameter)]
    if lazy:
        what = f"has lazy layers: the shape of `{lazy[0]}` is unknown before a forward pass"
        raise TrialError(what, "state the sizes, as nn.Linear does and nn.LazyLinear does not")
    strange = [f"`{name}` is {p.dtype}" for name, p in parameters.items() if not p.is_floating_point()]
    strange += [f"`{name}` is {b.dtype}" for name, b in model.named_buffers() if b.is_complex()]
    if strange:
        raise TrialError(f"has weights that are no real numbers: {strange[0]}", "weights are averaged as float32")
    if not parameters:
        raise TrialError("has no parameters", "are its layers attributes of an nn.Module?")
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if not key.startswith("_") and _hides_weights(value):
                what = f"holds weights in `{f'{name}.{key}'.lstrip('.')}`, where state_dict does not find them"
                raise TrialError(what, "use nn.ModuleList, nn.ModuleDict, nn.Parameter or register_buffer")


def _hides_weights(value: Any) -> bool:
    """Whether an attribute that is no registered module or parameter holds modules or trainable tensors."""
    if isinstance(value, list | tuple | set):
        return any(_hides_weights(item) or _has_parameters(item) for item in value)
    if isinstance(value, dict):
        return _hides_weights(list(value.values()))
    return isinstance(value, Tensor) and value.requires_grad


def _has_parameters(value: Any) -> bool:
    return isinstance(value, nn.Module) and any(True for _ in value.parameters())


def _forward_with_head(model: nn.Module, images: Tensor, shape: Shape) -> tuple[Any, dict[str, list[Tensor]]]:
    """The output in evaluation mode, and the outputs of each linear layer."""
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    with ExitStack() as stack:
        outputs = {name: stack.enter_context(capture_outputs(module)) for name, module in linear}
        output = _forward(model.eval(), images, shape)
    return output, outputs


@torch.no_grad()
def _forward(model: nn.Module, images: Tensor, shape: Shape) -> Any:
    """The output for images. Raises TrialError if they do not pass, or are changed."""
    given = images.clone()
    try:
        output = model(given)
    except Exception as error:  # a network may raise anything
        raise TrialError(*_refusal(model, error, shape, len(images))) from None
    if not images.is_meta and not torch.equal(given, images):
        raise TrialError("changes the images that it is given", "no operation of its forward may be in place on them")
    return output


def _refusal(model: nn.Module, error: Exception, shape: Shape, count: int) -> tuple[str, str]:
    """(message, hint) for images that do not pass."""
    reason = textwrap.shorten(str(error) or type(error).__name__, 160)
    if isinstance(error, TypeError) and "argument" in reason:
        return f"cannot be called with images alone: {reason}", "its forward takes one argument without a default"
    images = f"images of size {shape[2]} with {format_count(shape[1], 'channel')}"
    few = " in a batch of one" if count == 1 else ""
    kind = type(model).__name__
    return f"cannot take {images}{few}: {kind} gives {reason}", "change the size or the channels of the data set"


def _check_output(output: Any, heads: dict[str, list[Tensor]], shape: Shape, count: int) -> None:
    """Raise TrialError if an output is not the logits of the linear layer that is registered last."""
    check_logits(output, shape[0], count)
    ends = [name for name, each in heads.items() if len(each) == 1 and _is_same(each[0], output)]
    if not ends:
        raise TrialError("does not end in one linear layer: its output is not that of one", _ONE_HEAD)
    last = list(heads)[-1]
    if last not in ends:
        what = f"ends in the linear layer `{ends[0]}`, but `{last}` is registered after it"
        raise TrialError(what, f"assign `{ends[0]}` last in __init__: the last linear layer is the head")


def check_logits(output: Any, classes: int, count: int) -> None:
    """Raise TrialError if an output is not one real tensor (count, classes)."""
    if not isinstance(output, Tensor):
        raise TrialError(f"returns a {type(output).__name__}, expected a tensor", _LOGITS)
    if tuple(output.shape) != (count, classes):
        what = f"returns a tensor of shape {tuple(output.shape)} for {format_count(count, 'image')}"
        raise TrialError(f"{what} and {classes} classes, expected {(count, classes)}", _LOGITS)
    if output.dtype != torch.float32:
        raise TrialError(f"returns {output.dtype}, expected torch.float32", "weights and images are float32")


def _is_same(one: Any, other: Tensor) -> bool:
    """Whether an output is another, or at least has its values."""
    if one is other:
        return True
    return isinstance(one, Tensor) and not one.is_meta and one.shape == other.shape and _is_near(one, other, 0.0)


def _is_near(one: Tensor, other: Tensor, tolerance: float) -> bool:
    if not tolerance or not one.is_floating_point():
        return torch.equal(one.nan_to_num(), other.nan_to_num())
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def _check_repeatable(model: nn.Module, images: Tensor, output: Tensor, shape: Shape) -> None:
    """Raise TrialError if equal images give other outputs, again or in another batch."""
    again = _forward(model, images, shape)
    if not isinstance(again, Tensor) or again.shape != output.shape or not _is_near(again, output, 1e-4):
        what = "gives other outputs for the same images in evaluation mode"
        raise TrialError(what, "is there dropout or noise that does not look at self.training?")
    alone = _forward(model, images[:1], shape)
    check_logits(alone, shape[0], 1)
    if not _is_near(alone, output[:1], 1e-3):
        what = "gives an image another output in another batch, in evaluation mode"
        raise TrialError(what, "normalization over the batch needs running statistics")


def _check_training(model: nn.Module, images: Tensor, shape: Shape) -> None:
    """Raise TrialError if the network cannot make a training step."""
    model.train()
    try:
        output = model(images.clone())
    except Exception as error:  # a network may raise anything
        reason = textwrap.shorten(str(error) or type(error).__name__, 160)
        raise TrialError(
            f"cannot be trained: {reason}", "it is called with a batch of images in training mode"
        ) from None
    check_logits(output, shape[0], len(images))
    if not output.requires_grad:
        raise TrialError("cannot be trained: its output has no gradient", "is there no_grad or detach in its forward?")
    try:
        output.sum().backward()
    except Exception as error:  # an operation of a user's own may raise anything
        reason = textwrap.shorten(str(error), 160)
        raise TrialError(f"cannot be trained: its gradient cannot be computed: {reason}") from None

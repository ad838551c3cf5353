"""Models that were trained elsewhere: checkpoints in the forms that people share, read without running their code."""

from __future__ import annotations

import mmap
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

from sweep.storage.files import StoreError

_INSIDE = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
_SHARED = 64  # how many tensors of a checkpoint may lie in the same bytes, on average
_PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.")


class CheckpointError(UserError):
    """A checkpoint that cannot be used: its name and the reason."""


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """The state dict in a .pth, .pt, .ckpt or .safetensors file, free of wrappers and prefixes.

    Raises CheckpointError with the name and the reason; no code of the file is ever run.
    """
    content = _safetensors(file) if file.suffix == ".safetensors" else _torch(file)
    return unwrap_state_dict(content, file)


def _check_size(file: Path) -> None:
    """Raise CheckpointError for a file that unfolds to more than it is: torch packs nothing, nor needs bytearrays."""
    size = file.stat().st_size
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            packed = any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist())
            claimed = sum(each.file_size for each in archive.infolist())
        if packed or claimed > size:
            raise CheckpointError(f"{file} is refused: its content is packed, or says that it is larger than the file")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"bytearray") >= 0:
            raise CheckpointError(f"{file} holds more than tensors and is refused: bytearray")


def _check_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Raise CheckpointError for tensors that are no plain ones, or stand for more than the file has bytes for."""
    import torch

    whole, largest = 0, file.stat().st_size
    for name, tensor in tensors.items():
        plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if not plain or tensor.device.type != "cpu" or tensor.is_quantized:
            raise CheckpointError(f"{file} is refused: `{name}` is no plain tensor")
        count = tensor.numel() * tensor.element_size()
        whole += count
        if count > largest or whole > _SHARED * largest:
            raise CheckpointError(f"{file} is refused: `{name}` of shape {tuple(tensor.shape)} is more than the file")


def _safetensors(file: Path) -> Any:
    from sweep.storage.checkpoints import load_tensors
    from sweep.storage.files import StoreError

    try:
        return load_tensors(file)
    except StoreError as error:
        raise CheckpointError(str(error)) from None


def _torch(file: Path) -> Any:
    import torch

    try:
        _check_size(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # torch answers damage with errors of many kinds
        foreign = re.search(r"(?:GLOBAL|global:?) ([\w.]+)", str(error).partition("trusted source")[2])
        if foreign:
            hint = "save its state_dict alone: torch.save(model.state_dict(), …)"
            raise CheckpointError(f"{file} holds more than tensors and is refused: {foreign[1]}", hint) from None
        raise CheckpointError(f"cannot read {file}: it is damaged, or no checkpoint") from None


def unwrap_state_dict(content: Any, file: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, out of what training scripts wrap around it. Raises CheckpointError."""
    import torch

    for key in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = dict(content) if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in tensors.items()):
        raise CheckpointError(f"{file} holds no state dict", f"it may lie under one of {', '.join(_INSIDE)}")
    _check_tensors(tensors, file)
    prefix = next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in tensors)), "")
    while prefix:
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        prefix = next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in tensors)), "")
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def load_tensors(file: Path, hint: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises StoreError for one that is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"cannot read the weights {file}: {error}", hint) from None


def tensors_to_bytes(state: Mapping[str, Tensor]) -> bytes:
    """Tensors as safetensors."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})

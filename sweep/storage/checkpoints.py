"""Checkpoints of external models (.pth, .pt, .ckpt, .safetensors), read without running any code of theirs."""

from __future__ import annotations

import mmap
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.core.errors import UserError
from sweep.storage.files import StoreError, cached_by_file

if TYPE_CHECKING:
    from torch import Tensor

_WRAPPER_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
_MAX_SHARING = 64  # tensors of a checkpoint that may share the same bytes, on average
_PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.")


class CheckpointError(UserError):
    """A checkpoint that cannot be used."""


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """The state dict in a .pth, .pt, .ckpt or .safetensors file, without wrappers and prefixes.

    Tensors are mapped from the file where its format allows that: names and shapes cost no reading of the weights.
    Raises CheckpointError with the file and the reason; no code of the file is ever run.
    """
    content = _safetensors(file) if file.suffix == ".safetensors" else _torch(file)
    return unwrap_state_dict(content, file)


@cached_by_file
def _check_archive(file: Path) -> bool:
    """Whether a file is a zip archive, as torch writes them.

    Raises CheckpointError for a file that could grow in memory beyond its size: torch compresses nothing and needs no
    bytearrays.
    """
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        is_archive = zipfile.is_zipfile(opened)
        entries = zipfile.ZipFile(opened).infolist() if is_archive else []
        is_compressed = any(each.compress_type != zipfile.ZIP_STORED for each in entries)
        if is_compressed or sum(each.file_size for each in entries) > len(content):
            raise CheckpointError(f"{file} is refused: its content is compressed, or claims to be larger than the file")
        if content.find(b"bytearray") >= 0:
            raise CheckpointError(f"{file} holds more than tensors and is refused: bytearray")
    return is_archive


def _check_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Raise CheckpointError for tensors that are not plain, or that need more bytes than the file has."""
    import torch

    total = 0
    file_size = file.stat().st_size
    for name, tensor in tensors.items():
        plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if not plain or tensor.device.type != "cpu" or tensor.is_quantized:
            raise CheckpointError(f"{file} is refused: `{name}` is not a plain CPU tensor")
        count = tensor.numel() * tensor.element_size()
        total += count
        if count > file_size or total > _MAX_SHARING * file_size:
            raise CheckpointError(f"{file} is refused: `{name}` of shape {tuple(tensor.shape)} is larger than the file")


def _safetensors(file: Path) -> Any:
    try:
        return load_tensors(file)
    except StoreError as error:
        raise CheckpointError(str(error)) from None


def _torch(file: Path) -> Any:
    import torch

    try:
        is_archive = _check_archive(file)
        return torch.load(file, map_location="cpu", weights_only=True, mmap=is_archive)
    except CheckpointError:
        raise
    except Exception as error:  # torch raises errors of many kinds for damaged files
        foreign = re.search(r"(?:GLOBAL|global:?) ([\w.]+)", str(error).partition("trusted source")[2])
        if foreign:
            hint = "save its state_dict alone: torch.save(model.state_dict(), …)"
            raise CheckpointError(f"{file} holds more than tensors and is refused: {foreign[1]}", hint) from None
        raise CheckpointError(f"cannot read {file}: it is damaged or not a checkpoint") from None


def unwrap_state_dict(content: Any, file: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, without what training scripts wrap around it. Raises CheckpointError."""
    import torch

    for key in _WRAPPER_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = dict(content) if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in tensors.items()):
        hint = f"save it alone, or under one of the keys {', '.join(_WRAPPER_KEYS)}"
        raise CheckpointError(f"{file} holds no state dict", hint)
    _check_tensors(tensors, file)
    prefix = next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in tensors)), "")
    while prefix:
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        prefix = next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in tensors)), "")
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def load_tensors(file: Path, hint: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises StoreError for a missing or damaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"cannot read the weights {file}: {error}", hint) from None


def tensors_to_bytes(state: Mapping[str, Tensor]) -> bytes:
    """Serialize tensors in the safetensors format."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})

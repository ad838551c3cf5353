"""Files of external models (.pth, .ckpt, .bin, .safetensors, an index of several), read without running their code.

What is in them is chosen and named in `sweep/storage/checkpoint_forms.py`.
"""

from __future__ import annotations

import json
import mmap
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.core.errors import UserError
from sweep.core.file_kinds import FIRST_BYTES, foreign_kind
from sweep.storage.files import StoreError, cached_by_file, check_regular

if TYPE_CHECKING:
    from torch import Tensor

_MAX_SHARING = 64  # tensors of a checkpoint that may share the same bytes, on average
_PART = re.compile(r"^(?P<stem>.+)-\d{3,}-of-(?P<count>\d{3,})\.(?P<suffix>safetensors|bin)$")
_ZIP = b"PK\3\4"
_PICKLE = b"\x80\2"
_AS_TENSORS = "save its state_dict alone: torch.save(model.state_dict(), …)"
_FOREIGN = (r"GLOBAL ([\w.]+)", r"global:? ([\w.]+)", r"class ([\w.]+)", r"but got <class '([\w.]+)'>")
"""Where torch's messages name what a refused pickle asked for; the first that fits counts."""


class CheckpointError(UserError):
    """A checkpoint that cannot be used."""


def load_content(file: Path) -> Any:
    """What is stored in the file, or in all files of an index, with nothing but plain containers and tensors.

    Tensors are mapped from the file where its format allows that: names and shapes cost no reading of the weights.
    Raises CheckpointError with the file and the reason; no code of the file is ever run.
    """
    part = _PART.match(file.name)
    if part and int(part["count"]) > 1:
        index = file.with_name(f"{part['stem']}.{part['suffix']}.index.json")
        hint = f"name {index if index.exists() else 'its index (…index.json)'} or the folder instead"
        raise CheckpointError(f"{file} is one part of {int(part['count'])} of a model", hint)
    try:
        if file.is_dir():
            hint = "expected model.safetensors or pytorch_model.bin in it, or the .index.json of either; or name a file"
            raise CheckpointError(f"cannot read {file}: it is a folder that holds no model", hint)
        return _indexed(file) if file.suffix == ".json" else _load_one(file)
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror or error}") from None


def checkpoint_parts(file: Path) -> tuple[Path, ...]:
    """All files of a checkpoint: the file alone, or an index and the files that it lists. Raises CheckpointError."""
    return (file, *sorted(set(_weight_map(file).values()))) if file.suffix == ".json" else (file,)


def check_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Raise CheckpointError for tensors that are not plain, or that need more bytes than the files have."""
    import torch

    total = 0
    file_size = sum(part.stat().st_size for part in checkpoint_parts(file))
    for name, tensor in tensors.items():
        plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if not plain or tensor.device.type != "cpu" or tensor.is_quantized:
            raise CheckpointError(f"{file} is refused: `{name}` is not a plain CPU tensor")
        count = tensor.numel() * tensor.element_size()
        total += count
        if count > file_size or total > _MAX_SHARING * file_size:
            raise CheckpointError(f"{file} is refused: `{name}` of shape {tuple(tensor.shape)} is larger than the file")


def _weight_map(index: Path) -> dict[str, Path]:
    """Tensor name -> file, of an index as Hugging Face writes it. Raises CheckpointError."""
    check_regular(index)
    try:
        content = json.loads(index.read_bytes())
        names = dict(content["weight_map"])
    except OSError as error:
        raise CheckpointError(f"cannot read {index}: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CheckpointError(
            f"{index} is no index of a model: expected a `weight_map` from tensors to files"
        ) from None
    for name in names.values():
        if not isinstance(name, str) or not name or Path(name).name != name or Path(name).suffix == ".json":
            raise CheckpointError(f"{index} is refused: `{name}` is not the name of a file beside it")
    return {tensor: index.with_name(name) for tensor, name in names.items()}


def _indexed(index: Path) -> dict[str, Any]:
    """The tensors of all files of an index."""
    places = _weight_map(index)
    found: dict[str, Any] = {}
    for part in sorted(set(places.values())):
        content = _load_one(part) if part.exists() else None
        if not isinstance(content, Mapping):
            problem = "is not there" if content is None else "holds no tensors"
            raise CheckpointError(f"{index} lists {part.name}, which {problem}", "copy all files of the model")
        found.update(content)
    missing = sorted(places.keys() - found.keys())
    if missing:
        raise CheckpointError(f"{index} lists `{missing[0]}`, which {places[missing[0]].name} does not hold")
    return found


def _load_one(file: Path) -> Any:
    check_regular(file)
    return _safetensors(file) if _is_safetensors(file) else _torch(file)


@cached_by_file
def _is_safetensors(file: Path) -> bool:
    """Whether the file is to be read as safetensors: by its first bytes, whatever its name is; else by its name.

    Raises CheckpointError for a file that begins as another kind does.
    """
    with file.open("rb") as opened:
        start = opened.read(FIRST_BYTES)
    what, hint = foreign_kind(start)
    if what:
        raise CheckpointError(f"cannot read {file}: {what}", hint)
    length = int.from_bytes(start[:8], "little")
    is_header = start[8:9] == b"{" and length <= file.stat().st_size - 8
    return is_header or (file.suffix == ".safetensors" and not start.startswith((_ZIP, _PICKLE)))


@cached_by_file
def _check_archive(file: Path) -> bool:
    """Whether a file is a zip archive, as torch writes them.

    Raises CheckpointError for a file that could grow in memory beyond its size: torch compresses nothing and needs no
    bytearrays.
    """
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        is_archive = zipfile.is_zipfile(opened)
        entries = zipfile.ZipFile(opened).infolist() if is_archive else []
        _check_kind(file, [each.filename for each in entries])
        if not is_archive and content[:4] == _ZIP:
            raise CheckpointError(f"cannot read {file}: its end is missing", "copy or download it again")
        is_compressed = any(each.compress_type != zipfile.ZIP_STORED for each in entries)
        if is_compressed or sum(each.file_size for each in entries) > len(content):
            raise CheckpointError(f"{file} is refused: its content is compressed, or claims to be larger than the file")
        if content.find(b"bytearray") >= 0:
            raise CheckpointError(f"{file} holds more than tensors and is refused: bytearray")
    return is_archive


def _check_kind(file: Path, entries: list[str]) -> None:
    """Raise CheckpointError for an archive of another kind than torch.save's, by the names of its entries."""
    names = {entry.rpartition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        hint = "save its tensors alone: torch.save(torch.jit.load(…).state_dict(), …)"
        raise CheckpointError(f"cannot read {file}: it is a TorchScript archive", hint)
    if names and "data.pkl" not in names:
        is_numpy = all(name.endswith(".npy") for name in names)
        kind = "an archive of NumPy arrays" if is_numpy else "a zip archive of other files"
        hint = "save its arrays as tensors by name" if is_numpy else "unpack it and name the file in it"
        raise CheckpointError(f"cannot read {file}: it is {kind}", hint)


def _has_new_pickle(file: Path) -> bool:
    """Whether the pickle of a checkpoint names a protocol above 2, of which torch reads no plain tensors."""
    if not zipfile.is_zipfile(file):
        with file.open("rb") as opened:
            start = opened.read(2)
    else:
        start = _pickle_start(file)
    return start[:1] == b"\x80" and start[1:] > b"\2"


def _pickle_start(file: Path) -> bytes:
    """The first two bytes of the pickle in an archive; none of a damaged one."""
    try:
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
            with archive.open(name) as opened:
                return opened.read(2)
    except (zipfile.BadZipFile, EOFError, RuntimeError):  # zipfile raises RuntimeError for what is encrypted
        return b""


def _safetensors(file: Path) -> Any:
    try:
        return load_tensors(file)
    except StoreError as error:
        raise CheckpointError(str(error)) from None


def _torch(file: Path) -> Any:
    import torch

    try:
        is_archive = _check_archive(file)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # the error below names it
            if file.suffix == ".safetensors":  # torch goes by this name, whatever the content
                with file.open("rb") as opened:
                    return torch.load(opened, map_location="cpu", weights_only=True)
            return torch.load(file, map_location="cpu", weights_only=True, mmap=is_archive)
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # torch raises errors of many kinds for damaged files
        foreign = _foreign_name(str(error))
        if foreign:
            raise CheckpointError(f"{file} holds more than tensors and is refused: {foreign}", _AS_TENSORS) from None
        if "Unsupported operand" in str(error) and _has_new_pickle(file):
            what = (
                "it is a pickle of protocol 3 or newer; only protocol 2, that of torch.save, is read without its code"
            )
            raise CheckpointError(f"cannot read {file}: {what}", _AS_TENSORS) from None
        raise CheckpointError(f"cannot read {file}: it is damaged or not a checkpoint") from None


def _foreign_name(message: str) -> str:
    """The class or function that a refused pickle asked for, from torch's message; empty if it names none."""
    reason = message.partition("trusted source")[2]
    found = (re.search(pattern, reason) for pattern in _FOREIGN)
    return next((match[1].rstrip(".") for match in found if match), "")


def load_tensors(file: Path, hint: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises StoreError for a missing or damaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"cannot read the weights {file}: {error}", hint) from None


def tensors_to_bytes(state: Mapping[str, Tensor]) -> bytes:
    """Serialize tensors in the safetensors format; tensors that share memory are written one by one."""
    from safetensors.torch import save

    written: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in state.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        written[name] = plain.clone() if place in places else plain
        places.add(place)
    return save(written)

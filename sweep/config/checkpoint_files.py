"""Which files the `checkpoints` of a population mean: names, patterns, and folders as Hugging Face writes them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

from sweep.core.errors import UserError
from sweep.core.paths import expand_home, working_folder

_FOLDER_FILES = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
"""The file of a model folder that stands for the model: the first that is there."""
_OTHER_FORMS = {
    "*.distcp": "it holds shards: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pth",
    "*/*_states.pt": "it holds shards of DeepSpeed: its zero_to_fp32.py writes one file",
    "zero_to_fp32.py": "it holds shards of DeepSpeed: run zero_to_fp32.py in it, which writes one file",
    "adapter_model.*": "it holds an adapter, which is no model: merge it into its base and save that",
}
"""Files in folders -> what such a folder holds instead of a model, and how one is made of it."""


class PoolFiles(NamedTuple):
    """The files of one pool's members, and those of its patterns that are its base and so no members."""

    members: tuple[Path, ...]
    left_out: tuple[Path, ...] = ()


def find_pool_files(patterns: Sequence[str], base: Path | None = None, *, missing_too: bool = False) -> PoolFiles:
    """The files that names or patterns mean, absolute; those of a pattern in natural order (2 before 10).

    What is there but cannot be read, such as a link that leads nowhere, is among them: it is reported, not left out.
    With `missing_too`, so is a missing file that is named. Raises FileNotFoundError with the first pattern that matches
    none, and UserError if the base is listed by name, or if a pattern matches nothing but the base.
    """
    members: list[Path] = []
    left_out: list[Path] = []
    for pattern in patterns:
        found, is_name = _matches(pattern, missing_too=missing_too)
        is_base = [base is not None and _is_same(file, base) for file in found]
        if any(is_base) and (is_name or all(is_base)):
            hint = "take it off the list, or leave `base` out: the base is what members started from"
            raise UserError(f"{pattern} is the base of this population and cannot be a member of it", hint)
        members += [file for file, is_start in zip(found, is_base, strict=True) if not is_start]
        left_out += [file for file, is_start in zip(found, is_base, strict=True) if is_start]
    return PoolFiles(tuple(members), tuple(left_out))


def names_files(pattern: str) -> bool:
    """Whether a name or pattern means any file on this machine."""
    try:
        return bool(find_pool_files([pattern]).members)
    except (FileNotFoundError, UserError):
        return False


def model_file(path: Path) -> Path | None:
    """The path itself if it is a file, the file of the model in a folder that holds one, else None."""
    if path.is_dir():
        return next((file for name in _FOLDER_FILES if (file := path / name).is_file()), None)
    return path if path.is_file() else None


def without_model(folder: Path) -> UserError:
    """The error for a folder that holds no model, with what to do about what it holds."""
    hint = f"expected {_FOLDER_FILES[0]} or {_FOLDER_FILES[2]}, or the .index.json of either; or name the files in it"
    return UserError(f"the folder {folder} holds no model", _other_form(folder) or hint)


def _other_form(folder: Path) -> str:
    """The hint for a folder with weights in another form than a model's, else empty."""
    return next((hint for name, hint in _OTHER_FORMS.items() if any(folder.glob(name))), "")


def as_pattern(file: Path) -> str:
    """The pattern that means a file and nothing else."""
    return re.sub(r"([*?[])", r"[\1]", str(file))


def from_pattern(pattern: str) -> Path:
    """The file of a pattern that `as_pattern` made, whether it is there or not."""
    return Path(re.sub(r"\[([*?[])\]", r"\1", pattern)).absolute()


def _matches(pattern: str, *, missing_too: bool) -> tuple[list[Path], bool]:
    """The files that a name or pattern means, and whether it is a name. Raises FileNotFoundError if there are none.

    What is there under exactly this name is meant; so no folder on the way is a pattern, but what stands in its place.
    """
    folder, rest = _existing_part(pattern)
    if not rest and (missing_too or model_file(folder) or not folder.is_dir()):
        return [model_file(folder) or folder], True
    if not has_magic(rest):
        if missing_too:
            return [folder / rest], True
        raise FileNotFoundError(pattern)
    names = glob(rest, root_dir=folder, recursive=True)  # noqa: PTH207 - Path.glob takes the folder for a pattern
    found = [folder / name for name in sorted(names, key=_natural_order)]
    files = [model_file(path) or path for path in found if model_file(path) or not path.is_dir()]
    unread = [path for path in found if path.is_dir() and not model_file(path)]
    others = [path for path in unread if _other_form(path)] or (unread if not files else [])
    if others:
        raise without_model(others[0])
    if not files:
        raise FileNotFoundError(pattern)
    return files, False


def _is_same(file: Path, base: Path) -> bool:
    """Whether two paths lead to one file; False if either leads nowhere."""
    try:
        return file.samefile(base)
    except OSError:
        return False


def _existing_part(pattern: str) -> tuple[Path, str]:
    """The longest beginning of a pattern that is there under this very name, absolute, and the rest."""
    whole = Path(pattern) if pattern.startswith("./") else expand_home(pattern)  # `./~` is a file of that name
    parts = whole.parts
    folder = Path() if whole.is_absolute() else working_folder()
    for index, part in enumerate(parts):
        if not os.path.lexists(folder / part):
            return folder, str(Path(*parts[index:]))
        folder /= part
    return folder, ""


def _natural_order(name: str) -> list[tuple[int, str]]:
    """A sort key that compares numbers in names as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]

"""What of a sweep is sent to a cluster: its file, its plug-ins, and data and checkpoints with relative paths.

An absolute path, and one with `~`, is a path on the cluster.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePath
from typing import Any

from sweep.config.checkpoint_files import find_pool_files
from sweep.config.spec import ExternalPopulationConfig, Sweep
from sweep.core.causes import is_installed
from sweep.core.errors import UserError
from sweep.core.paths import working_folder
from sweep.core.provenance import code_version, versions
from sweep.execution import job_script

LARGEST_BYTES = 100 * 2**20
"""All files together: Ray keeps them in the memory of the head node, and sends them to every node."""
_PLUGIN = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_OURS = ("sweep", "analysis")
_ON_CLUSTER = "copy it to a folder that all nodes of the cluster see, and name its absolute path there"


class SubmitError(UserError):
    """A sweep that cannot be sent to a cluster."""


def write_job(sweep: Sweep, file: Path, words: Sequence[str], folder: Path) -> None:
    """Write all that a job needs into a folder; `words` follow `sweep run FILE` there. Raises SubmitError."""
    check_storage(sweep)
    files = {file.name: file} | plugin_files(sweep) | data_files(sweep)
    check_size(files)
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    job = {"words": [file.name, *words], "code_version": code_version(), "versions": versions()}
    (folder / job_script.JOB).write_text(json.dumps(job))
    shutil.copyfile(job_script.__file__, folder / job_script.SCRIPT)


def check_storage(sweep: Sweep) -> None:
    """Raise SubmitError unless the run folder lies in a place that does not end with the job."""
    storage = str(sweep.execution.storage)
    if not (storage.startswith(("/", "~")) or _ADDRESS.match(storage)):
        hint = "name a folder that all nodes of the cluster share, such as execution.storage=/shared/runs"
        raise SubmitError(f"execution.storage={storage} is a relative path, and a job has no folder that stays", hint)


def check_size(files: Mapping[str, Path]) -> None:
    """Raise SubmitError if the files are too large to be sent."""
    sizes = {name: source.stat().st_size for name, source in files.items()}
    total = sum(sizes.values())
    if total > LARGEST_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        what = f"{_mib(total)} are to be sent, and at most {_mib(LARGEST_BYTES)} can be"
        raise SubmitError(f"{what}; the largest file is {largest} ({_mib(sizes[largest])})", _ON_CLUSTER)


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.0f} MiB"


def data_files(sweep: Sweep) -> dict[str, Path]:
    """The files that data sets and checkpoints with relative paths mean, by name relative to the working folder."""
    wanted = [
        value
        for config in sweep.datasets
        for value in config.settings.values()
        if isinstance(value, PurePath) and _is_sent(str(value))
    ]
    places = [Path(value) for value in wanted] + list(_checkpoint_places(sweep))
    return {name: file for place in places for name, file in _files_below(place, working_folder())}


def _checkpoint_places(sweep: Sweep) -> Iterator[Path]:
    """The checkpoints that relative names and patterns mean; the whole folder of one that is stored in parts."""
    for population in sweep.populations:
        if not population.files or population.reference:
            continue
        item: Any = sweep.document.values["populations"][population.path[1]]
        keys = {key: item[key] for key in ("checkpoints", "base") if item.get(key) is not None}
        written = ExternalPopulationConfig.model_validate(keys)
        names = [name for pool in written.patterns for name in pool] + [str(written.base or "")]
        for name in filter(None, names):
            if _is_sent(name):
                yield from _matches(name)


def _matches(name: str) -> list[Path]:
    """The files of a name or pattern. Raises SubmitError if there are none."""
    try:
        found = find_pool_files([name]).members
    except FileNotFoundError:
        raise SubmitError(f"no file matches {name}", "absolute paths are those of the cluster") from None
    return [file.parent if file.name.endswith(".index.json") else file for file in found]


def _is_sent(name: str) -> bool:
    """Whether a written path is one of this machine."""
    return not name.startswith(("/", "~"))


def _files_below(place: Path, root: Path) -> Iterator[tuple[str, Path]]:
    """A file, or all files of a folder, with their names relative to the root. Raises SubmitError for one elsewhere."""
    place = Path(os.path.normpath(root / place))
    if not place.is_relative_to(root):
        raise SubmitError(f"{place} does not lie in the working folder, so that it cannot be sent", _ON_CLUSTER)
    if not place.exists():
        raise SubmitError(f"there is no {place}", "absolute paths are those of the cluster")
    files = [place] if place.is_file() else [path for path in sorted(place.rglob("*")) if path.is_file()]
    for file in files:
        if "__pycache__" not in file.parts:
            yield str(file.relative_to(root)), file


def plugin_files(sweep: Sweep) -> dict[str, Path]:
    """The modules of plug-ins that no package manager installed, and the modules beside them that are loaded."""
    names = {module.partition(".")[0] for module in _plugin_modules(sweep.to_config)}
    places = {place for name in names if (place := _place(name))}
    roots = {place.parent for place in places}
    loaded = {name.partition(".")[0] for name in sys.modules} - set(_OURS)
    places |= {place for name in loaded if (place := _place(name)) and place.parent in roots}
    return {name: file for place in sorted(places) for name, file in _files_below(place, place.parent)}


def _plugin_modules(value: Any) -> Iterator[str]:
    """The modules that names of the form `module:function` in a configuration mean."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _plugin_modules(key)
            yield from _plugin_modules(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _plugin_modules(item)
    elif isinstance(value, str) and (found := _PLUGIN.fullmatch(value)) and found[1] in sys.modules:
        yield found[1]


def _place(name: str) -> Path | None:
    """The file or folder of a loaded top-level module; None for one of Python or of an installed package."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if not isinstance(spec, ModuleSpec):
        return None
    folders = list(spec.submodule_search_locations or ())
    place = folders[0] if folders else spec.origin
    if place is None or not os.path.isabs(place) or is_installed(place):  # noqa: PTH117 - `built-in` is no path
        return None
    return Path(place)

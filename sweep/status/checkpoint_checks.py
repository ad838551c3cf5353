"""External checkpoints before a run: whether they fit their networks, what identifies them, and what is left out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sweep.config.document import ConfigError, ConfigIssue, KeyPath
from sweep.config.spec import CheckpointSource, Input, Population, Sweep
from sweep.core.choice import PluginConfig
from sweep.core.dataset import Dataset
from sweep.core.errors import UserError
from sweep.core.hash_cache import cached_digests
from sweep.core.ids import content_id
from sweep.core.text import printable
from sweep.core.weights import ParameterLayout
from sweep.model.build import layout_on_meta
from sweep.status.dataset_info import dataset_info
from sweep.storage.checkpoint_forms import (
    CHECKPOINT_VERSION,
    WeightsDigest,
    checkpoint_digest,
    layout_key,
    read_checkpoint,
)
from sweep.storage.checkpoints import checkpoint_parts
from sweep.storage.files import StoreError, check_regular, file_hash, file_version, is_settled, with_path

_SKIP = "on_bad_member: skip goes on without it"
_Network = tuple[str, PluginConfig, PluginConfig]
"""The weights, architecture and data set of a checkpoint's source."""
_SHOWN = 3  # names that a note lists
_KEPT_VERSION = 3  # of what is kept of a checkpoint: its digest, and which values are NaN or infinite
_NAN = "every merge with it would be NaN: take it out of the pool, or replace it by an earlier checkpoint"


class CheckpointReport(NamedTuple):
    """What was found in a checkpoint: the problem with it, or which weights were taken and what was left out."""

    problem: str
    hint: str
    taken: str = ""
    others: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def checkpoint_fingerprints(sweep: Sweep) -> dict[Input, str]:
    """The hash of the weights that a network takes from each file; the hash of the files themselves if it takes none.

    One that cannot be read is known by its path, so that it alone fails; raises ConfigError with all of them where
    `on_bad_member` is `stop`. Unchanged files are read once, by any process.
    """
    issues: list[ConfigIssue] = []
    found: dict[Input, str] = {}
    readable: dict[_Network, list[CheckpointSource]] = {}
    for population in sweep.populations:
        for source in (each for each in population.checkpoints if each not in found):
            try:
                check_regular(source.file)
                readable.setdefault(source[1:], []).append(source)
            except StoreError as error:
                found[source] = content_id("unreadable", printable(str(source.file)))
                if population.on_bad_member == "stop":
                    path = (*population.path, "checkpoints")
                    issues.append(sweep.document.issue(path, with_path(source.file, error), _SKIP))
    if issues:
        raise ConfigError(issues)
    for network, sources in readable.items():
        digests = _digests(network, [source.file for source in sources])
        found |= {source: digest.value for source, digest in zip(sources, digests, strict=True)}
    return found


def _digests(network: _Network, files: Sequence[Path]) -> list[WeightsDigest]:
    """Digests of files for one network; those of an index are not kept, since its parts may change alone."""
    layout = _network_layout(*network[1:])
    key = layout_key(layout) if layout else None
    kind = content_id("checkpoint", [CHECKPOINT_VERSION, network[0], key, _KEPT_VERSION])

    def digest(file: Path) -> str:
        try:
            source = CheckpointSource(file, *network)
            return str(_once_per_version(_digest, source, layout)) if layout else _files_hash(file)
        except MemoryError:
            raise
        except Exception:  # a file may be damaged in any way
            return _files_hash(file)

    alone = [file for file in files if file.suffix != ".json"]
    kept = dict(zip(alone, cached_digests(alone, kind, digest), strict=True))
    return [WeightsDigest.parse(kept[file] if file in kept else digest(file)) for file in files]


def check_checkpoints(
    population: Population, layout: ParameterLayout, imported: Collection[Path]
) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield (key path, message, hint) for each external checkpoint with a problem.

    It cannot be read, does not fit the network, or holds NaN, as found when it was hashed.
    """
    path = (*population.path, "checkpoints")
    fitting: list[CheckpointSource] = []
    for source in (each for each in population.checkpoints if each.file not in imported):
        report = _report(source, layout)
        if report.problem:
            yield path, report.problem, f"{report.hint}; {_SKIP}" if report.hint else _SKIP
        else:
            fitting.append(source)
    digests = _digests(fitting[0][1:], [source.file for source in fitting]) if fitting else []
    for source, digest in zip(fitting, digests, strict=True):
        if digest.nan:
            yield path, f"{source.file}: {digest.nan}", f"{_NAN}; {_SKIP}"


def checkpoint_notes(
    sweep: Sweep, loaded: Mapping[PluginConfig, Dataset], imported: Collection[Path] = ()
) -> list[str]:
    """What a user should know of checkpoints that fit: weights chosen, tensors left out, bases, infinite weights.

    Checkpoints in `imported` are in the run folder already and are not read.
    """
    notes: list[str] = []
    for population in (each for each in sweep.populations if each.files and not each.reference):
        name = f"population `{population.name}`"
        new = [source for source in population.checkpoints if source.file not in imported]
        if population.left_out and new:
            files = ", ".join(str(file) for file in population.left_out)
            notes.append(f"{name}: {files} is its base and left out of its members")
        layout = layout_on_meta(population.architecture, loaded[population.first_dataset].shape)
        notes += [f"{name}: {note}" for note in _notes([(each.file, _report(each, layout)) for each in new])]
        digests = _digests(new[0][1:], [each.file for each in new]) if new else []
        infinite = [(each.file, one.infinity) for each, one in zip(new, digests, strict=True) if one.infinity]
        notes += [f"{name}: {file}: {text}: merges with it may have no finite outputs" for file, text in infinite]
    return notes


def _notes(reports: Iterable[tuple[Path, CheckpointReport]]) -> Iterator[str]:
    """Yield a line for each choice among weights and each list of tensors left out, with the files that it is about."""
    choices: dict[tuple[str, tuple[str, ...]], list[Path]] = {}
    extras: dict[tuple[str, ...], list[Path]] = {}
    for file, report in reports:
        if report.others:
            choices.setdefault((report.taken, report.others), []).append(file)
        if report.left_out:
            extras.setdefault(report.left_out, []).append(file)
    for (taken, others), files in choices.items():
        every = " and ".join([taken, *others])
        yield f"{_holding(files)} {every}: {taken} is taken; choose with `weights: {others[0]}`"
    for names, files in extras.items():
        shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        count = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
        yield f"{_holding(files)} {count} beside the network, left out here: {shown}{more}"


def _holding(files: list[Path]) -> str:
    return f"{files[0]} holds" if len(files) == 1 else f"{files[0]} and {len(files) - 1} other files hold"


def _report(source: CheckpointSource, layout: ParameterLayout) -> CheckpointReport:
    """What is in a checkpoint for a network."""
    try:
        return _once_per_version(_read_report, source, layout)
    except Exception as error:  # a file may be damaged in any way
        return CheckpointReport(with_path(source.file, error), getattr(error, "hint", ""))


def _read_report(source: CheckpointSource, layout: ParameterLayout) -> CheckpointReport:
    found = read_checkpoint(source.file, layout, source.weights)
    if found.mismatches:
        return CheckpointReport(f"{source.file} does not fit {source.architecture.name}: {found.mismatches}", "")
    return CheckpointReport("", "", found.taken, found.others, found.left_out)


def _digest(source: CheckpointSource, layout: ParameterLayout) -> WeightsDigest:
    return checkpoint_digest(source.file, layout, source.weights)


_Result = TypeVar("_Result", WeightsDigest, CheckpointReport)
_results: dict[tuple[str, CheckpointSource, ParameterLayout], tuple[tuple[object, ...], Any]] = {}


def _once_per_version(
    function: Callable[[CheckpointSource, ParameterLayout], _Result], source: CheckpointSource, layout: ParameterLayout
) -> _Result:
    """The result of a function, kept in this process until one of the checkpoint's files changes."""
    key = function.__name__, source, layout
    check_regular(source.file)
    versions = tuple(file_version(part) for part in checkpoint_parts(source.file))
    known = _results.get(key)
    if known is not None and known[0] == versions:
        found: _Result = known[1]
        return found
    result = function(source, layout)
    if all(is_settled(version) for version in versions):
        _results[key] = versions, result
    return result


def _files_hash(file: Path) -> str:
    """A hash of the files of a checkpoint; of its name if they cannot be read."""
    try:
        parts = checkpoint_parts(file)
        return file_hash(file) if parts == (file,) else content_id("files", [file_hash(part) for part in parts])
    except (OSError, UserError):
        return content_id("unreadable", printable(str(file)))


@functools.cache
def _network_layout(architecture: PluginConfig, dataset: PluginConfig) -> ParameterLayout | None:
    """The layout of a network for the images of a data set; None if either cannot be made, which checks report."""
    try:
        return layout_on_meta(architecture, dataset_info(dataset).shape, pretrained=False)
    except Exception:  # a user's architecture may raise anything
        return None

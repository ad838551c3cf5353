"""What only shows when data sets and networks are made: checked before anything is trained."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from sweep.config.document import ConfigError, ConfigIssue, KeyPath
from sweep.config.spec import Population, Sweep
from sweep.core.choice import PluginConfig
from sweep.core.dataset import DataError, Dataset, load_dataset, unsupported_augmentations
from sweep.core.weights import ParameterLayout
from sweep.model.build import build_on_meta, layout_on_meta
from sweep.model.layout import make_layout, state_dict_mismatches
from sweep.model.tracing import AlignmentError, find_permutations
from sweep.storage.checkpoints import CheckpointError, read_checkpoint
from sweep.storage.files import file_hash
from sweep.training.vmap_trainer import check_vmappable


def fingerprints(sweep: Sweep, absent: Collection[PluginConfig] = ()) -> dict[PluginConfig | Path, str]:
    """The fingerprints of data sets that lie in files, and the hashes of models that were trained elsewhere.

    Raises ConfigError where a data set cannot be used; for those that are known to be absent their settings stand in.
    """
    present = [p for p in sweep.populations if p.dataset not in absent]
    of_files = [p for p in present if any(isinstance(v, PurePath) for v in p.dataset.settings.values())]
    files = dict.fromkeys(file for population in sweep.populations for file in _checkpoint_files(population))
    made = _datasets(sweep, of_files)
    found: dict[PluginConfig | Path, str] = {choice: made[choice].fingerprint for choice in made}
    return found | {choice: choice.settings_json for choice in absent} | {file: file_hash(file) for file in files}


def datasets(sweep: Sweep) -> dict[PluginConfig, Dataset]:
    """Every data set of the sweep. Raises ConfigError where one cannot be used."""
    return _datasets(sweep, list(sweep.populations))


def _datasets(sweep: Sweep, populations: list[Population]) -> dict[PluginConfig, Dataset]:
    found: dict[PluginConfig, Dataset] = {}
    mistakes: list[ConfigIssue] = []
    for population in populations:
        if population.dataset in found:
            continue
        try:
            found[population.dataset] = load_dataset(population.dataset)
        except DataError as error:
            path = _dataset_path(sweep, population)
            mistakes.append(sweep.document.issue(path, f"{population.dataset.name}: {error}", error.hint))
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return found


def _dataset_path(sweep: Sweep, population: Population) -> KeyPath:
    """Where the data set of a population is written: with it, or at the top."""
    own = (*population.path, "dataset")
    return own if own in sweep.document.locations else ("dataset",)


def check_networks(sweep: Sweep, made: Mapping[PluginConfig, Dataset], imported: Collection[Path] = ()) -> None:
    """Build each architecture on the meta device, find its head, and apply each scaling and alignment to its tensors.

    Checkpoints in `imported` are in the run folder already and are not read. Raises ConfigError with all problems.
    """
    mistakes = [sweep.document.issue(*issue) for issue in _network_issues(sweep, made, imported)]
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))


def _network_issues(
    sweep: Sweep, made: Mapping[PluginConfig, Dataset], imported: Collection[Path]
) -> Iterator[tuple[KeyPath, str, str]]:
    for population in sweep.populations:
        dataset = made[population.dataset]
        for key, what, hint in unsupported_augmentations(dataset, population.recipe.model_dump()):
            yield (*population.path, "train", key), what, hint
        try:
            layout = layout_on_meta(population.architecture, dataset.shape)
        except Exception as error:  # a user's architecture may raise anything
            hint = getattr(error, "hint", "") or f"images of {population.dataset.name} have size {dataset.size} here"
            yield (*population.path, "architecture"), f"cannot build {population.architecture.name}: {error}", hint
            continue
        yield from _check_vmap(population, dataset)
        if population.on_bad_member == "stop":
            yield from _check_checkpoints(population, layout, imported)
        for grid in sweep.grids:
            for misfit in _check_scalings(grid.scalings, layout):
                yield (*grid.path, "scalings"), f"{misfit} in {population.architecture.name}", ""
        yield from _check_alignments(sweep, population, dataset)


def _check_vmap(population: Population, dataset: Dataset) -> Iterator[tuple[KeyPath, str, str]]:
    """Why members of a population cannot be trained together where that is asked."""
    architecture = population.architecture
    shape = dataset.shape
    if population.recipe.vmap_members == 1:
        return
    try:
        check_vmappable(lambda: architecture.plugin.function(*shape, **architecture.settings), population.recipe, shape)
    except Exception as error:  # vmap tells with errors of many kinds what it cannot do
        what = f"`{architecture.name}` cannot be trained so: {str(error).partition('. ')[0]}"
        yield (*population.path, "train", "vmap_members"), what, "vmap_members: 1"


def _check_scalings(scalings: Sequence[PluginConfig], layout: ParameterLayout) -> Iterator[ValueError]:
    """What scalings do not find among the tensors; those that look at weights are tried when there are any."""
    provided = {"count": 2, "layout": layout}
    for scaling in scalings:
        if set(scaling.plugin.needs) <= provided.keys():
            try:
                scaling.call(**provided)
            except ValueError as error:
                yield error


def _check_alignments(sweep: Sweep, population: Population, dataset: Dataset) -> Iterator[tuple[KeyPath, str, str]]:
    """Where alignments ask for the permutations of a network whose units cannot be followed."""
    asking = [(grid, each) for grid in sweep.grids for each in grid.alignments if "permutations" in each.plugin.needs]
    if not asking:
        return
    architecture = population.architecture
    shape = dataset.shape
    try:
        model = build_on_meta(architecture.plugin.function, shape, architecture.settings)
        find_permutations(model, make_layout(model, shape[0]), *shape[1:])
    except AlignmentError as error:
        for grid, each in asking:
            what = f"`{each.name}` cannot align {architecture.name}: {error}"
            yield (*grid.path, "alignments"), what, error.hint


def _check_checkpoints(
    population: Population, layout: ParameterLayout, imported: Collection[Path]
) -> Iterator[tuple[KeyPath, str, str]]:
    """External checkpoints that cannot be read or do not fit the architecture."""
    for file in [each for each in _checkpoint_files(population) if each not in imported]:
        try:
            problems = state_dict_mismatches(read_checkpoint(file), layout)
        except CheckpointError as error:
            skip = "on_bad_member: skip goes on without it"
            yield (*population.path, "checkpoints"), str(error), f"{error.hint}; {skip}" if error.hint else skip
            continue
        if problems:
            what = f"{file} does not fit {population.architecture.name}: {'; '.join(problems[:3])}"
            yield (*population.path, "checkpoints"), what, "on_bad_member: skip goes on without it"


def _checkpoint_files(population: Population) -> list[Path]:
    """The external checkpoints of a population: its members, then its base."""
    files = [file for pool in population.files for file in pool]
    return [*files, population.base] if population.base else files

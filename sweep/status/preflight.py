"""Checks that need data sets and networks, made before any training starts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from sweep.config.document import ConfigError, ConfigIssue, KeyPath
from sweep.config.spec import Grid, Input, Population, Sweep
from sweep.core.causes import own_place
from sweep.core.choice import PluginConfig
from sweep.core.dataset import DataError, Dataset, load_dataset, unsupported_augmentations
from sweep.core.paths import PathError
from sweep.core.weights import ParameterLayout, TensorCombination, tensor_basis
from sweep.model.build import build_on_meta, layout_on_meta
from sweep.model.layout import make_layout
from sweep.model.tracing import AlignmentError, find_permutations
from sweep.model.trial import TrialError
from sweep.plan.pools import make_pools
from sweep.status.checkpoint_checks import check_checkpoints, checkpoint_fingerprints
from sweep.training.freezing import freeze_problems
from sweep.training.vmap_trainer import check_vmappable

_SKIP = "on_bad_member: skip goes on without it"


def fingerprints(sweep: Sweep, absent: Collection[PluginConfig] = ()) -> dict[Input, str]:
    """Fingerprints of the data sets that are read from files, and of the external checkpoints.

    The fingerprint of a data set in `absent` is its settings. Raises ConfigError if a data set cannot be used.
    """
    present = [p for p in sweep.populations if p.dataset not in absent]
    with_files = [p for p in present if any(isinstance(v, PurePath) for v in p.dataset.settings.values())]
    fingerprint_of: dict[Input, str] = {
        config: dataset.fingerprint for config, dataset in _datasets(sweep, with_files).items()
    }
    fingerprint_of |= {config: config.settings_json for config in absent}
    return fingerprint_of | checkpoint_fingerprints(sweep)


def datasets(sweep: Sweep) -> dict[PluginConfig, Dataset]:
    """Load every data set of the sweep. Raises ConfigError if one cannot be used."""
    return _datasets(sweep, list(sweep.populations))


def _datasets(sweep: Sweep, populations: list[Population]) -> dict[PluginConfig, Dataset]:
    loaded: dict[PluginConfig, Dataset] = {}
    issues: list[ConfigIssue] = []
    for population, config in ((each, config) for each in populations for config in each.datasets):
        if config in loaded:
            continue
        try:
            loaded[config] = load_dataset(config)
        except (DataError, PathError) as error:
            path = _dataset_path(sweep, population)
            issues.append(sweep.document.issue(path, f"{population.dataset.name}: {error}", error.hint))
    if issues:
        raise ConfigError(list(dict.fromkeys(issues)))
    return loaded


def _dataset_path(sweep: Sweep, population: Population) -> KeyPath:
    """The configuration key that sets the data set of a population: its own, or the one at the top level."""
    own_path = (*population.path, "dataset")
    return own_path if own_path in sweep.document.locations else ("dataset",)


def check_networks(sweep: Sweep, loaded: Mapping[PluginConfig, Dataset], imported: Collection[Path] = ()) -> None:
    """Try a forward pass of each architecture, find its head, and apply each scaling and alignment to its tensors.

    Checkpoints in `imported` are in the run folder already and are not read. Raises ConfigError with all problems.
    """
    issues = [sweep.document.issue(*issue) for issue in _network_issues(sweep, loaded, imported)]
    if issues:
        raise ConfigError(list(dict.fromkeys(issues)))


def check_pools(sweep: Sweep) -> None:
    """Raise ConfigError if two pools are the same, or if a pool of checkpoints holds the same model twice."""
    make_pools(sweep, fingerprints(sweep))


def _network_issues(
    sweep: Sweep, loaded: Mapping[PluginConfig, Dataset], imported: Collection[Path]
) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield (key path, message, hint) for each problem of a network, its scalings, alignments and checkpoints."""
    for population in sweep.populations:
        dataset = loaded[population.first_dataset]
        for key, message, hint in unsupported_augmentations(dataset, population.recipe.model_dump()):
            yield (*population.path, "train", key), message, hint
        try:
            layout = layout_on_meta(population.architecture, dataset.shape)
        except Exception as error:  # a user's architecture may raise anything
            hint = getattr(error, "hint", "") or f"images of {population.dataset.name} have size {dataset.size} here"
            name = population.architecture.name
            what = f"`{name}` {error}" if isinstance(error, TrialError) else f"cannot build {name}: {_text(error)}"
            yield (*population.path, "architecture"), " ".join(what.split()), hint
            continue
        for what, hint in freeze_problems(population.recipe, layout):
            yield (*population.path, "train", "freeze"), f"{what} in {population.architecture.name}", hint
        yield from _check_vmap(population, dataset)
        if population.on_bad_member == "stop":
            yield from check_checkpoints(population, layout, imported)
        for path, problem in _check_grids(sweep.grids, layout):
            yield path, f"{problem} in {population.architecture.name}", ""
        yield from _check_alignments(sweep, population, dataset)


def _check_vmap(population: Population, dataset: Dataset) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield a problem if `vmap_members` is set and the architecture cannot be trained under `torch.func.vmap`."""
    architecture = population.architecture
    shape = dataset.shape
    if population.recipe.vmap_members == 1:
        return
    try:
        check_vmappable(lambda: architecture.plugin.function(*shape, **architecture.settings), population.recipe, shape)
    except Exception as error:  # vmap raises errors of many types for unsupported operations
        message = f"`{architecture.name}` cannot be trained so: {_text(error).partition('. ')[0]}"
        yield (*population.path, "train", "vmap_members"), message, "vmap_members: 1"


def _text(error: Exception) -> str:
    """The text of an error, after the file and line of a user's own code if it began there."""
    place = own_place(error)
    return f"{place}: {type(error).__name__}: {error}" if place else str(error)


def _check_grids(grids: Sequence[Grid], layout: ParameterLayout) -> Iterator[tuple[KeyPath, ValueError]]:
    """Yield (key path, error) for scalings and methods that cannot act on the layout."""
    for grid in grids:
        for problem in _check_scalings(grid.scalings, layout):
            yield (*grid.path, "scalings"), problem
        for problem in _check_methods(grid, layout):
            yield (*grid.path, "methods"), problem


def _check_scalings(scalings: Sequence[PluginConfig], layout: ParameterLayout) -> Iterator[ValueError]:
    """Yield an error for each scaling that the layout lacks tensors for; scalings that need weights are not checked."""
    provided = {"count": 2, "layout": layout}
    for scaling in scalings:
        if set(scaling.plugin.needs) <= provided.keys():
            try:
                scaling.call(**provided)
            except ValueError as error:
                yield error


def _check_methods(grid: Grid, layout: ParameterLayout) -> Iterator[ValueError]:
    """Yield an error for each method with coefficients of tensors that cannot merge subsets of this grid."""
    for method in grid.methods:
        sizes = [method.plugin.arity] if method.plugin.arity else grid.subsets.n_members
        is_asked = method.plugin.hints.get("return") is TensorCombination
        for size in sizes if is_asked else ():
            try:
                method.call(**tensor_basis(layout, size, has_base=True))
            except ValueError as error:
                yield error


def _check_alignments(sweep: Sweep, population: Population, dataset: Dataset) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield a problem for each alignment that needs permutations if those of the network cannot be found."""
    alignments = [
        (grid, alignment)
        for grid in sweep.grids
        for alignment in grid.alignments
        if "permutations" in alignment.plugin.needs
    ]
    if not alignments:
        return
    architecture = population.architecture
    shape = dataset.shape
    try:
        model = build_on_meta(architecture.plugin.function, shape, architecture.settings)
        find_permutations(model, make_layout(model, shape[0]), *shape[1:])
    except AlignmentError as error:
        for grid, alignment in alignments:
            message = f"`{alignment.name}` cannot align {architecture.name}: {error}"
            yield (*grid.path, "alignments"), message, error.hint

"""YAML -> a validated Sweep. All errors are reported at once, each with its location and a hint."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from sweep.config.checkpoint_files import (
    PoolFiles,
    find_pool_files,
    from_pattern,
    model_file,
    names_files,
    without_model,
)
from sweep.config.claim_names import unknown_claims
from sweep.config.conflicts import grid_conflicts, population_conflicts
from sweep.config.defaults import plugin_defaults, with_defaults
from sweep.config.document import ANCHORS, ConfigError, ConfigIssue, Document, KeyPath, override, read_document
from sweep.config.expansion import parse_choices, parse_grid, parse_one
from sweep.config.naming import duplicate_populations, unique_names
from sweep.config.protocols import parse_protocols, retrained_populations
from sweep.config.recipe import Recipe
from sweep.config.renamed import rename_keys, renamed_keys
from sweep.config.spec import (
    ExternalPopulationConfig,
    Grid,
    Population,
    PopulationConfig,
    SeedGrid,
    Settings,
    Subsets,
    Sweep,
)
from sweep.core.choice import PluginConfig
from sweep.core.errors import UserError
from sweep.core.paths import expand
from sweep.core.protocol import CORRECT
from sweep.core.registry import list_plugins
from sweep.core.text import did_you_mean, show

Item = TypeVar("Item")
Model = TypeVar("Model", bound=BaseModel)

_DEFAULTS: dict[str, Any] = {
    "subsets": {},
    "methods": ["uniform_soup", "logit_average", "feature_average"],
    "alignments": "none",
    "scalings": "none",
    "repairs": "none",
    "protocols": CORRECT,
}
_OF_GRID = tuple(_DEFAULTS)
_GRID_EXAMPLE = "- {subsets: {pairs: all}, methods: uniform_soup}"
_OF_POPULATION = frozenset({"architecture", "dataset", "start", "new_heads", "vary_split", "pools", "members", "train"})
_BROADCAST = _OF_POPULATION - {"dataset"}
"""Keys that an override such as `train.epochs=2` sets in every population."""


def load(
    file: str | Path,
    overrides: Sequence[str] = (),
    *,
    accept_renamed: bool = False,
    accept_missing: bool = False,
    elsewhere: bool = False,
) -> Sweep:
    """The sweep in a YAML file, with `key.path=value` overrides.

    Raises ConfigError with every issue: file, line, column, key path, message and hint. `accept_renamed` also reads
    the earlier names of keys, for the `sweep.yaml` of older run folders. `accept_missing` also reads the names of
    checkpoints that are gone, since the run folder holds their weights, and of claims that another version had.
    `elsewhere` is for a sweep that runs on other machines: checkpoints with absolute paths may be missing here, and
    sizes of subsets are then checked there.
    """
    document = read_document(Path(file))
    if accept_renamed:
        rename_keys(document)
    override(document, overrides, _BROADCAST)
    return check(document, accept_missing=accept_missing, elsewhere=elsewhere)


def check(document: Document, *, accept_missing: bool = False, elsewhere: bool = False) -> Sweep:
    """The sweep in a document; `accept_missing` and `elsewhere` as in `load`. Raises ConfigError with every issue."""
    issues = list(renamed_keys(document))
    if issues:
        raise ConfigError(issues)
    reader = _Reader(document, accept_missing=accept_missing, elsewhere=elsewhere)
    values = document.values
    written = {key: value for key, value in values.items() if not key.startswith(ANCHORS)}
    top_level = [*Settings.model_fields, "dataset", "populations", "metrics", "grids", *_OF_GRID]
    reader.unknown(written, (), top_level, f"; a key that begins with `{ANCHORS}` is a place for anchors")
    own = {key: value for key, value in values.items() if key in Settings.model_fields}
    settings = reader.one(Settings, own, ())
    claims = [] if accept_missing else unknown_claims([name for each in settings for name in each.claims or ()])
    reader.issues += [document.issue(*claim) for claim in claims]
    metrics = reader.choices("metrics", values.get("metrics", list_plugins("metrics")), ("metrics",))
    populations = reader.populations(values)
    grids = reader.grids(values)
    reader.stop()
    every = tuple(retrained_populations(populations, grids))
    sweep = Sweep(settings[0], every, tuple(grids), tuple(metric.name for metric in metrics), document)
    for grid in grids if not reader.n_unseen else ():
        for path, what, hint in grid_conflicts(grid, populations):
            reader.issues.append(document.issue(_written_path(path, document), what, hint))
    reader.stop()
    return sweep


class _Reader:
    """Reads the parts of a document and collects their issues."""

    def __init__(self, document: Document, *, accept_missing: bool, elsewhere: bool) -> None:
        self.document = document
        self.accept_missing = accept_missing
        self.elsewhere = elsewhere
        self.n_unseen = 0
        """How many names and patterns lead to nothing here, and are those of other machines."""
        self.issues: list[ConfigIssue] = []

    def attempt(self, make: Callable[[], list[Item]]) -> list[Item]:
        """The result of `make`; an empty list if it raises ConfigError, whose issues are collected."""
        try:
            return make()
        except ConfigError as error:
            self.issues += error.issues
            return []

    def choices(self, kind: str, value: Any, path: KeyPath) -> list[PluginConfig]:
        """The plug-in configurations of a value."""
        return self.attempt(lambda: parse_choices(kind, value, path, self.document))

    def models(
        self, model: type[BaseModel], values: Any, path: KeyPath, completed: Callable[..., Any] = dict
    ) -> list[Any]:
        """Every instance of a model for settings with lists."""
        return self.attempt(lambda: parse_grid(model, values, path, self.document, completed))

    def one(self, model: type[Model], values: Any, path: KeyPath) -> list[Model]:
        """The instance of a model for settings without a grid, in a list; empty if they are invalid."""
        return self.attempt(lambda: [parse_one(model, values, path, self.document)])

    def grids(self, values: Mapping[str, Any]) -> list[Grid]:
        """The grids: those under `grids`, each with the top-level keys as defaults, else the top-level one."""
        items = values.get("grids", [{}])
        if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
            self.issues.append(self.document.issue(("grids",), "expected a list of mappings", _GRID_EXAMPLE))
            return []
        for key in _OF_GRID:
            if key in values and all(key in item for item in items):
                what = "no grid reads this: each has its own"
                self.issues.append(self.document.issue((key,), what, f"set grids.0.{key} and so on"))
        return [grid for index, item in enumerate(items) for grid in self.grid(item, index, values)]

    def grid(self, item: Mapping[str, Any], index: int, values: Mapping[str, Any]) -> list[Grid]:
        """One grid in a list; empty if it has an issue."""
        self.unknown(item, ("grids", index), [*_OF_GRID])
        found: dict[str, tuple[Any, KeyPath]] = {}
        for key in _OF_GRID:
            own = key in item
            found[key] = (item if own else values).get(key, _DEFAULTS[key]), ("grids", index, key) if own else (key,)
        before = len(self.issues)
        subsets = self.one(Subsets, *found.pop("subsets"))
        audit, here = found.pop("protocols")
        protocols = self.attempt(lambda: parse_protocols(audit, here, self.document))
        sets = {key: tuple(self.choices(key, *where)) for key, where in found.items()}
        path: KeyPath = ("grids", index) if item else ()
        return [Grid(subsets[0], **sets, protocols=tuple(protocols), path=path)] if len(self.issues) == before else []

    def unknown(self, values: Mapping[str, Any], path: KeyPath, known: list[str], more: str = "") -> None:
        """Collect an issue for every key that is not known; `more` ends the hint for one that is like no other."""
        for key in values:
            if key not in known:
                hint = did_you_mean(str(key), known)
                hint += "" if hint.startswith("did") else more
                self.issues.append(self.document.issue((*path, key), "unknown key", hint))

    def populations(self, values: Mapping[str, Any]) -> list[Population]:
        """The populations of all items, with unique names."""
        items = values.get("populations")
        if not isinstance(items, list) or not items:
            what = "expected a list of populations" if "populations" in values else "`populations` is missing"
            self.issues.append(self.document.issue(("populations",), what, "- {architecture: cnn, members: 8}"))
            return []
        found = [p for index, item in enumerate(items) for p in self.population(item, index, values)]
        for path, what in duplicate_populations(found):
            self.issues.append(self.document.issue(path, what))
        conflicts = [conflict for each in found if not each.files for conflict in population_conflicts(each)]
        self.issues += [self.document.issue(*conflict) for conflict in conflicts]
        return unique_names(found)

    def population(self, item: Any, index: int, values: Mapping[str, Any]) -> Iterator[Population]:
        """Every population of one item: architectures × data sets × sizes × recipes."""
        path: KeyPath = ("populations", index)
        if not isinstance(item, dict):
            self.issues.append(self.document.issue(path, f"expected a mapping, got {show(item)}"))
            return
        keys = ExternalPopulationConfig if "checkpoints" in item else PopulationConfig
        own = ["train"] if keys is PopulationConfig else []
        self.unknown(item, path, [*keys.model_fields, "architecture", "dataset", *own])
        here: KeyPath = (*path, "dataset") if "dataset" in item else ("dataset",)
        if "architecture" not in item:
            known = ", ".join(list_plugins("architectures"))
            self.issues.append(self.document.issue(path, "`architecture` is missing", f"known: {known}"))
        architecture = self.choices("architectures", item.get("architecture", "linear"), (*path, "architecture"))
        dataset = self.choices("datasets", item.get("dataset", values.get("dataset", "digits")), here)
        about = {key: value for key, value in item.items() if key in keys.model_fields}
        if keys is ExternalPopulationConfig:
            for source in self.one(ExternalPopulationConfig, about, path):
                yield from self.external(source, path, itertools.product(architecture, dataset))
            return
        sizes = self.sizes(about, path)
        train = item.get("train") or {}
        if not architecture or not dataset:  # their default number of epochs is unknown: check `train` without it
            self.recipes(train, {"epochs": 1_000_000}, path)
        for model, data in itertools.product(architecture, dataset):
            recipes = self.recipes(train, plugin_defaults(model, data), path)
            for (group, crossing), recipe in itertools.product(sizes, recipes):
                members = crossing.init * crossing.order if crossing else group.members
                one = Population(group.name or "", model, data, group.start, group.pools, members, recipe, path)
                yield replace(one, new_heads=group.new_heads, vary_split=group.vary_split, seed_grid=crossing)

    def sizes(self, about: Mapping[str, Any], path: KeyPath) -> list[tuple[PopulationConfig, SeedGrid | None]]:
        """The sizes of an item, each with its grid of seeds if `members` is a mapping of seeds."""
        members = about.get("members")
        if not isinstance(members, dict) or "from" in members:
            return [(size, None) for size in self.models(PopulationConfig, about, path)]
        rest = {key: value for key, value in about.items() if key != "members"}
        crossings = self.models(SeedGrid, members, (*path, "members"))
        return list(itertools.product(self.models(PopulationConfig, rest, path), crossings))

    def recipes(self, train: Any, defaults: Mapping[str, Any], path: KeyPath) -> list[Recipe]:
        """The recipes of an item for one architecture and data set, whose defaults fill in missing settings."""
        if not self.one(Recipe, defaults, (*path, "architecture", "RECIPE")):
            return []
        return self.models(Recipe, train, (*path, "train"), lambda wanted: with_defaults(wanted, defaults))

    def external(
        self, source: ExternalPopulationConfig, path: KeyPath, grid: Iterable[tuple[PluginConfig, PluginConfig]]
    ) -> Iterator[Population]:
        """The populations of external models; `members` is the size of the smallest pool."""
        base = self.base(source, path)
        try:
            found = [self.files(patterns, base, source) for patterns in source.patterns]
        except FileNotFoundError as error:
            self.issues.append(self.document.issue((*path, "checkpoints"), *_no_file(error.args[0])))
            return
        except UserError as error:
            self.issues.append(self.document.issue((*path, "checkpoints"), str(error), error.hint))
            return
        files = tuple(pool.members for pool in found)
        start = "shared" if base else "unknown"
        smallest = min(map(len, files))
        left_out = tuple(dict.fromkeys(file for pool in found for file in pool.left_out))
        for model, data in grid:
            one = Population(source.name or "", model, data, start, len(files), smallest, Recipe(), path)
            one = replace(one, files=files, base=base, left_out=left_out)
            yield replace(one, weights=source.weights or "", on_bad_member=source.on_bad_member)

    def base(self, source: ExternalPopulationConfig, path: KeyPath) -> Path | None:
        """The file of the base, absolute; an issue if it is not there."""
        if source.base is None:
            return None
        base = expand(source.base)
        file = model_file(base)
        if file is None and not self.accept_missing and not self.is_unseen(str(source.base)):
            self.issues.append(self.document.issue((*path, "base"), *_no_file(str(base))))
        return file or base

    def files(self, patterns: Sequence[str], base: Path | None, source: ExternalPopulationConfig) -> PoolFiles:
        """The files of one pool; a run folder holds names alone. Raises FileNotFoundError and UserError."""
        if self.accept_missing:
            return PoolFiles(tuple(from_pattern(name) for name in patterns))
        if any(map(self.is_unseen, patterns)):
            return PoolFiles(tuple(expand(name) for name in patterns))
        return find_pool_files(patterns, base, missing_too=source.on_bad_member == "skip")

    def is_unseen(self, pattern: str) -> bool:
        """Whether a name or pattern is one of other machines, where the sweep runs."""
        if not self.elsewhere or not pattern.startswith(("/", "~")) or names_files(pattern):
            return False
        self.n_unseen += 1
        return True

    def stop(self) -> None:
        """Raise ConfigError if there is any issue."""
        if self.issues:
            raise ConfigError(list(dict.fromkeys(self.issues)))


def _written_path(path: KeyPath, document: Document) -> KeyPath:
    """The key path under which a key of a grid is written: in the grid, or at the top level for all grids."""
    return path[2:] if path[:1] == ("grids",) and path[:3] not in document.locations else path


def _no_file(name: str) -> tuple[str, str]:
    """The message for a missing checkpoint, and a hint if there is a folder of that name."""
    folder = expand(name)
    if folder.is_dir():
        error = without_model(folder)
        return str(error), error.hint
    return f"no file {name}", ""

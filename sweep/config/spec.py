"""A checked sweep: its populations, grids and settings, with every default and every grid of settings resolved."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from sweep.config.checkpoint_files import as_pattern
from sweep.config.defaults import plugin_defaults
from sweep.config.document import Document, KeyPath, dump
from sweep.config.margins import Margins, as_margins, shortest
from sweep.config.recipe import Recipe
from sweep.core.choice import PluginConfig
from sweep.core.ids import canonical_json, content_id
from sweep.core.masking import mask_all
from sweep.core.paths import PathError, expand, expand_home
from sweep.core.protocol import CORRECT_PROTOCOL, EvalProtocol
from sweep.core.registry import get_plugin, list_plugins
from sweep.core.settings import SettingsModel
from sweep.core.text import show

LONGEST_NAME = 100
Count = Annotated[int, Ge(1), Le(1_000_000)]
PoolSize = Annotated[int, Ge(1), Le(10_000)]
"""Pools of a population, or members of a pool."""
Processes = Annotated[int, Ge(1), Le(10_000)]
Gpus = Annotated[float, Ge(0), Le(1000)]


def _check_unique(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values or len(set(values)) < len(values):
        raise ValueError("expected one or more values without repetition")
    return values


def _name_check(pattern: str, expected: str) -> AfterValidator:
    """The check of a name against a pattern; its ValueError says what is expected."""

    def check(name: str) -> str:
        if not re.fullmatch(pattern, name):
            raise ValueError(f"expected {expected}, got {show(name)}")
        return name

    return AfterValidator(check)


# All claims are Python files.
ClaimName = Annotated[str, _name_check(r"[a-z][a-z0-9_]{0,99}", "a name of `analysis ls`, lower case with `_`")]
# The name of the run folder and of the experiment in MLflow.
SweepName = Annotated[
    str,
    _name_check(
        r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
        "1 to 64 of A-Z, a-z, 0-9, `_`, `.` and `-`, first a letter or digit",
    ),
]
PopulationName = Annotated[
    str,
    _name_check(rf"[^/\x00-\x1f]{{1,{LONGEST_NAME}}}", f"1 to {LONGEST_NAME} characters without `/` and line breaks"),
]


def _check_home(path: Path) -> Path:
    """The path as it is. Raises ValueError if it begins with the home folder of a user that is not known here."""
    try:
        expand_home(path)
    except PathError as error:
        raise ValueError(f"{error}; {error.hint}") from None
    return path


Place = Annotated[Path, AfterValidator(_check_home)]


class Subsets(SettingsModel):
    """The subsets of members to merge: random subsets per size, pairs, and prefixes of the pool."""

    sizes: tuple[Count, ...] = ()
    per_size: Count = 20
    pairs: Literal["all"] | Annotated[int, Ge(0), Le(1_000_000)] = 0
    prefixes: tuple[Count, ...] = ()
    seed: int = 0

    @property
    def n_members(self) -> list[int]:
        """The numbers of members of the subsets, ascending."""
        return sorted({*self.sizes, *self.prefixes} | ({2} if self.pairs else set()))


class Execution(SettingsModel):
    """How the sweep is executed; no setting here enters an id."""

    storage: Place = Path("runs")
    workers: Literal["auto"] | Processes = "auto"
    threads: Processes = 1
    gpus_per_member: Gpus = 0.0
    gpus_per_worker: Gpus = 0.0
    eval_batch_size: Literal["auto"] | Count = 128  # auto: tuned once per network and run
    mmap_bytes: Annotated[int, Ge(0)] = 2 * 1024**3  # larger pools are memory-mapped from a cache file on each node
    block_size: Annotated[int, Ge(1), Le(100_000)] = 64
    retries: Annotated[int, Ge(0), Le(1000)] = 2
    checkpoint_seconds: Annotated[float, Ge(0), Le(1e9)] = 30.0
    ray_address: str | None = None
    mixed_nodes: bool = False  # workers may have other processors, GPUs, CUDA or torch; `tasks` records which
    wait_seconds: Annotated[float, Gt(0), Le(1e9)] = 3600.0  # after so long without a node with room, a run ends
    straggler_seconds: Annotated[float, Gt(0), Le(1e9)] = 60.0  # a block or training is never a straggler before this
    probabilities: bool = False  # rows also store log-probabilities for calibration, 2 bytes per example and class
    member_pairs: bool = True  # every two members of a pool are compared: n (n - 1) / 2 rows of the table `pairs`
    mlflow: bool = True
    mlflow_models: Annotated[int, Ge(0), Le(100)] = 3


class Settings(SettingsModel):
    """The keys of a sweep whose values are not plug-ins."""

    name: SweepName
    seed: Annotated[int, Ge(0)] = 0
    splits: Annotated[tuple[Literal["test", "validation"], ...], AfterValidator(_check_unique)] = ("test",)
    inspect: Annotated[tuple[Literal["layers", "templates"], ...], AfterValidator(_check_unique)] | None = None
    """Tables that describe the weights of members and soups; none by default."""
    margin: Annotated[Margins, BeforeValidator(as_margins), PlainSerializer(shortest)] = Margins()
    """Smallest differences that matter to the claims of `analysis`: a number, for accuracy, or one for each kind of
    quantity; the run does not use them."""
    pools_planned: PoolSize | None = None
    """Pools per population after which claims are judged at the full level; looks before that have small levels."""
    claims: Annotated[tuple[ClaimName, ...], AfterValidator(_check_unique)] | None = None
    """Claims that `analysis` confirms as one family; all others are exploratory. By default it confirms all claims."""
    execution: Execution = Execution()


class PopulationConfig(SettingsModel):
    """The keys of a population whose values are not plug-ins."""

    name: PopulationName | None = None
    start: Literal["shared", "scratch", "pretrained"] = "shared"
    new_heads: bool = False
    """Whether each member of a pretrained start gets a freshly drawn head, from its own init seed."""
    vary_split: bool = False
    """Whether each pool has another cut of training and validation data; the test set is one for all."""
    pools: PoolSize = 1
    members: PoolSize = 10


class SeedGrid(SettingsModel):
    """`members` as a mapping: one member for each combination of initialization and data order.

    The member with initialization i and order j has index i × `order` + j.
    """

    init: PoolSize = 1
    order: PoolSize = 1


class ExternalPopulationConfig(SettingsModel):
    """The keys of a population of external checkpoints.

    `checkpoints` is a file pattern, a list of files or patterns, or one such list per pool. `weights` names one of
    several sets of weights in a file, such as `state_dict_ema`; `ema` means averaged weights of any usual name.
    """

    name: PopulationName | None = None
    checkpoints: str | tuple[str, ...] | tuple[tuple[str, ...], ...]
    base: Place | None = None
    weights: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)] | None = None
    on_bad_member: Literal["skip", "stop"] = "stop"

    @property
    def patterns(self) -> tuple[tuple[str, ...], ...]:
        """The files or patterns of each pool."""
        if isinstance(self.checkpoints, str):
            return ((self.checkpoints,),)
        nested = tuple(entry if isinstance(entry, tuple) else (entry,) for entry in self.checkpoints)
        is_one_pool = all(isinstance(entry, str) for entry in self.checkpoints)
        return (tuple(itertools.chain.from_iterable(nested)),) if is_one_pool else nested


class CheckpointSource(NamedTuple):
    """The weights that a network takes from a file."""

    file: Path
    weights: str
    architecture: PluginConfig
    dataset: PluginConfig


Input = PluginConfig | CheckpointSource
"""What a sweep reads from files: a data set or a checkpoint. Fingerprints are mapped by it."""


def input_key(source: Input) -> str:
    """The text under which a data set or a checkpoint can be recorded."""
    if isinstance(source, PluginConfig):
        return f"{source.name} {source.settings_json}"
    file = os.fsencode(source.file).decode("utf-8", "backslashreplace")
    return canonical_json([file, source.weights, input_key(source.architecture), input_key(source.dataset)])


@dataclass(frozen=True)
class Population:
    """Models of one recipe, or external checkpoints, in pools; only members of one pool are merged."""

    name: str
    architecture: PluginConfig
    dataset: PluginConfig
    start: str
    pools: int
    members: int
    recipe: Recipe
    path: KeyPath
    files: tuple[tuple[Path, ...], ...] = ()  # external checkpoints of each pool; empty if members are trained
    base: Path | None = None
    left_out: tuple[Path, ...] = ()  # files of its patterns that are its base, and so no members
    weights: str = ""  # which of several sets of weights in a checkpoint; empty: those as trained
    on_bad_member: str = "stop"
    new_heads: bool = False
    vary_split: bool = False  # another cut of training and validation data in each pool
    seed_grid: SeedGrid | None = None  # set if members combine initializations with data orders
    protocol: EvalProtocol = CORRECT_PROTOCOL  # the defects with which it is trained
    reference: Population | None = None  # the correct population that it is compared with

    def checkpoint(self, file: Path) -> CheckpointSource:
        """The weights in a file for the network of this population."""
        return CheckpointSource(file, self.weights, self.architecture, self.dataset)

    @property
    def checkpoints(self) -> list[CheckpointSource]:
        """All external checkpoints, each once: of its members, then of its base."""
        files = [file for pool in self.files for file in pool]
        return [self.checkpoint(file) for file in dict.fromkeys([*files, *([self.base] if self.base else [])])]

    def in_pool(self, pool: int) -> Population:
        """The population with the data of one pool: with `vary_split`, `split` is larger by the pool's number."""
        if not self.vary_split:
            return self
        settings = self.dataset.settings | {"split": (self.dataset.settings["split"] or 0) + pool}
        return replace(self, dataset=replace(self.dataset, settings=settings))

    @property
    def datasets(self) -> list[PluginConfig]:
        """The data sets of its pools, each once."""
        return [self.in_pool(pool).dataset for pool in range(self.pools if self.vary_split else 1)]

    @property
    def first_dataset(self) -> PluginConfig:
        """The data set of its first pool; those of the others have the same classes, shape, sizes and test images."""
        return self.in_pool(0).dataset

    @property
    def has_base(self) -> bool:
        """Whether its members start from common weights, which methods may use as `base`."""
        return self.start in ("shared", "pretrained")

    @property
    def id_content(self) -> dict[str, Any]:
        """The content that enters ids: neither the number of pools and members nor unused settings."""
        return {
            "architecture": self.architecture.id_content,
            "dataset": self.dataset.id_content,
            "start": self.start,
            "train": self.recipe.id_content,
            **({"own_heads": True} if self.new_heads else {}),
            **({"vary_split": True} if self.vary_split else {}),
            **({"members": "crossed"} if self.seed_grid else {}),
            **({"protocol": self.protocol.id_content} if self.reference else {}),
        }

    @property
    def to_config(self) -> dict[str, Any]:
        """The population as a configuration writes it."""
        plugins = {"architecture": self.architecture.to_config, "dataset": self.dataset.to_config}
        if self.files:
            base = {"base": str(self.base)} if self.base else {}
            weights = {"weights": self.weights} if self.weights else {}
            files = [[as_pattern(file) for file in pool] for pool in self.files]
            more = {**base, **weights, "on_bad_member": self.on_bad_member}
            return {"name": self.name, "checkpoints": files, **more, **plugins}
        members = self.seed_grid.model_dump() if self.seed_grid else self.members
        flags = {key: True for key in ("new_heads", "vary_split") if getattr(self, key)}
        size = {"start": self.start, **flags, "pools": self.pools, "members": members}
        stated = plugin_defaults(self.architecture, self.dataset)
        return {"name": self.name, **plugins, **size, "train": self.recipe.to_config(stated)}


@dataclass(frozen=True)
class Grid:
    """A full factorial design: every subset × alignment × method × scaling × repair × protocol."""

    subsets: Subsets
    methods: tuple[PluginConfig, ...]
    alignments: tuple[PluginConfig, ...]
    scalings: tuple[PluginConfig, ...]
    repairs: tuple[PluginConfig, ...]
    protocols: tuple[EvalProtocol, ...] = (CORRECT_PROTOCOL,)
    path: KeyPath = ()

    @property
    def to_config(self) -> dict[str, Any]:
        """The grid as a configuration writes it."""
        plugins = {
            "methods": self.methods,
            "alignments": self.alignments,
            "scalings": self.scalings,
            "repairs": self.repairs,
        }
        axes = {key: [config.to_config for config in configs] for key, configs in plugins.items()}
        has_protocols = self.protocols != (CORRECT_PROTOCOL,)
        protocols = {"protocols": [protocol.to_config for protocol in self.protocols]} if has_protocols else {}
        return {"subsets": self.subsets.model_dump(mode="json"), **axes, **protocols}


def metric_id(name: str) -> str:
    """The name of a metric in ids and in run.json: the `RECORDED_AS` of its file, else its own."""
    return str(get_plugin("metrics", name).constant("RECORDED_AS") or name)


def metric_name(identity: str) -> str:
    """The metric that ids and run.json call by this name."""
    return next((name for name in list_plugins("metrics") if metric_id(name) == identity), identity)


@dataclass(frozen=True)
class Sweep:
    """A checked sweep, with every default and every grid of settings resolved."""

    settings: Settings
    populations: tuple[Population, ...]
    grids: tuple[Grid, ...]
    metrics: tuple[str, ...]
    document: Document = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """The name, which is also the name of the run folder."""
        return self.settings.name

    @property
    def execution(self) -> Execution:
        """The execution settings."""
        return self.settings.execution

    @property
    def folder(self) -> Path:
        """The run folder, absolute."""
        return expand(self.execution.storage) / self.name

    @property
    def metric_ids(self) -> list[str]:
        """The metrics by their names in ids and in run.json; a metric whose meaning changes gets a new one."""
        return [metric_id(name) for name in self.metrics]

    @property
    def declared(self) -> dict[str, Any]:
        """What is fixed before the run for the claims of `analysis`; no number in the tables depends on it."""
        margins = self.settings.margin
        stated = self.settings.model_dump(mode="json", include={"pools_planned", "claims"})
        return {"margin": margins.accuracy, "margins": margins.model_dump(), **stated}

    @property
    def datasets(self) -> list[PluginConfig]:
        """The data sets of all pools, each once."""
        return list(dict.fromkeys(config for each in self.populations for config in each.datasets))

    @property
    def id(self) -> str:
        """Content hash of all settings that can change a number in the tables."""
        excluded = ("execution", *self.declared)
        content = {key: value for key, value in self.to_config.items() if key not in excluded}
        return content_id("sweep", content | {"metrics": self.metric_ids})

    @property
    def to_config(self) -> dict[str, Any]:
        """The sweep as a configuration writes it; loading it gives the same sweep."""
        settings = self.settings.model_dump(mode="json")
        return {
            **{key: value for key, value in settings.items() if key != "execution" and value is not None},
            "populations": [population.to_config for population in self.populations if not population.reference],
            "grids": [grid.to_config for grid in self.grids],
            "metrics": list(self.metrics),
            "execution": settings["execution"],
        }

    def to_yaml(self) -> str:
        """The resolved configuration in YAML, without secrets, which addresses and texts may hold."""
        return dump(mask_all(self.to_config))

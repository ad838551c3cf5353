"""A checked sweep: what is to be done, with every choice made, and nothing of how it was written down."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict

from sweep.config.document import Document, KeyPath, dump
from sweep.config.recipe import Recipe
from sweep.core.choice import PluginConfig
from sweep.core.ids import content_id
from sweep.core.protocol import CORRECT_PROTOCOL, EvalProtocol

_STRICT = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
LONGEST_NAME = 100
Count = Annotated[int, Ge(1)]
Number = Annotated[int, Strict()]  # `pairs: yes` is no number; where ranges are allowed, 2.0 is


def _refuse_repetition(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values or len(set(values)) < len(values):
        raise ValueError("expected one or more values without repetition")
    return values


class Subsets(BaseModel):
    """Which members are merged: random subsets per size, pairs, and nested prefixes of the pool."""

    model_config = _STRICT

    sizes: tuple[Count, ...] = ()
    per_size: Count = 20
    pairs: Literal["all"] | Annotated[Number, Ge(0)] = 0
    prefixes: tuple[Count, ...] = ()
    seed: Number = 0


class Execution(BaseModel):
    """How the sweep is carried out; nothing here enters an id."""

    model_config = _STRICT

    storage: Path = Path("runs")
    workers: Literal["auto"] | Count = "auto"
    threads: Count = 1
    gpus_per_member: Annotated[float, Ge(0)] = 0.0
    gpus_per_worker: Annotated[float, Ge(0)] = 0.0
    eval_batch_size: Literal["auto"] | Count = 128  # auto: measured once per network and run
    mmap_bytes: Annotated[int, Ge(0)] = 2 * 1024**3  # a pool of more is mapped from a file in each node's cache
    block_size: Annotated[int, Ge(1), Le(100_000)] = 64
    retries: Annotated[int, Ge(0)] = 2
    checkpoint_seconds: Annotated[float, Ge(0)] = 30.0
    ray_address: str | None = None
    straggler_seconds: Annotated[float, Gt(0)] = 60.0  # seconds up to which no block and no training takes too long
    probabilities: bool = False  # rows also keep log-probabilities, 2 bytes per example and class, for calibration
    mlflow: bool = True
    mlflow_models: Annotated[int, Ge(0), Le(100)] = 3


class Settings(BaseModel):
    """The keys of a sweep whose values are not choices from the open sets."""

    model_config = _STRICT

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    seed: Annotated[Number, Ge(0)] = 0
    splits: Annotated[tuple[Literal["test", "validation"], ...], AfterValidator(_refuse_repetition)] = ("test",)
    inspect: Annotated[tuple[Literal["layers", "templates"], ...], AfterValidator(_refuse_repetition)] | None = None
    """Tables of what lies inside the weights of members and soups; none where it is not said."""
    margin: Annotated[float, Gt(0), Lt(1)] = 0.005
    """Smallest difference in accuracy that matters to the claims of `analysis`, as a fraction; no number of the run."""
    execution: Execution = Execution()


class PopulationConfig(BaseModel):
    """The keys of a population whose values are not choices from the open sets."""

    model_config = _STRICT

    name: Annotated[str, Field(pattern=rf"^[^/\x00-\x1f]{{1,{LONGEST_NAME}}}$")] | None = None
    start: Literal["shared", "scratch", "pretrained"] = "shared"
    new_heads: bool = False
    """Whether members of a pretrained start draw their heads anew, each by its own init seed."""
    pools: Count = 1
    members: Count = 10


class SeedGrid(BaseModel):
    """`members` as a mapping: every initialisation with every data order; member init × `order` + order has both."""

    model_config = _STRICT

    init: Count = 1
    order: Count = 1


class ExternalPopulationConfig(BaseModel):
    """The keys of a population of models that were trained elsewhere.

    `checkpoints` is a pattern of files, a list of files or patterns, or one such list per pool.
    """

    model_config = _STRICT

    name: Annotated[str, Field(pattern=rf"^[^/\x00-\x1f]{{1,{LONGEST_NAME}}}$")] | None = None
    checkpoints: str | tuple[str, ...] | tuple[tuple[str, ...], ...]
    base: Path | None = None
    on_bad_member: Literal["skip", "stop"] = "stop"

    @property
    def patterns(self) -> tuple[tuple[str, ...], ...]:
        """The files or patterns of each pool."""
        if isinstance(self.checkpoints, str):
            return ((self.checkpoints,),)
        nested = tuple(each if isinstance(each, tuple) else (each,) for each in self.checkpoints)
        one_pool = all(isinstance(each, str) for each in self.checkpoints)
        return (tuple(itertools.chain.from_iterable(nested)),) if one_pool else nested


@dataclass(frozen=True)
class Population:
    """The models of one recipe, or of one source: what may be merged is what one of its pools holds."""

    name: str
    architecture: PluginConfig
    dataset: PluginConfig
    start: str
    pools: int
    members: int
    recipe: Recipe
    path: KeyPath
    files: tuple[tuple[Path, ...], ...] = ()  # of each pool, where the members were trained elsewhere
    base: Path | None = None
    on_bad_member: str = "stop"
    new_heads: bool = False
    seed_grid: SeedGrid | None = None  # what its members are, where they cross seeds
    protocol: EvalProtocol = CORRECT_PROTOCOL  # what trains it otherwise than the correct population
    reference: Population | None = None  # which that is

    @property
    def has_base(self) -> bool:
        """Whether its members begin at weights that are there."""
        return self.start in ("shared", "pretrained")

    @property
    def id_content(self) -> dict[str, Any]:
        """What makes it this population, however many pools and members it has; what it is not stays out."""
        return {
            "architecture": self.architecture.id_content,
            "dataset": self.dataset.id_content,
            "start": self.start,
            "train": self.recipe.id_content,
            **({"own_heads": True} if self.new_heads else {}),
            **({"members": "crossed"} if self.seed_grid else {}),
            **({"protocol": self.protocol.id_content} if self.reference else {}),
        }

    @property
    def to_config(self) -> dict[str, Any]:
        """The population as a configuration writes it."""
        choice = {"architecture": self.architecture.to_config, "dataset": self.dataset.to_config}
        if self.files:
            base = {"base": str(self.base)} if self.base else {}
            files = [[str(file) for file in pool] for pool in self.files]
            return {"name": self.name, "checkpoints": files, **base, "on_bad_member": self.on_bad_member, **choice}
        members = self.seed_grid.model_dump() if self.seed_grid else self.members
        heads = {"new_heads": True} if self.new_heads else {}
        size = {"start": self.start, **heads, "pools": self.pools, "members": members}
        return {"name": self.name, **choice, **size, "train": self.recipe.model_dump(mode="json")}


@dataclass(frozen=True)
class Grid:
    """One factorial: every subset × alignment × method × scaling × repair × protocol."""

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
        sets = {
            "methods": self.methods,
            "alignments": self.alignments,
            "scalings": self.scalings,
            "repairs": self.repairs,
        }
        chosen = {key: [choice.to_config for choice in choices] for key, choices in sets.items()}
        audited = self.protocols != (CORRECT_PROTOCOL,)
        audit = {"protocols": [protocol.to_config for protocol in self.protocols]} if audited else {}
        return {"subsets": self.subsets.model_dump(mode="json"), **chosen, **audit}


@dataclass(frozen=True)
class Sweep:
    """A checked sweep: every choice made, nothing left open."""

    settings: Settings
    populations: tuple[Population, ...]
    grids: tuple[Grid, ...]
    metrics: tuple[str, ...]
    document: Document = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """The name, which is also that of the run folder."""
        return self.settings.name

    @property
    def execution(self) -> Execution:
        """How it is carried out."""
        return self.settings.execution

    @property
    def folder(self) -> Path:
        """The run folder, absolute."""
        return self.execution.storage.expanduser().absolute() / self.name

    @property
    def id(self) -> str:
        """Content hash of everything that a number of the run may depend on."""
        without = ("execution", "margin")
        return content_id("sweep", {key: value for key, value in self.to_config.items() if key not in without})

    @property
    def to_config(self) -> dict[str, Any]:
        """The sweep as a configuration writes it: loading that gives the same sweep."""
        settings = self.settings.model_dump(mode="json")
        return {
            **{key: value for key, value in settings.items() if key != "execution" and value is not None},
            "populations": [population.to_config for population in self.populations if not population.reference],
            "grids": [grid.to_config for grid in self.grids],
            "metrics": list(self.metrics),
            "execution": settings["execution"],
        }

    def to_yaml(self) -> str:
        """The resolved configuration."""
        return dump(self.to_config)

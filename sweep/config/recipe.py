"""The training settings of a member, all of which enter its id."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import ConfigDict, Field, model_validator

from sweep.core.settings import SettingsModel

Count = Annotated[int, Ge(1), Le(1_000_000)]
Share = Annotated[float, Ge(0), Lt(1)]
NotNegative = Annotated[float, Ge(0), Le(1_000_000)]
RECORDED_NAMES = {"checkpoint": "keep", "clip_grad_norm": "clip", "vmap_members": "together"}
"""Settings whose key was renamed: ids, tables and MLflow keep the earlier name."""
_LATER_SETTINGS = ("l2_start", "freeze", "linear_probe_epochs", "swa", "scope")
"""Settings that earlier versions lack: written where they are set, so that equal sweeps and rows stay equal."""
_MEMBERS_ONLY = {"l2_start": 0.0, "freeze": (), "linear_probe_epochs": 0, "swa": None, "scope": None}
"""Settings that act on members alone, with the values of a shared start."""


def _without_unset(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value or key not in _LATER_SETTINGS}


class WeightAveraging(SettingsModel):
    """Stochastic weight averaging (arXiv 1803.05407): the mean of the weights after some of the last epochs."""

    model_config = ConfigDict(serialize_by_alias=True)

    first: Annotated[float, Ge(0), Le(1_000_000)] = Field(alias="from")
    """The first epoch that counts; below 1 the share of the epochs after which averaging begins."""
    every: Count = 1
    """Epochs from one set of weights that counts to the next."""


class WeightScope(SettingsModel):
    """Weight Scope Alignment (arXiv 2408.12237): the mean and variance of each layer's weights are held at a target.

    The penalty is `strength` times the sum over layers of KL(N(m, v) ‖ N(target)), with m and v of the layer's weights.
    """

    target: Literal["start", "fixed"]
    """The mean and standard deviation of each layer in the start, or `mean` and `std` for all layers."""
    strength: Annotated[float, Gt(0), Le(1_000_000)]
    mean: Annotated[float, Ge(-1000), Le(1000)] = 0.0
    std: Annotated[float, Gt(0), Le(1000)] | None = None

    @model_validator(mode="after")
    def _check_target(self) -> WeightScope:
        if self.target == "fixed" and self.std is None:
            raise ValueError("`target: fixed` needs the `std` of the weights")
        if self.target == "start" and (self.mean or self.std is not None):
            raise ValueError("`target: start` takes mean and std from the start")
        return self


class Recipe(SettingsModel):
    """The settings under `train`; durations are in epochs."""

    epochs: Count = 10
    start_epochs: Count = 1
    """Epochs of training of a shared start; its other settings are those of the members, without `l2_start`, `freeze`,
    `linear_probe_epochs`, `scope` and `swa`."""
    batch_size: Annotated[int, Ge(2), Le(1_000_000)] = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Gt(0), Le(1_000_000)] = 0.05
    momentum: Share = 0.9
    """Momentum of sgd; adamw uses betas 0.9 and 0.999."""
    weight_decay: NotNegative = 5e-4
    warmup: NotNegative = 0.0
    """Epochs of linear warm-up of the learning rate from 0."""
    schedule: Literal["constant", "cosine", "multistep"] = "cosine"
    milestones: tuple[NotNegative, ...] = ()
    """Epochs after which multistep multiplies the learning rate by `gamma`."""
    gamma: Annotated[float, Gt(0), Le(1)] = 0.1
    label_smoothing: Share = 0.0
    mixup: NotNegative = 0.0
    """Both parameters of the Beta distribution of the mixup weight (alpha in arXiv 1710.09412); 0 disables mixup."""
    shuffle_labels: bool = False
    """Train on labels that are permuted once per pool: a control for effects without true labels (arXiv 1611.03530)."""
    crop: Annotated[int, Ge(0), Le(4096)] = 0
    """Pixels of zero padding on each side before a random crop to the original size; 0 disables crops."""
    flip: bool = False
    """Flip each image horizontally with probability 0.5."""
    checkpoint: Literal["last", "best"] = "last"
    """Use the weights of the last epoch, or of the epoch with the best validation accuracy (the first of ties)."""
    clip_grad_norm: NotNegative = 0.0
    """Maximum norm of the gradient over all parameters; 0 disables clipping."""
    l2_start: NotNegative = 0.0
    """L2-SP (arXiv 1802.01483): the penalty l2_start / 2 · ‖w − w_start‖², on all parameters but those of a new head.

    It is added to the gradient after clipping, for every optimizer, beside `weight_decay`; `train_loss` is without it.
    """
    freeze: Annotated[tuple[Annotated[str, Len(1, 200)], ...], Len(0, 1000)] = ()
    """Parameters that are not trained: patterns of names with `*`, or `head` (the last linear layer) and `body`.

    Batch norms whose parameters are all frozen, or whose running statistics match, keep their running statistics
    and normalise by them. Dropout stays.
    """
    linear_probe_epochs: Annotated[int, Ge(0), Le(1_000_000)] = 0
    """LP-FT (arXiv 2202.10054): in so many epochs at first the head alone is trained, as with `freeze: [body]`.

    Schedule and momentum of the head go on from there.
    """
    scope: WeightScope | None = None
    """Weight Scope Alignment of the weights of layers, which are those of two or more dimensions.

    It is added to the gradient as `l2_start` is. Without a new head under `target: start`, and without weights that
    begin as one constant.
    """
    swa: WeightAveraging | None = None
    """Keep the mean of the weights after the last epochs, with running statistics of batch norm measured anew."""
    ema: Share = 0.0
    """Decay per step of an exponential moving average of the weights, which replaces the weights; 0 disables it."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the forward passes in training; weights and their updates stay float32."""
    channels_last: bool = False
    """Use the channels-last memory format: faster on many machines, but changes the last bits of the weights."""
    compile: bool = False
    """Compile the model with torch.compile: takes about a minute, then trains faster; changes the last bits."""

    vmap_members: Count = 1
    """Members of a pool that are trained at once under torch.func.vmap: faster on a GPU; changes the last bits."""

    @property
    def id_content(self) -> dict[str, Any]:
        """The settings that enter ids: those that differ from their defaults."""
        return self._with_recorded_names(exclude_defaults=True)

    @property
    def recorded(self) -> dict[str, Any]:
        """All settings, under the names used in tables and MLflow."""
        return _without_unset(self._with_recorded_names(mode="json"))

    def to_config(self, stated: Collection[str] = ()) -> dict[str, Any]:
        """The settings as a configuration writes them; `stated` are those for which its plug-ins have defaults."""
        values = self.model_dump(mode="json")
        return _without_unset(values) | {key: values[key] for key in _LATER_SETTINGS if key in stated}

    @property
    def of_start(self) -> Recipe:
        """The recipe of a shared start: without the settings that act on members alone."""
        return self.model_copy(update=_MEMBERS_ONLY)

    @property
    def averaged_epochs(self) -> range:
        """The epochs, from 1, whose weights are averaged; empty without `swa`."""
        if self.swa is None:
            return range(0)
        first = self.swa.first
        begin = math.floor(round(first * self.epochs, 6)) + 1 if first < 1 else int(first)
        return range(min(begin, self.epochs), self.epochs + 1, self.swa.every)

    def _with_recorded_names(self, **options: Any) -> dict[str, Any]:
        return {RECORDED_NAMES.get(key, key): value for key, value in self.model_dump(**options).items()}

    @model_validator(mode="after")
    def _check_schedule(self) -> Recipe:
        if (self.schedule == "multistep") != bool(self.milestones):
            raise ValueError("`milestones` and `schedule: multistep` go together")
        if self.warmup > self.epochs:
            raise ValueError("`warmup` is longer than the training")
        return self

    @model_validator(mode="after")
    def _check_phases(self) -> Recipe:
        if self.linear_probe_epochs >= self.epochs:
            raise ValueError("`linear_probe_epochs` leaves no epoch of `epochs` to train all parameters")
        if self.linear_probe_epochs and "head" in self.freeze:
            raise ValueError("`linear_probe_epochs` trains the head, which `freeze` leaves as it is")
        return self

    @model_validator(mode="after")
    def _check_averaging(self) -> Recipe:
        if self.swa is None:
            return self
        if self.swa.first >= 1 and (self.swa.first % 1 or self.swa.first > self.epochs):
            raise ValueError(f"`swa` begins at a share below 1 or at one of the {self.epochs} epochs")
        if self.ema:
            raise ValueError("`swa` and `ema` are two averages of the weights: take one")
        if self.checkpoint == "best":
            raise ValueError("`swa` keeps the average, `checkpoint: best` one epoch: take one")
        return self

    @model_validator(mode="after")
    def _check_vmap(self) -> Recipe:
        unsupported = {
            "channels_last": self.channels_last,
            "compile": self.compile,
            "bfloat16": self.precision == "bfloat16",
        }
        if self.vmap_members > 1 and any(unsupported.values()):
            other = next(key for key, is_set in unsupported.items() if is_set)
            raise ValueError(f"`vmap_members: {self.vmap_members}` and `{other}` do not go together")
        return self

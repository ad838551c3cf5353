"""The training settings of a member, all of which enter its id."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import model_validator

from sweep.core.settings import SettingsModel

Count = Annotated[int, Ge(1), Le(1_000_000)]
Share = Annotated[float, Ge(0), Lt(1)]
NotNegative = Annotated[float, Ge(0), Le(1_000_000)]
RECORDED_NAMES = {"checkpoint": "keep", "clip_grad_norm": "clip", "vmap_members": "together"}
"""Settings whose key was renamed: ids, tables and MLflow keep the earlier name."""


class Recipe(SettingsModel):
    """The settings under `train`; durations are in epochs."""

    epochs: Count = 10
    start_epochs: Count = 1
    """Epochs of training of a shared start; its other settings are those of the members."""
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
        return self._with_recorded_names(mode="json")

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

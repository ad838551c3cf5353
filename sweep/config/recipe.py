"""How a member is trained: the settings, all of which enter its id."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, model_validator

Count = Annotated[int, Ge(1)]
Share = Annotated[float, Ge(0), Lt(1)]
NotNegative = Annotated[float, Ge(0)]
RECORDED_NAMES = {"checkpoint": "keep", "clip_grad_norm": "clip", "vmap_members": "together"}
"""Settings whose key changed: ids, tables and MLflow keep the earlier name."""


class Recipe(BaseModel):
    """Settings under `train`; lengths are in epochs."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    epochs: Count = 10
    start_epochs: Count = 1
    """Length of the common pre-training of a shared start, by the same recipe otherwise."""
    batch_size: Annotated[int, Ge(2)] = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Gt(0)] = 0.05
    momentum: Share = 0.9
    """Of sgd; adamw uses betas of 0.9 and 0.999."""
    weight_decay: NotNegative = 5e-4
    warmup: NotNegative = 0.0
    """Epochs in which the learning rate grows linearly from 0."""
    schedule: Literal["constant", "cosine", "multistep"] = "cosine"
    milestones: tuple[NotNegative, ...] = ()
    """Epochs after which multistep multiplies the learning rate by `gamma`."""
    gamma: Annotated[float, Gt(0), Le(1)] = 0.1
    label_smoothing: Share = 0.0
    mixup: NotNegative = 0.0
    """Parameter of the Beta distribution of mixing shares (arXiv 1710.09412); 0 is off."""
    shuffle_labels: bool = False
    """Train on labels that are permuted once per pool: the control for what needs no class (arXiv 1611.03530)."""
    crop: Annotated[int, Ge(0)] = 0
    """Pixels of zero padding before a random crop to the old size."""
    flip: bool = False
    """Mirror half of the images."""
    checkpoint: Literal["last", "best"] = "last"
    """Weights of the last epoch, or of the one with the best validation accuracy (the first of equals)."""
    clip_grad_norm: NotNegative = 0.0
    """Largest norm of a gradient, all parameters together; 0 is no clipping."""
    ema: Share = 0.0
    """Decay per step of an exponential moving average of weights, which is then what is kept; 0 is off."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the forward passes in training; weights and their updates stay float32."""
    channels_last: bool = False
    """Memory format of convolutions: faster on many machines, other last bits."""
    compile: bool = False
    """Let torch.compile make the training step: a minute at first, faster after; other last bits."""

    vmap_members: Count = 1
    """Members of a pool that are trained at once, as one stack of weights: faster on a GPU, other last bits."""

    @property
    def id_content(self) -> dict[str, Any]:
        """What enters ids: settings that are not at their defaults."""
        return self._with_recorded_names(exclude_defaults=True)

    @property
    def recorded(self) -> dict[str, Any]:
        """Every setting, as tables and MLflow name it."""
        return self._with_recorded_names(mode="json")

    def _with_recorded_names(self, **options: Any) -> dict[str, Any]:
        return {RECORDED_NAMES.get(key, key): value for key, value in self.model_dump(**options).items()}

    @model_validator(mode="after")
    def _schedule_fits(self) -> Recipe:
        if (self.schedule == "multistep") != bool(self.milestones):
            raise ValueError("`milestones` and `schedule: multistep` go together")
        if self.warmup > self.epochs:
            raise ValueError("`warmup` is longer than the training")
        return self

    @model_validator(mode="after")
    def _stacks(self) -> Recipe:
        asked = {"channels_last": self.channels_last, "compile": self.compile, "bfloat16": self.precision == "bfloat16"}
        if self.vmap_members > 1 and any(asked.values()):
            other = next(key for key, wanted in asked.items() if wanted)
            raise ValueError(f"`vmap_members: {self.vmap_members}` and `{other}` do not go together")
        return self

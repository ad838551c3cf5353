"""Ends a training with averaged weights (`swa`): running statistics of batch norm and scores of the average."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from sweep.core.batch_norm import estimating
from sweep.model.forward import forward_split
from sweep.model.split import DeviceSplit
from sweep.training.batches import draw_batches, draw_images
from sweep.training.freezing import Freezing
from sweep.training.history import VALIDATION_BATCHING, TrainingHistory, validation_scores


def finish_average(
    history: TrainingHistory, model: nn.Module, splits: Mapping[str, DeviceSplit], seed: int, freezing: Freezing
) -> None:
    """Give the averaged weights of a history their running statistics and scores; without `swa`, nothing changes.

    The statistics are means over the batches, crops and flips that the epoch after the last would have, without mixup
    and dropout, weighted by the size of the batch. Frozen batch norms keep theirs. Raises NonFiniteError.
    """
    recipe = history.recipe
    if recipe.swa is None:
        return
    model.load_state_dict(history.weights)
    train = splits["train"]
    unmixed = recipe.model_copy(update={"mixup": 0.0})
    norms = freezing.running_norms()
    with estimating(model, norms) as add_batch:
        for draw in draw_batches(unmixed, len(train.labels), seed, recipe.epochs) if norms else ():
            add_batch(draw_images(train, draw, recipe.crop))
    validation = splits["validation"]
    scores = validation_scores(forward_split(model, validation, VALIDATION_BATCHING).logits, validation)
    history.finish_average(model.state_dict(), *scores)

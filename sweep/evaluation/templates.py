"""Templates of a classifier (rows of its head) compared with class means of the head's inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from sweep.core.capture import capture_inputs
from sweep.core.weights import TRAINABLE_ROLES
from sweep.evaluation.engine import PoolEngine
from sweep.model.split import shuffle_labels
from sweep.plan.pools import Pool

Row = dict[str, Any]
Matrix = NDArray[np.float64]
_WITH_IMAGES = 10  # classes


class HeadProbe:
    """Inputs of the head on the training split, and the templates of the pool's members."""

    def __init__(self, engine: PoolEngine, pool: Pool) -> None:
        self.engine = engine
        self.pool = pool
        split = engine.split("train")
        self.split = shuffle_labels(split, pool.id) if pool.population.recipe.shuffle_labels else split
        weight, _ = engine.layout.head
        pixels = engine.dataset.channels * engine.dataset.size**2
        alone = all(entry.role == "head" for entry in engine.layout.entries if entry.role in TRAINABLE_ROLES)
        self.of_pixels = alone and weight.shape[1] == pixels
        """Whether the network is one linear layer on pixels."""
        members = enumerate(engine.matrix[: len(pool.members)])
        self.heads = {i: center_rows(self._head(row)) for i, row in members if i not in engine.pool.failed}

    def loaded(self) -> Matrix:
        """The templates of the loaded model, (classes, features)."""
        return self._head(self.engine.flat_weights)

    def _head(self, row: Tensor) -> Matrix:
        weight, _ = self.engine.layout.head
        return np.asarray(row[weight.offset : weight.stop].view(weight.shape).double().cpu().numpy())

    @torch.inference_mode()
    def means(self) -> tuple[Matrix, Matrix]:
        """Class means of the head's inputs x on the training split, and E[(1[y=c] - p_c) x], for the loaded model.

        Both (classes, features), by the labels of the training; NaN if the head reads several rows of features per
        image.
        """
        weight, _ = self.engine.layout.head
        sums = torch.zeros(2, *weight.shape, dtype=torch.float64, device=self.engine.device)
        start = 0
        for features, logits in self._passes():
            if features.shape != (len(logits), weight.shape[1]):
                nothing = np.full(weight.shape, np.nan)
                return nothing, nothing
            labels = self.split.labels[start : start + len(logits)]
            start += len(labels)
            right = one_hot(labels, weight.shape[0]).double()
            sums[0] += right.T @ features
            sums[1] += (right - logits.double().softmax(-1)).T @ features
        counts = torch.bincount(self.split.labels, minlength=weight.shape[0]).double()[:, None]
        return (sums[0] / counts).cpu().numpy(), (sums[1] / start).cpu().numpy()

    def _passes(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs of the head and logits, batch by batch, in evaluation mode."""
        model = self.engine.model.eval()
        with capture_inputs(self.engine.head) as captured:
            for images in self.split.batches(self.engine.batching.batch_size):
                logits = model(images)
                yield captured.pop().double(), logits


def template_rows(probe: HeadProbe, about: Row, *, with_images: bool) -> list[Row]:
    """A row per pair of classes: the loaded model's template of one against the class mean of the other.

    `with_images`, rows of the first classes also hold templates and means as images, if the head reads pixels.
    """
    templates = probe.loaded()
    means, pull = probe.means()
    about = about | _training(probe)
    classes = range(len(templates))
    centered = row_correlations(center_rows(templates), center_rows(means))
    raw = row_correlations(templates, means)
    own = _of_own_class(probe, templates, pull, about)
    if with_images and probe.of_pixels:
        for a in classes[:_WITH_IMAGES]:
            images = {"template": _bytes(center_rows(templates)[a]), "mean_image": _bytes(center_rows(means)[a])}
            own[a] |= {**images, "channels": probe.engine.dataset.channels}
    return [
        {**about, "template_class": a, "mean_class": b, **(own[a] if a == b else {})}
        | {"correlation": _number(centered[a, b]), "raw_correlation": _number(raw[a, b])}
        for a in classes
        for b in classes
    ]


def _of_own_class(probe: HeadProbe, templates: Matrix, pull: Matrix, about: Row) -> list[Row]:
    """Columns of each template: agreement across seeds, and distance from a stationary point of training."""
    subset = about["member_indices"]
    decay = probe.pool.population.recipe.weight_decay
    others = set(subset) if about["kind"] == "merge" else probe.heads.keys() - set(subset)
    mine = center_rows(templates)
    each = [np.diag(row_correlations(mine, probe.heads[index])) for index in sorted(others)]
    agreement = np.mean(each, axis=0) if each else np.full(len(templates), np.nan)
    gap = stationarity_gap(templates, pull, decay) if _is_plain(probe) else np.full(len(templates), np.nan)
    return [{"agreement": _number(a), "stationarity_gap": _number(g)} for a, g in zip(agreement, gap, strict=True)]


def _is_plain(probe: HeadProbe) -> bool:
    """Whether training is known to have minimised cross-entropy on unaugmented images plus weight decay."""
    recipe = probe.pool.population.recipe
    differs = recipe.mixup or recipe.label_smoothing or recipe.crop or recipe.flip or recipe.optimizer != "sgd"
    is_tied = recipe.l2_start or recipe.scope or recipe.freeze or recipe.swa
    return not differs and not is_tied and not probe.pool.population.files


def _training(probe: HeadProbe) -> Row:
    """The columns of how the models were trained; None for external models."""
    recipe = probe.pool.population.recipe
    is_external = bool(probe.pool.population.files)
    return {
        "weight_decay": None if is_external else recipe.weight_decay,
        "mixup": None if is_external else recipe.mixup,
        "labels": "shuffled" if recipe.shuffle_labels else "true",
        "input": "pixels" if probe.of_pixels else "features",
    }


def center_rows(rows: Matrix) -> Matrix:
    """The rows minus their mean: equal shifts of all templates change no prediction."""
    return np.asarray(rows - rows.mean(0))


def row_correlations(a: Matrix, b: Matrix) -> Matrix:
    """Pearson's correlation over features of each row of `a` with each of `b`; NaN for a row that does not vary."""
    a, b = (each - each.mean(1, keepdims=True) for each in (a, b))
    norms = np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Matrix = a @ b.T / norms
    return found


def stationarity_gap(templates: Matrix, pull: Matrix, decay: float) -> Matrix:
    """|d W - G| / (|d W| + |G|) of each class: 0 where cross-entropy + d |W|² / 2 has no slope, 1 where only one acts.

    Any such point has d W_c = G_c = E[(1[y=c] - p_c) x]: a template is a sum of images, whatever they show.
    """
    decayed = decay * templates
    with np.errstate(divide="ignore", invalid="ignore"):
        sizes = np.linalg.norm(decayed, axis=1) + np.linalg.norm(pull, axis=1)
        gap: Matrix = np.linalg.norm(decayed - pull, axis=1) / sizes
    return gap


def _bytes(values: Matrix) -> bytes:
    return values.astype("<f4").tobytes()


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

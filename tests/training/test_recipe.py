"""What a recipe asks of training: learning rates, crops, mirrored images, and what makes no sense."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from sweep.config.recipe import Recipe
from sweep.training.batches import augment, draw_batches
from sweep.training.trainer import learning_rate


@pytest.mark.parametrize(
    ("recipe", "progress", "expected"),
    [
        (Recipe(lr=0.4, schedule="constant"), 5.0, 0.4),
        (Recipe(lr=0.4, warmup=2), 0.5, 0.1),
        (Recipe(lr=0.4, epochs=10), 0.0, 0.4),
        (Recipe(lr=0.4, epochs=10), 5.0, 0.2),
        (Recipe(lr=0.4, epochs=10, warmup=2), 6.0, 0.2),
        (Recipe(lr=0.4, epochs=10), 10.0, 0.0),
        (Recipe(lr=1.0, schedule="multistep", milestones=(3, 6)), 2.9, 1.0),
        (Recipe(lr=1.0, schedule="multistep", milestones=(3, 6)), 3.0, 0.1),
        (Recipe(lr=1.0, schedule="multistep", milestones=(3, 6), gamma=0.5), 7.0, 0.25),
    ],
)
def test_learning_rates_by_hand(recipe: Recipe, progress: float, expected: float) -> None:
    assert learning_rate(recipe, progress, recipe.epochs) == pytest.approx(expected, abs=1e-12)


def test_the_mean_learning_rate_of_a_cosine_is_half() -> None:
    recipe = Recipe(lr=1.0, epochs=4)
    rates = [learning_rate(recipe, (step + 0.5) / 100, 4) for step in range(400)]
    assert math.fsum(rates) / 400 == pytest.approx(0.5)
    assert rates == sorted(rates, reverse=True)


def test_crops_are_windows_of_the_padded_image() -> None:
    images = torch.arange(1, 2 * 3 * 25 + 1).view(2, 3, 5, 5) % 251 + 1
    seen = set()
    for seed in range(40):
        (draw,) = draw_batches(Recipe(crop=2, batch_size=2), 2, seed, 0)
        cropped = augment(images, 2, draw.crop_offsets, draw.flip_mask)
        for image, window in zip(images, cropped, strict=True):
            padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
            fits = [(y, x) for y in range(5) for x in range(5) if torch.equal(padded[:, y : y + 5, x : x + 5], window)]
            assert len(fits) == 1
            seen.add(fits[0])
    assert len(seen) > 15


def test_flips_mirror_about_half() -> None:
    images = torch.arange(400 * 4, dtype=torch.int32).view(400, 1, 2, 2)
    (draw,) = draw_batches(Recipe(flip=True, batch_size=400), 400, 0, 0)
    flipped = augment(images, 0, draw.crop_offsets, draw.flip_mask)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert (mirrored | (flipped == images).flatten(1).all(1)).all()
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "multistep"}, "`milestones` and `schedule: multistep` go together"),
        ({"milestones": (3,)}, "`milestones` and `schedule: multistep` go together"),
        ({"warmup": 11}, "`warmup` is longer than the training"),
        ({"lr": 0}, "greater than 0"),
        ({"momentum": 1}, "less than 1"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Recipe(**settings)

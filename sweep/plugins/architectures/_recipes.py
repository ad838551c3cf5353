"""Recipes that published results of these families were trained by; a configuration overrides any of their keys."""

from __future__ import annotations

from typing import Any

CONVOLUTIONAL: dict[str, Any] = {
    **{"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "cosine"},
    **{"epochs": 200, "start_epochs": 5, "batch_size": 128},
}
"""Residual and densely connected networks on small images (1605.07146), the steps of the rate as a cosine."""

TRANSFORMER: dict[str, Any] = {
    **{"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05, "schedule": "cosine", "warmup": 10},
    **{"epochs": 300, "start_epochs": 10, "batch_size": 128, "label_smoothing": 0.1, "clip_grad_norm": 1.0},
}
"""Small vision transformers on small data sets (2112.13492), as long as 2012.12877 trains them."""

EITHER: dict[str, Any] = {
    **{"optimizer": "adamw", "lr": 3e-4, "weight_decay": 0.05, "schedule": "cosine", "warmup": 5},
    **{"epochs": 100, "start_epochs": 5, "batch_size": 128, "clip_grad_norm": 1.0},
}
"""For a network of which no more is known than its name: a rate at which convolutions and attention both train."""

TUNED: dict[str, Any] = {"epochs": 50, "start_epochs": 1, "warmup": 1}
"""What is otherwise where the weights are pretrained: a short way from where they are."""

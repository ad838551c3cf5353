"""Training settings of published results; a configuration overrides any of their keys."""

from __future__ import annotations

from typing import Any

CONVOLUTIONAL: dict[str, Any] = {
    **{"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "cosine"},
    **{"epochs": 200, "start_epochs": 5, "batch_size": 128},
}
"""For residual and densely connected networks on small images (arXiv 1605.07146, with a cosine schedule)."""

TRANSFORMER: dict[str, Any] = {
    **{"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05, "schedule": "cosine", "warmup": 10},
    **{"epochs": 300, "start_epochs": 10, "batch_size": 128, "label_smoothing": 0.1, "clip_grad_norm": 1.0},
}
"""For small vision transformers on small data sets (arXiv 2112.13492, with the number of epochs of 2012.12877)."""

EITHER: dict[str, Any] = {
    **{"optimizer": "adamw", "lr": 3e-4, "weight_decay": 0.05, "schedule": "cosine", "warmup": 5},
    **{"epochs": 100, "start_epochs": 5, "batch_size": 128, "clip_grad_norm": 1.0},
}
"""For a network known by its name only: a learning rate at which both convolutions and attention train."""

TUNED: dict[str, Any] = {"epochs": 50, "start_epochs": 1, "warmup": 1}
"""Changes for pretrained weights: a short fine-tuning."""

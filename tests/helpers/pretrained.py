"""Weights of ImageNet's 1000 classes where timm and torchvision look for them, none of them fetched."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sweep.model.build import build


def of_torchvision(caches: Path, name: str) -> dict[str, Tensor]:
    """Under the name that torchvision fetches."""
    from torchvision import models

    arguments = {"aux_logits": True, "init_weights": True} if name == "googlenet" else {}
    state = build(lambda *_: models.get_model(name, **arguments), (0, 0, 0), 9).state_dict()
    place = caches / "hub" / "checkpoints" / Path(models.get_model_weights(name).DEFAULT.url).name
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, place)
    return dict(state)


def of_timm(caches: Path, name: str) -> dict[str, Tensor]:
    """As a snapshot of the Hugging Face hub."""
    import timm
    from safetensors.torch import save_file

    state = build(lambda *_: timm.create_model(name), (0, 0, 0), 9).state_dict()
    folder = caches / "hub" / f"models--{timm.get_pretrained_cfg(name).hf_hub_id.replace('/', '--')}"
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    save_file(state, folder / "snapshots" / ("0" * 40) / "model.safetensors")
    return dict(state)

"""The protocol of arXiv 2411.09263 the plain way: per candidate a state dict, a model, a loop. None of sweep's code."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn


class State(dict[str, Tensor]):
    """A state dict that is equal to itself alone, so that what a member gives can be kept."""

    is_member = False
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__


Outputs = tuple[Tensor, Tensor, Tensor, Tensor]
CLASSES = 10
SIDE = 32
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class CNN(nn.Module):
    """The published SimpleCNN."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.fc1 = nn.Linear(128 * 4 * 4, 256)
        self.fc2 = nn.Linear(256, CLASSES)
        self.pool = nn.MaxPool2d(2, 2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = self.pool(torch.relu(self.conv3(x)))
        x = self.dropout(torch.relu(self.fc1(x.view(-1, 128 * 4 * 4))))
        return self.fc2(x)


class MLP(nn.Module):
    """The published MLP."""

    def __init__(self) -> None:
        super().__init__()
        d = nn.Dropout(0.5)
        r = nn.ReLU()
        a = nn.Linear(3072, 512)
        b = nn.Linear(512, 256)
        c = nn.Linear(256, 128)
        self.layers = nn.Sequential(a, r, d, b, r, d, c, r, d, nn.Linear(128, 64), r, nn.Linear(64, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1))


def new_model(name: str) -> nn.Module:
    if name == "vit":
        return timm.create_model("test_vit", num_classes=CLASSES, img_size=SIDE)
    return {"cnn": CNN, "mlp": MLP, "resnet": lambda: timm.create_model("test_resnet", num_classes=CLASSES)}[name]()


@cache
def built(name: str) -> nn.Module:
    """One model for all state dicts, each of which has every tensor: drawing weights anew would take the longest."""
    return new_model(name).eval()


def head_of(name: str, model: nn.Module) -> nn.Linear:
    return model.get_submodule({"cnn": "fc2", "mlp": "layers.11", "resnet": "fc", "vit": "head"}[name])


def read(root: Path, split: str) -> tuple[Tensor, Tensor]:
    pixels = []
    labels = []
    for label, folder in enumerate(sorted((root / split).iterdir())):
        for file in sorted(folder.iterdir()):
            pixels.append(np.asarray(Image.open(file)).transpose(2, 0, 1) / 255.0)
            labels.append(label)
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (MEAN, STD))
    images = np.ascontiguousarray((np.stack(pixels) - mean) / std)
    return torch.tensor(images, dtype=torch.float32).contiguous(), torch.tensor(labels)


def learnable(name: str) -> frozenset[str]:
    return frozenset(key for key, _ in new_model(name).named_parameters())


@cache
def times(state: State, factor: float, keys: frozenset[str]) -> State:
    """A member times a factor. It is in many candidates, so what it gives is kept."""
    scaled = State((key, value * factor if key in keys else value.clone()) for key, value in state.items())
    scaled.is_member = True
    return scaled


def forget() -> None:
    """Free what was kept of the members of one architecture."""
    times.cache_clear()
    member_outputs.cache_clear()


def mixture(states: list[State], shares: list[float]) -> State:
    """Weights and running statistics by the same shares; counters of the first."""
    merged = State()
    for key, first in states[0].items():
        if not first.is_floating_point():
            merged[key] = first.clone()
            continue
        merged[key] = sum(share * state[key] for share, state in zip(shares, states, strict=True))
    return merged


def mean(states: list[State]) -> State:
    return mixture(states, [1 / len(states)] * len(states))


def outputs(name: str, state: State, images: Tensor) -> Outputs:
    """What a state dict gives; what members give is computed once."""
    return member_outputs(name, state, images) if state.is_member else computed(name, state, images)


@cache
def member_outputs(name: str, state: State, images: Tensor) -> Outputs:
    return computed(name, state, images)


@torch.no_grad()
def computed(name: str, state: State, images: Tensor) -> Outputs:
    """Logits, features, and weight and bias of the head."""
    model = built(name)
    model.load_state_dict(state)
    head = head_of(name, model)
    seen = []
    handle = head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    logits = torch.cat([model(images[start : start + 16]) for start in range(0, len(images), 16)])
    handle.remove()
    return logits, torch.cat(seen), head.weight.detach().clone(), head.bias.detach().clone()


def accuracy(name: str, state: State, data: tuple[Tensor, Tensor]) -> float:
    logits = outputs(name, state, data[0])[0]
    if not bool(torch.isfinite(logits).all()):
        return -1.0
    return int((logits.argmax(1) == data[1]).sum()) / len(data[1])


def greedy_soup(name: str, states: list[State], val: tuple[Tensor, Tensor]) -> State:
    scores = [accuracy(name, state, val) for state in states]
    order = sorted(range(len(states)), key=lambda i: scores[i], reverse=True)
    kept = [states[order[0]]]
    best = scores[order[0]]
    for i in order[1:]:
        found = accuracy(name, mean([*kept, states[i]]), val)
        if found > best:
            kept = [*kept, states[i]]
            best = found
    return mean(kept)


def greedy_halving(name: str, states: list[State], val: tuple[Tensor, Tensor]) -> State:
    scores = [accuracy(name, state, val) for state in states]
    best = max(scores)
    soup = states[scores.index(best)]
    for state in states:
        trial = mixture([soup, state], [0.5, 0.5])
        found = accuracy(name, trial, val)
        if found > best:
            soup = trial
            best = found
    return soup


def greedy_indexed(name: str, states: list[State], val: tuple[Tensor, Tensor]) -> tuple[State, list[int]]:
    soup = states[0]
    accepted = [0]
    best = accuracy(name, soup, val)
    for j in range(1, len(states)):
        trial = mixture([soup, states[j]], [j / (j + 1), 1 / (j + 1)])
        found = accuracy(name, trial, val)
        if found > best:
            soup = trial
            best = found
            accepted.append(j)
    return soup, accepted


def logits_of(
    name: str, method: str, settings: dict[str, Any], states: list[State], data: dict[str, tuple[Tensor, Tensor]]
) -> Tensor:
    """What a candidate says of the test images; `states` are the (scaled) members of its subset, in order."""
    test = data["test"][0]
    val = data["val"]
    weights = {
        "single": lambda: states[0],
        "uniform_soup": lambda: mean(states),
        "greedy_soup": lambda: greedy_soup(name, states, val),
        "greedy_halving": lambda: greedy_halving(name, states, val),
        "greedy_indexed": lambda: greedy_indexed(name, states, val)[0],
    }
    if method in weights:
        return outputs(name, weights[method](), test)[0]
    if method == "greedy_ensemble":
        states = [states[i] for i in greedy_indexed(name, states, val)[1]]
    each = [outputs(name, state, test) for state in states]
    if method == "logit_average" or settings.get("space") == "logits":
        return sum(one[0] for one in each) / len(each)
    if method == "probability_average":
        # In logs: probabilities of members that are sure of different classes would all be 0 or 1, and tie.
        logits = np.stack([one[0].double().numpy() for one in each])
        with np.errstate(invalid="ignore"):
            logs = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
            return torch.from_numpy(np.logaddexp.reduce(logs, axis=0) - np.log(len(each)))
    features = sum(one[1] for one in each) / len(each)
    heads = each[:1] if settings.get("head") == "first" else each
    weight, bias = (sum(one[part] for one in heads) / len(heads) for part in (2, 3))
    return features @ weight.T + bias

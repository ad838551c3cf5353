"""Every item of the published protocol against a plain re-computation, to the last example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import sweep
from sweep.storage.run_folder import RunFolder
from tests.golden import plain

ARCHITECTURES = {
    "cnn": "cnn",
    "mlp": "mlp",
    "resnet": "{timm: {name: test_resnet}}",
    "vit": "{timm: {name: test_vit}}",
}
MEMBERS = 4
GRIDS = """
methods:
  - uniform_soup
  - greedy_soup
  - greedy_halving
  - greedy_indexed
  - {greedy_ensemble: {space: [logits, features]}}
  - logit_average
  - probability_average
  - {feature_average: {head: [first, average]}}
grids:
  - subsets: {prefixes: [2, 4], sizes: [3], per_size: 1}
    scalings:
      - none
      - magnify: {factor: 10, members: [all, first, last, all_but_first, all_but_last]}
  - subsets: {prefixes: [3]}
    scalings: {magnify: {factor: [0.5, 100], members: [all, first, last]}}
"""


def write_images(root: Path) -> None:
    """Ten classes of noisy colours, written as an image folder."""
    random = np.random.default_rng(0)
    colours = random.uniform(40, 215, (plain.CLASSES, 3))
    for split, count in (("train", 6), ("val", 3), ("test", 4)):
        for label in range(plain.CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = colours[label] + random.normal(0, 60, (plain.SIDE, plain.SIDE, 3))
                pixels += random.normal(0, 45, 3)
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")


def trained(name: str, images: Tensor, labels: Tensor, steps: int, start: plain.State | None, seed: int) -> plain.State:
    """A few steps of Adam, in train mode: members that differ and are neither perfect nor by chance."""
    torch.manual_seed(seed)
    model = plain.new_model(name)
    if start:
        model.load_state_dict(start)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        chosen = torch.randperm(len(images))[:20]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    return plain.State((key, value.detach().clone()) for key, value in model.state_dict().items())


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """The rows of one real sweep over four pools of checkpoints, by architecture, beside the checkpoints."""
    root = tmp_path_factory.mktemp("exact")
    write_images(root / "images")
    images, labels = plain.read(root / "images", "train")
    populations = []
    for name, written in ARCHITECTURES.items():
        (root / name).mkdir()
        start = trained(name, images, labels, 12, None, 0)
        for member in range(MEMBERS):
            torch.save(dict(trained(name, images, labels, 3, start, member + 1)), root / name / f"{member}.pth")
        populations.append(f'  - {{name: {name}, architecture: {written}, checkpoints: "{root / name}/*.pth"}}')
    config = root / "exact.yaml"
    head = f"name: exact\ndataset: {{imagefolder: {{root: {root / 'images'}, size: {plain.SIDE}}}}}\npopulations:\n"
    tail = f"execution: {{mlflow: false, storage: {root / 'runs'}}}\n"
    config.write_text(head + "\n".join(populations) + GRIDS + tail)
    sweep.run(sweep.load(config))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARCHITECTURES}
    for row in RunFolder(root / "runs" / "exact").read("candidates").to_pylist():
        found[row["population"]].append(row | {"root": root})
    return found


def scaled(states: list[plain.State], row: dict[str, Any], keys: frozenset[str]) -> list[plain.State]:
    """The members of a subset, those that the row names times its factor."""
    if row["scaling"] == "none":
        return [plain.times(state, 1.0, keys) for state in states]
    last = len(states) - 1
    chosen = {
        "all": lambda i: True,
        "first": lambda i: i == 0,
        "last": lambda i: i == last,
        "all_but_first": lambda i: i > 0,
        "all_but_last": lambda i: i < last,
    }[row["scaling_members"]]
    factor = row["scaling_factor"]
    return [plain.times(s, factor if chosen(i) else 1.0, keys) for i, s in enumerate(states)]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_row_is_what_a_plain_loop_gives(name: str, rows: dict[str, list[dict[str, Any]]]) -> None:
    own = rows[name]
    root = own[0]["root"]
    data = {split: plain.read(root / "images", split) for split in ("test", "val")}
    files = [root / name / f"{member}.pth" for member in range(MEMBERS)]
    states = [plain.State(torch.load(file, weights_only=True)) for file in files]
    keys = plain.learnable(name)
    plain.forget()
    wrong = []
    worst = 0.0
    for row in own:
        members = scaled([states[index] for index in row["member_indices"]], row, keys)
        logits = plain.logits_of(name, row["method"], json.loads(row["settings"]), members, data)
        if not bool(torch.isfinite(logits).all()):
            wrong += [row] if row["status"] != "non_finite" else []
            continue
        labels = data["test"][1]
        right = int((logits.argmax(1) == labels).sum())
        loss = float(torch.nn.functional.cross_entropy(logits.double(), labels))
        worst = max(worst, abs(row["cross_entropy"] - loss) / max(1.0, abs(loss)))
        wrong += [row] if round(row["accuracy"] * len(labels)) != right else []
    kinds = {(row["method"], row["settings"], row["scaling_members"], row["scaling_factor"]) for row in own}
    assert len(kinds) >= 9 * 12
    assert [(row["method"], row["scaling_settings"], row["member_indices"]) for row in wrong] == []
    assert worst <= 1e-5

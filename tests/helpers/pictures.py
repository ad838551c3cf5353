"""Pictures of random pixels, and folders of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]


def picture(seed: int, size: tuple[int, int] = (6, 6), channels: int = 3) -> Array:
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def two_classes(root: Path) -> Path:
    """Two classes, two images of six pixels each way in every split."""
    for place, split in enumerate(("train", "val", "test")):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for index in range(2):
                seed = 10 * place + 3 * label + index
                Image.fromarray(picture(seed)).save(root / split / name / f"{index}.png")
    return root

"""What reads files of others, fed by coverage: inputs that reach new lines are kept and changed further.

    pip install atheris
    python -m tests.fuzz config 600
    python -m tests.fuzz checkpoint | part | picture SECONDS

Seeds are the shipped configurations and small files as they should be. An input is survived if it is read or refused in
our words; anything else ends the run, with the input in a file. The last lines say how many inputs were tried.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris
import torch

with atheris.instrument_imports(include=["sweep", "yaml", "PIL"]):
    from PIL import Image

    from sweep.config.document import ConfigError
    from sweep.config.loader import load
    from sweep.core.dataset import DataError
    from sweep.plugins.datasets._pictures import decode_image
    from sweep.storage import parts
    from sweep.storage.checkpoint_forms import read_checkpoint
    from sweep.storage.checkpoints import CheckpointError

from tests.helpers.layouts import layout_of

ROOT = Path(__file__).resolve().parent.parent
LAYOUT = layout_of(torch.nn.Linear(2, 3).state_dict())
ROW = {"candidate_id": "a" * 32, "split": "test", "accuracy": 0.5, "members": ["b" * 32], "method": "uniform_soup"}


def config(file: Path) -> None:
    """A configuration."""
    with suppress(ConfigError):
        load(file)


def checkpoint(file: Path) -> None:
    """A model that was trained elsewhere."""
    with suppress(CheckpointError):
        read_checkpoint(file, LAYOUT)


def part(file: Path) -> None:
    """A file of a table."""
    parts.find_defect("candidates", file)


def picture(file: Path) -> None:
    """A picture of a data set."""
    with suppress(DataError):
        assert decode_image(file.read_bytes(), "it", 8, "RGB").shape[-2:] == (8, 8)


TARGETS: dict[str, tuple[Callable[[Path], None], str]] = {
    "config": (config, "yaml"),
    "checkpoint": (checkpoint, "pt"),
    "part": (part, "parquet"),
    "picture": (picture, "png"),
}


def seeds(name: str) -> list[bytes]:
    """Inputs to begin with."""
    if name == "config":
        return [file.read_bytes() for file in sorted((ROOT / "configs").rglob("*.yaml"))]
    if name == "part":
        return [parts.rows_to_parquet("candidates", [ROW] * count) for count in (0, 1, 3)]
    if name == "picture":
        picture = Image.linear_gradient("L").resize((9, 7))
        return [_written(lambda file, kind=kind: picture.save(file, kind)) for kind in ("PNG", "GIF", "JPEG", "BMP")]
    state = torch.nn.Linear(2, 3).state_dict()
    return [_written(lambda file, content=content: torch.save(content, file)) for content in (state, {"model": state})]


def _written(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def main(name: str, seconds: int) -> None:
    """Feed one target for so long."""
    call, suffix = TARGETS[name]
    place = Path(tempfile.mkdtemp())
    corpus = place / "corpus"
    file = place / f"input.{suffix}"
    corpus.mkdir()
    for number, seed in enumerate(seeds(name)):
        (corpus / str(number)).write_bytes(seed)
    os.chdir(place)

    def once(content: bytes) -> None:
        file.write_bytes(content)
        call(file)

    limits = [f"-max_total_time={seconds}", "-max_len=8192", "-rss_limit_mb=4096", "-timeout=30"]
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", str(corpus)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

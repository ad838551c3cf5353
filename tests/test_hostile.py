"""What comes from elsewhere and is wrong, by accident or on purpose: told in one line, never run, never a traceback.

`HOSTILE` multiplies the number of inputs.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from sweep.checkpoints import CheckpointError, read_checkpoint
from sweep.cli import main
from sweep.config import load
from sweep.data import DataError
from sweep.datasets._pictures import of_bytes
from sweep.document import ConfigError
from sweep.files import StoreError
from sweep.plan import make_plan
from sweep.repair import repair
from sweep.store import RunFolder
from sweep.table import SCHEMA_VERSION

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
MORE = int(os.environ.get("HOSTILE", "1"))
LAX = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def often(count: int) -> Callable[[Any], Any]:
    return settings(max_examples=count * MORE, deadline=None, suppress_health_check=LAX)


ODD = st.sampled_from(
    [
        *("no", "null", "~", ".inf", "-.nan", "1e999", "-1", "0", "0.5", "[]", "{}", "[[]]", "*a", "&a ", "!!int "),
        *(
            "!!python/object/apply:os.mkdir [x]",
            "{<<: {}}",
            "../..",
            "/etc/passwd",
            "a/b",
            "<b>",
            "\x00",
            "\x85",
            "\u2028",
        ),
        *(
            ":",
            "'",
            '"',
            "9" * 400,
            "2024-01-01",
            "#",
            "|",
            "\t",
            "<<",
            "?",
            "- ",
            "\n",
            "%",
            "é",
            "true",
            "1_0",
            "0x1f",
        ),
        *("{from: 0, to: 1, steps: 3}", "{from: 1}", "[1, 2]", "none", "members", "x:y", "a: 1\n", "1:30", "1e-3"),
    ]
)
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["delete", "double", "replace", "swap"]), st.integers(0, 10**6), ODD | st.text(max_size=9)
    ),
    min_size=1,
    max_size=4,
)


def outcome(call: Callable[[], Any], kind: type[Exception]) -> tuple[Any, Any]:
    """What a call gives, or the error of that kind; any other error is a failure."""
    try:
        return call(), None
    except kind as error:
        return None, error


def edited(text: str, edits: list[tuple[str, int, str]]) -> str:
    tokens = re.findall(r"\s+|[\w.]+|[^\w\s]", text)
    for kind, number, odd in edits:
        place = number % len(tokens)
        if kind == "swap":
            other = (place + 7 * len(odd)) % len(tokens)
            tokens[place], tokens[other] = tokens[other], tokens[place]
        else:
            tokens[place] = {"delete": "", "double": 2 * tokens[place], "replace": odd}[kind]
    return "".join(tokens)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda file: file.stem)
@given(edits=EDITS)
@often(20)
def test_a_damaged_configuration_is_a_located_mistake_or_a_sweep(
    tmp_path: Path, config: Path, edits: list[tuple[str, int, str]]
) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(edited(config.read_text(), edits), encoding="utf-8", newline="")
    sweep, error = outcome(lambda: load(file), ConfigError)
    if error:
        assert error.mistakes
        assert all(re.match(rf"{re.escape(str(file))}(:\d+:\d+)?: .", str(mistake)) for mistake in error.mistakes)
        return
    assert sweep.folder.parent.name == "runs"
    assert sweep.folder.parent.parent == Path.cwd(), "the name of a sweep leads nowhere else"
    if sum(population.pools * population.members for population in sweep.populations) < 50:
        assert make_plan(sweep, {p.dataset: "absent" for p in sweep.populations}).pools


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@often(200)
def test_any_bytes_as_a_configuration_are_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(content)
    done = CliRunner().invoke(main, ["check", str(file)])
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    assert str(file) in done.stderr


@pytest.mark.parametrize(
    "name", ["../up", "/abs", "a/b", "..", ".hidden", "", "a\x00b", "x" * 65, "a b", "<script>", "-rf", "a\nb"]
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "f.yaml"
    config = {"name": name, "populations": [{"architecture": "linear"}], "subsets": {"sizes": [2]}}
    file.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"f\.yaml:1:\d+: `name`"):
        load(file)


STATE = {"a.weight": torch.arange(600.0).reshape(20, 30), "a.bias": torch.zeros(20), "n": torch.tensor(3)}


@cache
def checkpoint(kind: str) -> bytes:
    if kind == "safetensors":
        return save(STATE)
    sink = io.BytesIO()
    torch.save({"state_dict": STATE}, sink, _use_new_zipfile_serialization=kind == "pth")
    return sink.getvalue()


def read_bytes(folder: Path, content: bytes, kind: str) -> dict[str, torch.Tensor] | None:
    """The tensors of a file with that content; None where it is refused by its name."""
    file = folder / ("a.safetensors" if kind == "safetensors" else "a.pth")
    file.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, error = outcome(lambda: read_checkpoint(file), CheckpointError)
    assert error is None or file.name in str(error)
    return cast("dict[str, torch.Tensor] | None", found)


KINDS = st.sampled_from(["pth", "legacy", "safetensors"])


@pytest.mark.parametrize("kind", ["pth", "legacy", "safetensors"])
def test_a_checkpoint_cut_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    content = checkpoint(kind)
    for size in {*range(0, len(content), 1024 // min(MORE, 64)), len(content) - 1}:
        assert read_bytes(tmp_path, content[:size], kind) is None, size
    assert read_bytes(tmp_path, content, kind) is not None


@given(KINDS, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), min_size=1, max_size=8))
@often(300)
def test_flipped_bits_in_a_checkpoint_are_refused_or_give_plain_tensors(
    tmp_path: Path, kind: str, flips: list[tuple[int, int]]
) -> None:
    content = bytearray(checkpoint(kind))
    for place, bit in flips:
        content[place % len(content)] ^= 1 << bit
    found = read_bytes(tmp_path, bytes(content), kind)
    assert found is None or sum(tensor.numel() for tensor in found.values()) <= 64 * len(content)


def zipped(parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(f"archive/{name}", content)
    return sink.getvalue()


def parts_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {each.filename.split("/", 1)[1]: archive.read(each) for each in archive.infolist()}


def test_zip_bombs_are_refused_before_they_unfold(tmp_path: Path) -> None:
    parts = parts_of(checkpoint("pth"))
    assert read_bytes(tmp_path, zipped(parts), "pth") is not None
    assert read_bytes(tmp_path, zipped(parts, zipfile.ZIP_DEFLATED), "pth") is None
    bomb = zipped(parts | {"data/0": bytes(200 << 20)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1 << 20
    assert read_bytes(tmp_path, bomb, "pth") is None


def test_tensors_larger_than_their_file_are_refused(tmp_path: Path) -> None:
    for tensors in (
        {"a": torch.zeros(1).expand(1 << 40)},
        {str(n): torch.zeros(1000).expand(1000, 1000) for n in range(3)},
        {"a": torch.zeros(2).to_sparse()},
        {"a": torch.zeros(1 << 20, device="meta")},
        {3: torch.zeros(1)},
        {"a": torch.zeros(1), "b": [torch.zeros(1)]},
    ):
        sink = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(tensors, sink)
        assert read_bytes(tmp_path, sink.getvalue(), "pth") is None, list(tensors)
    tied = {"a": STATE["a.weight"], "b": STATE["a.weight"]}
    sink = io.BytesIO()
    torch.save(tied, sink)
    found = read_bytes(tmp_path, sink.getvalue(), "pth")
    assert found is not None
    assert found.keys() == tied.keys()


@given(
    st.integers(0, 2**64 - 1), st.sampled_from(["F32", "F64", "U8", "F99"]), st.lists(st.integers(0, 2**62), max_size=3)
)
@often(100)
def test_headers_of_safetensors_that_claim_anything_are_refused_or_true(
    tmp_path: Path, length: int, kind: str, shape: list[int]
) -> None:
    header = json.dumps({"a": {"dtype": kind, "shape": shape, "data_offsets": [0, 8]}}).encode()
    for size in (length, len(header)):
        found = read_bytes(tmp_path, struct.pack("<Q", size) + header + bytes(8), "safetensors")
        assert found is None or found["a"].numel() * found["a"].element_size() in (4, 8, 32)


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = call, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "wrap", [lambda it: it, lambda it: {"state_dict": it}, lambda it: {"a": torch.zeros(1), "b": it}]
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, wrap: Callable[[Any], Any], protocol: int) -> None:
    mark = tmp_path / "mark"
    calls = [(os.mkdir, str(mark)), (eval, f"__import__('os').mkdir({str(mark)!r})"), (bytearray, 1 << 40)]
    for call, argument in calls:
        content = wrap(Code(call, argument))
        sink = io.BytesIO()
        torch.save(content, sink, pickle_protocol=max(protocol, 2))
        assert read_bytes(tmp_path, sink.getvalue(), "pth") is None
        if not isinstance(content, dict) or "a" not in content:
            assert read_bytes(tmp_path, pickle.dumps(content, protocol), "pth") is None
        parts = parts_of(checkpoint("pth")) | {"data.pkl": pickle.dumps(Code(call, argument), protocol)}
        assert read_bytes(tmp_path, zipped(parts), "pth") is None
    assert not mark.exists()


def picture(form: str, mode: str = "RGB", size: tuple[int, int] = (12, 9), **more: Any) -> bytes:
    sink = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").convert("RGB").convert(mode).save(sink, form, **more)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        *(("JPEG", "CMYK"), ("JPEG", "L"), ("TIFF", "I;16"), ("PNG", "I;16"), ("PNG", "1"), ("PNG", "P"), ("GIF", "P")),
        *(("PNG", "LA"), ("PNG", "RGBA"), ("TIFF", "CMYK"), ("TIFF", "F"), ("WEBP", "RGBA"), ("BMP", "RGB")),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (12, 9)])
def test_pictures_of_every_mode_and_shape_are_read(form: str, mode: str, size: tuple[int, int]) -> None:
    if mode == "I;16":
        sink = io.BytesIO()
        Image.fromarray(np.full(size[::-1], 65535, dtype=np.uint16)).save(sink, form)
        content = sink.getvalue()
    else:
        content = picture(form, mode, size)
    for wanted in ("L", "RGB"):
        pixels = of_bytes(content, "x", 8, wanted)
        assert (pixels.shape, pixels.dtype) == ((len(wanted), 8, 8), np.uint8)


def test_the_first_picture_of_an_animation_is_read() -> None:
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "blue")]
    for form in ("GIF", "WEBP", "TIFF", "PNG"):
        sink = io.BytesIO()
        frames[0].save(
            sink, form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
        )
        red, _, blue = of_bytes(sink.getvalue(), "x", 4, "RGB")[:, 0, 0]
        assert (red, blue) == (255, 0) if form == "WEBP" else red > 250 > blue


def test_pictures_beyond_the_bound_are_refused_unread() -> None:
    large = Image.new("1", (20_000, 20_000))
    sink = io.BytesIO()
    large.save(sink, "PNG")
    assert len(sink.getvalue()) < 1 << 20
    with pytest.raises(DataError, match=r"^(cannot read the image )?huge\.png: "):
        of_bytes(sink.getvalue(), "huge.png", 8, "L")


def test_what_another_program_would_read_is_no_picture(tmp_path: Path) -> None:
    """PostScript is a program: Pillow would hand it to an interpreter."""
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) print\nshowpage\n"
    with pytest.raises(DataError, match=r"^cannot read the image a\.png: "):
        of_bytes(script, "a.png", 8, "RGB")


FORMS = st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
CACHED = cache(picture)


@given(
    FORMS,
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    st.none() | st.integers(0, 10**6),
)
@often(400)
@example("PNG", [], 0)
def test_damaged_pictures_are_refused_by_name_or_read(
    form: str, changes: list[tuple[int, int]], cut: int | None
) -> None:
    content = bytearray(CACHED(form))
    for place, value in changes:
        content[place % len(content)] = value
    if cut is not None:
        content = content[: cut % len(content)]
    pixels, error = outcome(lambda: of_bytes(bytes(content), "x.png", 8, "RGB"), DataError)
    assert "x.png" in str(error) if error else pixels.shape == (3, 8, 8)


class Bytes(bytes):
    """Bytes that a failing test does not show."""

    def __repr__(self) -> str:
        return f"{len(self)} bytes"


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Bytes:
    folder = RunFolder(tmp_path_factory.mktemp("part"))
    rows = [{"candidate_id": f"c{n}", "split": "test", "status": "ok", "accuracy": n / 50} for n in range(50)]
    folder.append("candidates", "a", rows)
    return Bytes(folder.part("candidates", "a").read_bytes())


@given(st.none() | st.integers(0, 10**6), st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=4))
@often(150)
def test_a_damaged_part_is_named_and_repair_lets_its_rows_be_made_anew(
    part: Bytes, cut: int | None, flips: list[tuple[int, int]]
) -> None:
    import tempfile

    content, accuracies = bytearray(part), {None, *(n / 50 for n in range(50))}
    for place, mask in flips:
        content[place % len(content)] ^= mask
    if cut is not None:
        content = content[: cut % len(content)]
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name))
        folder.create({"schema_version": SCHEMA_VERSION})
        folder.append("candidates", "whole", [{"candidate_id": "w", "split": "test", "status": "ok"}])
        file = folder.part("candidates", "bad")
        file.write_bytes(content)
        rows, error = outcome(lambda: folder.read("candidates"), StoreError)
        assert error is None or str(file) in str(error)
        moved = repair(folder)
        assert moved or rows is not None
        assert (
            list(folder.statuses("candidates", "candidate_id")) == ["w"]
            if moved
            else set(rows["accuracy"].to_pylist()) <= accuracies
        )


def test_a_part_of_another_table_or_of_nobody_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create({"schema_version": SCHEMA_VERSION})
    folder.append("members", "m", [{"member_id": "m", "status": "failed"}])
    folder.append("candidates", "whole", [{"candidate_id": "w", "split": "test", "status": "ok"}])
    file = folder.part("candidates", "bad")
    nobody = pa.table({"colour": ["red"]})
    for write in (
        lambda: file.write_bytes(folder.part("members", "m").read_bytes()),
        lambda: pq.write_table(nobody, file),
    ):
        write()
        with pytest.raises(StoreError, match=re.escape(str(file))):
            folder.read("candidates")
        assert repair(folder)
        assert list(folder.statuses("candidates", "candidate_id")) == ["w"]

"""Checkpoints that are cut, flipped, too large or hold code: refused by their name, and nothing in them is ever run."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from sweep.storage.checkpoint_forms import read_checkpoint
from sweep.storage.checkpoints import CheckpointError
from tests.helpers.hostile import MORE, often, outcome
from tests.helpers.layouts import layout_of

STATE = {"a.weight": torch.arange(600.0).reshape(20, 30), "a.bias": torch.zeros(20), "n": torch.tensor(3)}


@cache
def checkpoint(kind: str) -> bytes:
    if kind == "safetensors":
        return save(STATE)
    sink = io.BytesIO()
    torch.save({"state_dict": STATE}, sink, _use_new_zipfile_serialization=kind == "pth")
    return sink.getvalue()


def read_bytes(
    folder: Path, content: bytes, kind: str, expected: dict[str, torch.Tensor] = STATE
) -> dict[str, torch.Tensor] | None:
    """The tensors of a file with that content, for a network of the expected ones; None where it is refused by name."""
    file = folder / ("a.safetensors" if kind == "safetensors" else "a.pth")
    file.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, error = outcome(lambda: read_checkpoint(file, layout_of(expected)).state, CheckpointError)
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
        {"b": [torch.zeros(1)]},
    ):
        sink = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(tensors, sink)
        assert read_bytes(tmp_path, sink.getvalue(), "pth") is None, list(tensors)
    tied = {"a": STATE["a.weight"], "b": STATE["a.weight"]}
    sink = io.BytesIO()
    torch.save(tied, sink)
    found = read_bytes(tmp_path, sink.getvalue(), "pth", tied)
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

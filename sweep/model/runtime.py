"""Torch's settings in a process that trains or evaluates: threads, device, memory, determinism."""

from __future__ import annotations

import ctypes
import os

import torch


def _tune_malloc() -> None:
    """Let glibc keep up to 1 GiB that was freed: each batch frees and asks for the same again.

    Left to itself it gives large tensors back, and the kernel's zeroing of new pages takes 10 to 50% of an evaluation.
    """
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # another C library may have none
        libc.mallopt(trim_threshold, 1 << 30)
        libc.mallopt(mmap_threshold, 1 << 30)


def _use_deterministic_cuda() -> None:
    """Let a GPU add up in one order where torch knows how; on a CPU it does so anyway, by other kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is asked for
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def setup_worker(threads: int, gpus: float) -> torch.device:
    """The device of a worker with that many GPUs, and torch so set that it gives the same bits again.

    Raises RuntimeError where GPUs were asked for and torch sees none.
    """
    torch.set_num_threads(threads)  # a reused process keeps the threads of whoever had it before
    _tune_malloc()
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if gpus and not torch.cuda.is_available():
        raise RuntimeError(f"{gpus:g} GPU asked for, and torch {torch.__version__} sees none: is it a CUDA build?")
    if gpus:
        _use_deterministic_cuda()
    return torch.device("cuda" if gpus else "cpu")

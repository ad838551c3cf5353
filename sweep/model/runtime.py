"""Settings of torch and of the C library in a process that trains or evaluates: threads, memory, determinism.

Without `_tune_malloc` 10 to 50% of an evaluation goes into zeroing memory; without `_use_deterministic_cuda` and the
flags of cuDNN a GPU may give other bits in each run; with TF32 products lose 13 of the 23 bits of their mantissa.
"""

from __future__ import annotations

import ctypes
import os

import torch


def _tune_malloc() -> None:
    """Let glibc keep up to 1 GiB of freed memory, since each batch frees and allocates the same sizes again.

    By default it returns large tensors to the kernel, whose zeroing of new pages takes 10 to 50% of an evaluation.
    """
    trim_threshold = -1  # M_TRIM_THRESHOLD in malloc.h
    mmap_threshold = -3  # M_MMAP_THRESHOLD
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # another C library may have none
        libc.mallopt(trim_threshold, 1 << 30)
        libc.mallopt(mmap_threshold, 1 << 30)


def _use_deterministic_cuda() -> None:
    """Use deterministic CUDA kernels where torch has them; CPU kernels are deterministic anyway."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first product
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def setup_worker(threads: int, gpus: float) -> torch.device:
    """Set up torch for reproducible results; return the device of a worker with that many GPUs.

    Raises RuntimeError if GPUs are requested and torch sees none.
    """
    torch.set_num_threads(threads)  # a reused process has the number of its previous task
    _tune_malloc()
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if gpus and not torch.cuda.is_available():
        raise RuntimeError(f"{gpus:g} GPU asked for, and torch {torch.__version__} sees none: is it a CUDA build?")
    if gpus:
        _use_deterministic_cuda()
    return torch.device("cuda" if gpus else "cpu")

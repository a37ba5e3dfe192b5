"""Floor 2, CUDA: the GPU, through ``cuda.core``."""

from __future__ import annotations

from functools import cache

from minigrad.errors import DeviceError, describe
from minigrad.kernels.cuda.backend import Backend


@cache
def backend() -> Backend:
    """The backend of the first GPU; DeviceError, which says what is missing, where there is none."""
    raise DeviceError(describe("device", "no GPU", "an NVIDIA GPU with its driver"))

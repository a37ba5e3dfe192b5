"""Floor 2, CUDA: random numbers from a key, the same as on the CPU to the last bit (``kernels/philox.py``)."""

# mypy: disable-error-code="no-untyped-def, name-defined"
# ruff: noqa: F821

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.kernels.cuda.device import Array, Device
from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import cuda, store2, store4
from minigrad.kernels.loops import Shape, row_major
from minigrad.kernels.philox import words


def bernoulli_kernel(out, items, key, bound, one):
    """Word i of the stream of ``key`` decides on out[i]: one if it is below ``bound``, else 0."""
    i = cuda.grid(1)
    while i < items:
        a, b, c, d = words(i, key)
        a, b, c, d = a < bound, b < bound, c < bound, d < bound
        store4(out, 4 * i, (one if a else 0.0, one if b else 0.0, one if c else 0.0, one if d else 0.0))
        i += cuda.gridsize(1)


def uniform_singles_kernel(out, items, key):
    """out[i] = the upper 24 bits of word i, in units of 2^-24."""
    i, unit = cuda.grid(1), 5.9604644775390625e-08
    while i < items:
        a, b, c, d = words(i, key)
        store4(out, 4 * i, (T(a >> 8) * unit, T(b >> 8) * unit, T(c >> 8) * unit, T(d >> 8) * unit))
        i += cuda.gridsize(1)


def uniform_doubles_kernel(out, items, key):
    """out[i] = the upper 27 bits of word 2 i and 26 of the next, in units of 2^-53."""
    i, unit = cuda.grid(1), 1.1102230246251565e-16
    while i < items:
        a, b, c, d = words(i, key)
        store2(out, 2 * i, (T((a >> 5 << 26) + (b >> 6)) * unit, T((c >> 5 << 26) + (d >> 6)) * unit))
        i += cuda.gridsize(1)


_WIDE = ("STG.E.128",)
_BERNOULLI = Kernel(bernoulli_kernel, "T* i8 i8 i8 T", promises=_WIDE)
_SINGLES = Kernel(uniform_singles_kernel, "T* i8 i8", dtypes=["float32"], promises=_WIDE)
_DOUBLES = Kernel(uniform_doubles_kernel, "T* i8 i8", dtypes=["float64"], promises=_WIDE)


def _fill(device: Device, kernel: Kernel, shape: Shape, each: int, dtype: Any, *args: Any) -> Array:
    """An array filled by a kernel that makes ``each`` numbers from one counter."""
    items = -(-math.prod(shape) // each)
    out = device.empty((each * items,), dtype)
    device.launch(kernel, out.dtype, device.blocks(items), out, items, *args)
    return out.view(tuple(shape), row_major(tuple(shape)))


def bernoulli(device: Device, shape: Shape, p: float, key: int, dtype: Any, one: float = 1.0) -> Array:
    """``one`` with probability p, to within 2^-32, else 0: the same for the same ``key``, 0 <= key < 2^63."""
    return _fill(device, _BERNOULLI, shape, 4, dtype, key, round(p * 2**32), np.dtype(dtype).type(one))


def uniform(device: Device, shape: Shape, key: int, dtype: Any) -> Array:
    """Uniform on [0, 1): the same for the same ``key``, 0 <= key < 2^63."""
    single = np.dtype(dtype).itemsize == 4
    return _fill(device, _SINGLES if single else _DOUBLES, shape, 4 if single else 2, dtype, key)

"""Floor 2, CUDA: data moved, not computed: copies, casts, joined and padded arrays.

All of it is limited by the bytes read and written.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from minigrad.kernels.cuda.device import Array, Device
from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import cuda
from minigrad.kernels.cuda.loops import Loops
from minigrad.kernels.loops import Shape, row_major

_COPY = Loops("copy", "{x0}", ["T*", "T*"])


def copy_into(device: Device, x: Array, to: Array) -> None:
    """to[...] = x, which broadcasts to its shape; both of one dtype and with any strides."""
    _COPY(device, to.dtype, [x], to)


def copy(device: Device, x: Array) -> Array:
    """A contiguous array of its own."""
    out = device.empty(x.shape, x.dtype)
    copy_into(device, x, out)
    return out


def contiguous(device: Device, x: Array) -> Array:
    return x if x.contiguous else copy(device, x)


@cache
def _cast(source: str, to_bool: bool) -> Loops:
    return Loops(f"cast_{source}", "{x0} != 0" if to_bool else "T({x0})", [f"{source}*", "T*"])


def astype(device: Device, x: Array, dtype: Any) -> Array:
    dtype = np.dtype(dtype)
    out = device.empty(x.shape, dtype)
    own = "u1" if x.dtype.kind == "b" else f"{x.dtype.kind}{x.dtype.itemsize}"
    _cast(own, dtype.kind == "b")(device, dtype, [x], out)
    return out


def fill_kernel(out, value, n):
    i = cuda.grid(1)
    while i < n:
        out[i] = value
        i += cuda.gridsize(1)


_FILL = Kernel(fill_kernel, "T* T i8")


def full(device: Device, shape: Shape, value: Any, dtype: Any) -> Array:
    size = math.prod(shape)
    if size <= 16:  # a small copy is no dearer than a kernel
        return device.put(np.full(shape, value, dtype))
    out = device.empty(tuple(shape), dtype)
    device.launch(_FILL, out.dtype, device.blocks(size), out, np.asarray(value).astype(dtype)[()], size)
    return out


def concatenate(device: Device, xs: Sequence[Array], axis: int) -> Array:
    shape, axis = list(xs[0].shape), axis % xs[0].ndim
    shape[axis] = sum(x.shape[axis] for x in xs)
    out, start = device.empty(tuple(shape), xs[0].dtype), 0
    for x in xs:
        stop = start + x.shape[axis]
        copy_into(device, x, out.cut((slice(None),) * axis + (slice(start, stop),)))
        start = stop
    return out


def pad(device: Device, x: Array, widths: Sequence[tuple[int, int]], constant_values: Any = 0) -> Array:
    """``widths``: elements before and after, for each axis."""
    shape = tuple(a + n + b for n, (a, b) in zip(x.shape, widths))
    out = full(device, shape, constant_values, x.dtype)
    copy_into(device, x, out.cut(tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, widths))))
    return out


def reshape(device: Device, x: Array, shape: Shape) -> Array:
    """A view where x is contiguous, or only axes of size 1 come and go."""
    real = [n for n in shape if n != 1]
    if not x.contiguous and real == [n for n in x.shape if n != 1]:
        strides = iter([s for n, s in zip(x.shape, x.strides) if n != 1])
        return x.view(tuple(shape), tuple([0 if n == 1 else next(strides) for n in shape]))
    return contiguous(device, x).view(tuple(shape), row_major(tuple(shape)))

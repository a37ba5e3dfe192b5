"""Floor 2, CUDA: data moved, not computed: copies, casts, joined and padded arrays.

All of it is limited by the bytes read and written.
"""

# mypy: disable-error-code="no-untyped-def, name-defined"
# ruff: noqa: F821

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from minigrad.kernels.cuda.device import Array, Device
from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import cuda, store4
from minigrad.kernels.cuda.loops import Loops, lowest
from minigrad.kernels.loops import Shape, fold, row_major, spread

_COPY = Loops("copy", "{x0}", ["T*", "T*"])


def turn_kernel(x, x_at, x_row, x_batch, out, out_at, out_row, out_batch, n, m):
    """out[b, i, j] = x[b, i, j] for i < n and j < m, where neighbours in i are neighbours in x, and neighbours in j in
    out: a block for each tile of 32 by 32, by way of shared memory, so reads and writes are of whole lines."""
    tile = cuda.shared.array(1056, T)  # 32 rows of 33: a column is in 32 banks
    wide = (m + 31) // 32
    b, at = cuda.blockIdx.y, cuda.blockIdx.x
    lane, warp = cuda.threadIdx.x % 32, cuda.threadIdx.x // 32
    i, j = at // wide * 32, at % wide * 32
    x_at += b * x_batch + j * x_row + i
    out_at += b * out_batch + i * out_row + j
    for k in range(4):
        row = warp + 8 * k
        if i + lane < n and j + row < m:
            tile[row * 33 + lane] = x[x_at + row * x_row + lane]
    cuda.syncthreads()
    for k in range(4):
        row = warp + 8 * k
        if i + row < n and j + lane < m:
            out[out_at + row * out_row + lane] = tile[lane * 33 + row]


_TURN = Kernel(turn_kernel, "T* i8 i8 i8 T* i8 i8 i8 i8 i8", threads=256)


def _turn(device: Device, x: Array, to: Array) -> bool:
    """Copy by tiles where the innermost axes differ and what remains is one loop; whether that is so."""
    strides = spread(x.shape, x.strides, to.ndim), to.strides
    i, j = (next((a for a in range(to.ndim) if s[a] == 1 and to.shape[a] >= 16), -1) for s in strides)
    if i == j or min(i, j) < 0 or strides[0][j] == 0:
        return False
    rest = [a for a in range(to.ndim) if a not in (i, j)]
    sizes, steps = fold(tuple(to.shape[a] for a in rest), [tuple(s[a] for a in rest) for s in strides])
    if len(sizes) > 1 or sizes[0] > 65535:
        return False
    n, m = to.shape[i], to.shape[j]
    x_at, out_at = (sum((1 - k) * t for k, t in zip(to.shape, s) if t < 0) for s in strides)
    device.launch(_TURN, to.dtype, (-(-n // 32) * -(-m // 32), sizes[0]), lowest(x), x_at, strides[0][j], steps[0][0],
                  lowest(to), out_at, strides[1][i], steps[1][0], n, m)  # fmt: skip
    return True


def copy_into(device: Device, x: Array, to: Array) -> None:
    """to[...] = x, which broadcasts to its shape; both of one dtype and with any strides."""
    if to.size and not _turn(device, x, to):
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
    """Four neighbours for each thread."""
    i = 4 * cuda.grid(1)
    if i + 4 <= n:
        store4(out, i, (value, value, value, value))
    else:
        while i < n:
            out[i] = value
            i += 1


_FILL = Kernel(fill_kernel, "T* T i8", promises=("STG.E.128",))


def full(device: Device, shape: Shape, value: Any, dtype: Any) -> Array:
    size = math.prod(shape)
    if size <= 16:  # a small copy is no dearer than a kernel
        return device.put(np.full(shape, value, dtype))
    out = device.empty(tuple(shape), dtype)
    device.launch(_FILL, out.dtype, -(-size // (4 * device.threads)), out, np.asarray(value).astype(dtype)[()], size)
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

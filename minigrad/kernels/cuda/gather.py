"""Floor 2, CUDA: reading at positions, and adding at positions; positions are arrays of the host.

Additions run in the order of the positions, at most ``PIECE`` of them in one thread, whose sums are added up in the
same way: no atomics, so two runs agree to the last bit, and a row that nearly all positions name takes no longer.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.kernels.cpu.gather import is_basic, order_of
from minigrad.kernels.cuda import move
from minigrad.kernels.cuda.array import DeviceArray
from minigrad.kernels.cuda.device import Array, Device
from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import cuda, load4, store4

PIECE = 32


def take_kernel(x, positions, out, rows, n, count, width, shift, lanes):
    """out[a, i, :] = x[a, positions[i], :] for x (A, n, width) and out (A, count, width) of so many rows; a row by
    2^shift threads, each of which takes ``lanes`` neighbours at a time."""
    i = cuda.grid(1)
    while i >> shift < rows:
        row = i >> shift
        start = ((row // count) * n + positions[row % count]) * width
        k = (i & ((1 << shift) - 1)) * lanes
        while k < width:
            if lanes == 4:
                store4(out, row * width + k, load4(x, start + k))
            else:
                out[row * width + k] = x[start + k]
            k += lanes << shift
        i += cuda.gridsize(1)


def add_rows_kernel(g, order, starts, to, out, rows, width, shift, lanes):
    """out[to[j], :] = the sum of g[order[i], :] over starts[j] <= i < starts[j + 1]; threads as in ``take_kernel``."""
    j = cuda.grid(1)
    while j >> shift < rows:
        row = j >> shift
        k = (j & ((1 << shift) - 1)) * lanes
        while k < width:
            if lanes == 4:
                a, b, c, d = 0.0, 0.0, 0.0, 0.0
                for i in range(starts[row], starts[row + 1]):
                    x = load4(g, order[i] * width + k)
                    a += x[0]
                    b += x[1]
                    c += x[2]
                    d += x[3]
                store4(out, to[row] * width + k, (a, b, c, d))
            else:
                total = 0.0
                for i in range(starts[row], starts[row + 1]):
                    total += g[order[i] * width + k]
                out[to[row] * width + k] = total
            k += lanes << shift
        j += cuda.gridsize(1)


def pick_kernel(x, positions, out, count, n):
    """out[i] = x[i, positions[i]]."""
    i = cuda.grid(1)
    while i < count:
        out[i] = x[i * n + positions[i]]
        i += cuda.gridsize(1)


def place_kernel(g, positions, out, count, n):
    """out[i, positions[i]] = g[i], the rest is zero already."""
    i = cuda.grid(1)
    while i < count:
        out[i * n + positions[i]] = g[i]
        i += cuda.gridsize(1)


_WIDE = {1: (), 4: ("LDG.E.128", "STG.E.128")}
_TAKE = {n: Kernel(take_kernel, "T* i8* T* i8 i8 i8 i8 i8", promises=wide, lanes=n) for n, wide in _WIDE.items()}
_ADD = {n: Kernel(add_rows_kernel, "T* i8* i8* i8* T* i8 i8 i8", promises=wide, lanes=n) for n, wide in _WIDE.items()}
_PICK, _PLACE = Kernel(pick_kernel, "T* i8* T* i8 i8"), Kernel(place_kernel, "T* i8* T* i8 i8")


def aligned(*xs: Array) -> bool:
    """Whether four neighbours of each may be read at once."""
    return all(x.offset % (4 * x.dtype.itemsize) == 0 for x in xs)


def _lanes(width: int, *xs: Array) -> tuple[int, int]:
    """For rows of a width: how many neighbours a thread takes, and the logarithm of the threads of a row."""
    lanes = 4 if width % 4 == 0 and aligned(*xs) else 1
    return lanes, min((-(-width // lanes) - 1).bit_length(), 5) if width else 0


def _put(device: Device, *positions: np.ndarray) -> list[Array]:
    """Positions of the host on the device, copied at once."""
    sizes = [p.size for p in positions]
    whole = device.put(np.concatenate([p.ravel().astype(np.int64, copy=False) for p in positions]))
    return [whole.view((n,), (1,), end - n) for n, end in zip(sizes, np.cumsum(sizes).tolist())]


def take(device: Device, x: Array, positions: Any, axis: int) -> Array:
    """x (..., n, ...) at ``positions`` (...) of one axis; they are valid and non-negative. They may lie on the device
    already, as int64."""
    x, there = move.contiguous(device, x), isinstance(positions, DeviceArray)
    positions = positions if there else np.asarray(positions)
    before, n, after = math.prod(x.shape[:axis]), x.shape[axis], x.shape[axis + 1 :]
    out, width = device.empty((*x.shape[:axis], *positions.shape, *after), x.dtype), math.prod(after)
    if out.size:
        lanes, shift = _lanes(width, x)
        rows = before * positions.size
        (table,) = [positions] if there else _put(device, positions)
        device.launch(_TAKE[lanes], x.dtype, device.blocks(rows << shift), x, table, out, rows, n, positions.size,
                      width, shift)  # fmt: skip
    return out


def add_rows(device: Device, g: Array, positions: np.ndarray, rows: int) -> Array:
    """Zeros (rows, ...) with ``g[i]`` added at row ``positions[i]``; positions are valid and non-negative."""
    shape = (rows, *g.shape[positions.ndim :])
    total, width, dtype = move.full(device, shape, 0, g.dtype), math.prod(shape[1:]), g.dtype
    g, goals = move.contiguous(device, g), positions.ravel()
    if not g.size:
        return total
    order = order_of(goals)
    goals = goals[order]
    lanes, shift = _lanes(width, g)
    while True:
        first = np.flatnonzero(np.append(True, goals[1:] != goals[:-1]))  # of each goal, and of each piece of it
        since = np.arange(len(goals)) - np.repeat(first, np.diff(first, append=len(goals)))
        starts = np.flatnonzero(since % PIECE == 0)
        count, goals, whole = len(starts), goals[starts], len(starts) == len(first)
        to, out = (goals, total) if whole else (np.arange(count), device.empty((count, width), dtype))
        tables = _put(device, order, np.append(starts, len(since)), to)
        device.launch(_ADD[lanes], dtype, device.blocks(count << shift), g, *tables, out, count, width, shift)
        if whole:
            return total
        g, order = out, np.arange(count)


def pick(device: Device, x: Array, positions: np.ndarray) -> Array:
    """One element of each row of the last axis: (..., n) and (...) to (...)."""
    out = device.empty(positions.shape, x.dtype)
    if out.size:
        x = move.contiguous(device, x)
        device.launch(_PICK, x.dtype, device.blocks(out.size), x, *_put(device, positions), out, out.size, x.shape[-1])
    return out


def place(device: Device, g: Array, positions: np.ndarray, n: int) -> Array:
    """Zeros (..., n) with g (...) at ``positions`` of the last axis."""
    out = move.full(device, (*positions.shape, n), 0, g.dtype)
    if out.size:
        g = move.contiguous(device, g)
        device.launch(_PLACE, g.dtype, device.blocks(g.size), g, *_put(device, positions), out, g.size, n)
    return out


def _rows_of(index: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """The rows that an index reads, and how many axes of ``shape`` they number: all, or those that arrays at the front
    of the index walk over."""
    parts = index if isinstance(index, tuple) else (index,)
    axes = len(shape)
    if all(isinstance(p, np.ndarray) and p.ndim for p in parts):
        axes = min(axes, sum(p.ndim if p.dtype.kind == "b" else 1 for p in parts))
    return np.arange(math.prod(shape[:axes])).reshape(shape[:axes])[index], axes


def getitem(device: Device, x: Array, index: Any) -> Array:
    """``x[index]``, any index that NumPy takes: a view where NumPy gives a view."""
    if is_basic(index):
        return x.cut(index if isinstance(index, tuple) else (index,))
    rows, axes = _rows_of(index, x.shape)
    return take(device, move.reshape(device, x, (math.prod(x.shape[:axes]), *x.shape[axes:])), rows, 0)


def scatter(device: Device, g: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of ``shape`` with ``g`` added where ``x[index]`` read."""
    if is_basic(index):
        out = move.full(device, shape, 0, g.dtype)
        move.copy_into(device, g, out.cut(index if isinstance(index, tuple) else (index,)))
        return out
    rows, axes = _rows_of(index, shape)
    return move.reshape(device, add_rows(device, g, rows, math.prod(shape[:axes])), shape)

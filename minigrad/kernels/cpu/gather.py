"""Floor 2, CPU: reading at positions, and adding at positions.

Additions run in the order of the positions, so two runs agree to the last bit.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.kernels.cpu.build import Kernel
from minigrad.kernels.cpu.shared import Shared


def add_rows_kernel(g, positions, out, width):
    """out[positions[i], :] += g[i, :]."""
    for i in range(positions.size):
        row, to = g[i * width : (i + 1) * width], out[positions[i] * width : (positions[i] + 1) * width]
        for k in range(width):
            to[k] += row[k]


def pick_kernel(x, positions, out, n):
    """out[i] = x[i, positions[i]]."""
    for i in range(positions.size):
        out[i] = x[i * n + positions[i]]


def place_kernel(g, positions, out, n):
    """out[i, positions[i]] = g[i], the rest is zero already."""
    for i in range(positions.size):
        out[i * n + positions[i]] = g[i]


def join_rows_kernel(first, last, g, order, starts, out, width):
    """out[j] = the sum of g[order[i]] over starts[j] <= i < starts[j + 1]."""
    for j in range(first, last):
        to = out[j * width : (j + 1) * width]
        for k in range(width):
            to[k] = 0.0
        for i in range(starts[j], starts[j + 1]):
            row = g[order[i] * width : (order[i] + 1) * width]
            for k in range(width):
                to[k] += row[k]


_JOIN_ROWS = Shared(join_rows_kernel)
_ADD_ROWS, _PICK, _PLACE = Kernel(add_rows_kernel), Kernel(pick_kernel), Kernel(place_kernel)


def pick(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """One element of each row of the last axis: (..., n) and (...) to (...)."""
    out = np.empty(positions.shape, x.dtype)
    flat = np.ascontiguousarray(positions, np.int64).ravel()
    _PICK[x.dtype](np.ascontiguousarray(x).ravel(), flat, out.ravel(), x.shape[-1])
    return out


def place(g: np.ndarray, positions: np.ndarray, n: int) -> np.ndarray:
    """Zeros (..., n) with g (...) at ``positions`` of the last axis."""
    out = np.zeros((*positions.shape, n), g.dtype)
    flat = np.ascontiguousarray(positions, np.int64).ravel()
    _PLACE[g.dtype](np.ascontiguousarray(g).ravel(), flat, out.ravel(), n)
    return out


def add_rows(g: np.ndarray, positions: np.ndarray, rows: int) -> np.ndarray:
    """Zeros (rows, ...) with ``g[i]`` added at row ``positions[i]``; positions are valid and non-negative."""
    shape = (rows, *g.shape[positions.ndim :])
    out = np.zeros(shape, g.dtype)
    flat = np.ascontiguousarray(positions, np.int64).ravel()
    _ADD_ROWS[g.dtype](np.ascontiguousarray(g).ravel(), flat, out.ravel(), math.prod(shape[1:]))
    return out


def order_of(positions: np.ndarray) -> np.ndarray:
    """What sorts positions (N,), equal ones as they come; NumPy sorts numbers of 16 bits by digits, far faster."""
    few = not positions.size or positions.max() < 2**16
    return np.argsort(positions.astype(np.uint16) if few else positions, kind="stable")


def join_rows(positions: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different positions of (N,), sorted, and for each the sum of its rows of g (N, ...)."""
    order = order_of(positions)
    by_place = positions[order].astype(np.int64)
    starts = np.flatnonzero(np.append(True, by_place[1:] != by_place[:-1])[: len(order)])
    out = np.empty((len(starts), *g.shape[1:]), g.dtype)
    _JOIN_ROWS(g.dtype, len(starts), g.size, np.ascontiguousarray(g).ravel(), order, np.append(starts, len(order)),
               out.ravel(), math.prod(g.shape[1:]))  # fmt: skip
    return by_place[starts], out


def scatter(g: np.ndarray, index: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros of ``shape`` with ``g`` added where ``x[index]`` read, any index that NumPy takes."""
    if is_basic(index):
        out = np.zeros(shape, g.dtype)
        out[index] = g
        return out
    positions = np.arange(math.prod(shape)).reshape(shape)[index]
    return add_rows(np.ascontiguousarray(g).reshape(positions.shape), positions, math.prod(shape)).reshape(shape)


def is_basic(index: Any) -> bool:
    """True if the index holds only slices, integers, None and Ellipsis: it reads each element once."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        p is None or p is Ellipsis or (isinstance(p, (slice, int, np.integer)) and not isinstance(p, bool))
        for p in parts
    )

"""Floor 2, CUDA: matrix products C = A B, of any sizes and strides; leading axes broadcast.

A is taken as (rows, k) and B, turned round, as (columns, k): then both are loaded in the same way. A block computes one
tile of C; shared memory holds a tile of A and one of B, k by k.
"""

# ruff: noqa: F821   (T, ZERO: the prelude of the kernel's dtype)

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import ShapeError, describe
from minigrad.kernels.cuda.array import Shape
from minigrad.kernels.cuda.device import Device
from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import cuda

Array = Any  # DeviceArray


def product(c, a, b, m, n, k, c_row, c_first, a_first, a_row, a_k, a_outer, a_inner, b_first, b_row, b_k, b_outer,
            b_inner, inner, add, TILE):  # fmt: skip
    """C (m, n) = or += A (m, k) B (n, k)^T, for each matrix of a batch: number z is (z // inner, z % inner)."""
    tile_a = cuda.shared.array(TILE * TILE, T)
    tile_b = cuda.shared.array(TILE * TILE, T)
    x, y = cuda.threadIdx.x % TILE, cuda.threadIdx.x // TILE
    across = (n + TILE - 1) // TILE
    down = (m + TILE - 1) // TILE
    z = cuda.blockIdx.x // (across * down)
    row0 = cuda.blockIdx.x // across % down * TILE
    column0 = cuda.blockIdx.x % across * TILE
    at_a = a_first + z // inner * a_outer + z % inner * a_inner
    at_b = b_first + z // inner * b_outer + z % inner * b_inner
    total = ZERO
    k0 = 0
    while k0 < k:
        inside_a, inside_b = row0 + y < m and k0 + x < k, column0 + y < n and k0 + x < k
        tile_a[y * TILE + x] = a[at_a + (row0 + y) * a_row + (k0 + x) * a_k] if inside_a else ZERO
        tile_b[y * TILE + x] = b[at_b + (column0 + y) * b_row + (k0 + x) * b_k] if inside_b else ZERO
        cuda.syncthreads()
        for i in range(TILE):
            total += tile_a[y * TILE + i] * tile_b[x * TILE + i]
        cuda.syncthreads()
        k0 += TILE
    if row0 + y < m and column0 + x < n:
        at = c_first + (z * m + row0 + y) * c_row + column0 + x
        c[at] = c[at] + total if add else total


PLAIN = Kernel(product, "T* T* T*" + 17 * " i8", threads=16 * 16, TILE=16)


class Operand(NamedTuple):
    """A, or B turned round: (outer, inner, rows, k), by strides from element ``first`` of ``array`` on."""

    array: Array
    first: int
    row: int
    k: int
    outer: int
    inner: int

    def moved(self, steps: int) -> Operand:
        return self._replace(first=self.first + steps)


def _operand(x: Array, row: int, k: int, outer: int, inner: int) -> Operand:
    """Pointers are to the lowest element: where an axis is walked backwards, the first element is not the lowest."""
    backwards = tuple(i for i, s in enumerate(x.strides) if s < 0)
    first = sum((x.shape[i] - 1) * -x.strides[i] for i in backwards) if x.size else 0
    return Operand(x.flip(backwards) if backwards else x, first, row, k, outer, inner)


def merged(shape: Shape, *strides: Shape) -> tuple[list[int], list[list[int]]]:
    """The same axes, fewer of them: axes of one element go, and neighbours that are walked as one become one."""
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for n, *s in zip(shape, *strides):
        if n == 1:
            continue
        if sizes and all(x[-1] == n * t for x, t in zip(steps, s)):
            sizes[-1] *= n
            for x, t in zip(steps, s):
                x[-1] = t
        else:
            sizes.append(n)
            for x, t in zip(steps, s):
                x.append(t)
    return sizes, steps


def _launch(device: Device, c: Array, first: int, m: int, n: int, k: int, a: Operand, b: Operand, outer: int,
            inner: int, add: bool) -> None:  # fmt: skip
    """One launch for a batch of two axes."""
    blocks = -(-m // 16) * -(-n // 16) * outer * inner
    device.launch(PLAIN, c.dtype, blocks, c, a.array, b.array, m, n, k, c.strides[-2], first, *a[1:], *b[1:], inner,
                  int(add))  # fmt: skip


def _batches(device: Device, c: Array, a: Array, b: Array, add: bool) -> None:
    """C, a contiguous batch of matrices or one matrix with rows of any stride, = or += A B; equal leading sizes."""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    if not c.size:
        return
    sizes, (at_a, at_b) = merged(a.shape[:-2], a.strides[:-2], b.strides[:-2])
    sizes, at_a, at_b = [1, 1, *sizes], [0, 0, *at_a], [0, 0, *at_b]
    (outer, inner), left = sizes[-2:], sizes[:-2]
    x = _operand(a, a.strides[-2], a.strides[-1], *at_a[-2:])
    y = _operand(b, b.strides[-1], b.strides[-2], *at_b[-2:])
    for i, index in enumerate(np.ndindex(*left)):  # what a third axis and more would be: launches of their own
        here_a, here_b = (sum(j * s for j, s in zip(index, at)) for at in (at_a, at_b))
        first = i * outer * inner * m * n
        _launch(device, c, first, m, n, k, x.moved(here_a), y.moved(here_b), outer, inner, add)


def matmul(device: Device, a: Array, b: Array) -> Array:
    """(..., m, k) @ (..., k, n) with leading sizes that broadcast."""
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ShapeError(describe("matmul", f"{a.shape} @ {b.shape}", "(..., m, k) @ (..., k, n) with one k"))
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ShapeError(describe("matmul", f"{a.shape} @ {b.shape}", "leading sizes that broadcast")) from None
    c = device.empty((*batch, a.shape[-2], b.shape[-1]), a.dtype)
    sizes, (steps,) = merged(a.shape[:-1], a.strides[:-1])
    if b.ndim == 2 and len(sizes) == 1:  # many rows times one matrix: one large product
        _batches(device, c.view((sizes[0], b.shape[1]), (b.shape[1], 1)),
                 a.view((sizes[0], a.shape[-1]), (steps[0], a.strides[-1])), b, False)  # fmt: skip
        return c
    _batches(device, c, a.broadcast_to((*batch, *a.shape[-2:])), b.broadcast_to((*batch, *b.shape[-2:])), False)
    return c


def product_into(device: Device, c: Array, a: Array, b: Array, add: bool = False) -> None:
    """C (m, n), whose columns lie side by side, = or += A (m, k) B (k, n) of any strides."""
    _batches(device, c, a, b, add)

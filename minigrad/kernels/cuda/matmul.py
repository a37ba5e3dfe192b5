"""Floor 2, CUDA: matrix products C = A B, of any sizes and strides; leading axes broadcast.

Here is what is launched: which tiles, how batches are walked, how a long k is shared out. The kernels are in
``tiles.py``. They take A as (rows, k) and B, turned round, as (columns, k), so that both are loaded in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from minigrad.config import config
from minigrad.errors import ShapeError, UserError, describe
from minigrad.kernels.cuda import cublas
from minigrad.kernels.cuda.array import Shape
from minigrad.kernels.cuda.device import Device
from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.tensor_cores import TENSOR_TILES, shared_bytes
from minigrad.kernels.cuda.tiles import ADD_SHARES, TILES

Array = Any  # DeviceArray
KINDS = ("float32", *TENSOR_TILES, "cublas")  # values of MINIGRAD_MATMUL
SHARE = 256  # of k, at the least, for each block of those that share a tile of C
MOST = 65535  # matrices of a batch in one launch: a grid has no more blocks along its third axis, nor its second
WIDE = 32 * MOST  # columns in one launch


def check_setting() -> None:
    """UserError where MINIGRAD_MATMUL is none of KINDS."""
    if config.matmul not in KINDS:
        raise UserError(describe("MINIGRAD_MATMUL", repr(config.matmul), f"one of: {', '.join(KINDS)}"))


def tiles(device: Device, dtype: np.dtype) -> dict[int, Kernel]:
    """The kernels that MINIGRAD_MATMUL asks for, by the size of their tiles, the largest first."""
    check_setting()
    if dtype == np.float32 and config.matmul in TENSOR_TILES and device.capability[:2] >= (8, 0):
        return TENSOR_TILES[config.matmul]
    return {size: kernel for size, kernel in TILES.items() if dtype.name in kernel.dtypes}


def choose(sizes: Iterable[int], m: int, n: int, k: int, batches: int, multiprocessors: int) -> tuple[int, int]:
    """(size of the tiles, shares of k): the largest tiles that occupy the device and are not mostly empty, if need be
    with several blocks for each tile, which then take a share of k each."""
    size, shares = 0, 1
    *larger, smallest = sizes
    for size in (*[s for s in larger if min(m, n) > s // 2], smallest):
        found = -(-m // size) * -(-n // size) * batches
        shares = max(1, min(-(-multiprocessors // found), k // SHARE)) if batches == 1 else 1
        if found * shares >= multiprocessors:
            break
    return size, shares


class Operand(NamedTuple):
    """A, or B turned round: (outer, inner, rows, k), by strides from element ``first`` of ``array`` on."""

    array: Array
    first: int
    outer: int
    inner: int
    row: int
    k: int

    @property
    def along_k(self) -> bool:
        """Whether k lies side by side, not the rows."""
        return self.row != 1 and (self.k == 1 or abs(self.k) < abs(self.row))

    @property
    def whole(self) -> bool:
        """Whether groups of four lie at multiples of four, so that each is one load."""
        step, *others = (self.k, self.row) if self.along_k else (self.row, self.k)
        return step == 1 and aligned(self.array, self.first, *others, self.outer, self.inner)

    def arguments(self) -> tuple[int, ...]:
        return *self[1:], int(self.along_k), int(self.whole)


def aligned(x: Array, *steps: int) -> bool:
    """Whether ``x`` starts at a multiple of four elements, and these steps lead to others."""
    return x.offset % (4 * x.dtype.itemsize) == 0 and all(s % 4 == 0 for s in steps)


def _operand(x: Array, row: int, k: int, outer: int, inner: int) -> Operand:
    """Pointers are to the lowest element: where an axis is walked backwards, the first element is not the lowest."""
    backwards = tuple(i for i, s in enumerate(x.strides) if s < 0)
    first = sum((x.shape[i] - 1) * -x.strides[i] for i in backwards) if x.size else 0
    return Operand(x.flip(backwards) if backwards else x, first, outer, inner, row, k)


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
    """C from element ``first`` on = or += A B, for a batch of two axes."""
    c_batch = c.strides[-3] if outer * inner > 1 else 0
    library = config.matmul == "cublas" and device.name == "cuda" and not device.recording
    if library and c_batch in (0, m * n) and cublas.of(device).product(c, first, m, n, k, a, b, outer, inner, add):
        return
    kernels = tiles(device, c.dtype)
    size, shares = choose(kernels, m, n, k, outer * inner, device.multiprocessors)
    kernel = kernels[size]
    share = -(-k // (shares * kernel.constants["DEPTH"])) * kernel.constants["DEPTH"]
    shares = -(-k // share) if k else 1
    grid = -(-m // size), -(-n // size)
    if shares == 1:
        whole = aligned(c, first, c_batch, c.strides[-2])
        device.launch(kernel, c.dtype, (*grid, outer * inner), c, a.array, b.array, m, n, k, k, 0, inner, first,
                      c_batch, c.strides[-2], int(whole), *a.arguments(), *b.arguments(), int(add),
                      shared=shared_bytes(kernel))  # fmt: skip
        return
    parts = device.empty((shares, m, n), c.dtype)
    device.launch(kernel, c.dtype, (*grid, shares), parts, a.array, b.array, m, n, k, share, 1, 1, 0, m * n, n,
                  int(n % 4 == 0), *a.arguments(), *b.arguments(), 0,
                  shared=shared_bytes(kernel))  # fmt: skip
    device.launch(ADD_SHARES, c.dtype, device.blocks(m * n), c, parts, m, n, c.strides[-2], first, shares, int(add))


def _batches(device: Device, c: Array, a: Array, b: Array, add: bool) -> None:
    """C, a batch of matrices at equal distances or one matrix, with rows of any stride, = or += A B; equal leading
    sizes."""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    if not c.size:
        return
    if n > WIDE:
        for part in (slice(j, j + WIDE) for j in range(0, n, WIDE)):
            _batches(device, c.cut((..., part)), a, b.cut((..., part)), add)
        return
    sizes, (at_a, at_b) = merged(a.shape[:-2], a.strides[:-2], b.strides[:-2])
    sizes, at_a, at_b = [1, 1, *sizes], [0, 0, *at_a], [0, 0, *at_b]
    if sizes[-2] * sizes[-1] > MOST:
        sizes, at_a, at_b = [*sizes, 1], [*at_a, 0], [*at_b, 0]
    if sizes[-2] > MOST:
        sizes, at_a, at_b = [*sizes, 1], [*at_a, 0], [*at_b, 0]
    (outer, inner), left = sizes[-2:], sizes[:-2]
    x = _operand(a, a.strides[-2], a.strides[-1], *at_a[-2:])
    y = _operand(b, b.strides[-1], b.strides[-2], *at_b[-2:])
    for i, index in enumerate(np.ndindex(*left)):  # a third axis and more: launches of their own
        here_a, here_b = (sum(j * s for j, s in zip(index, at)) for at in (at_a, at_b))
        _launch(device, c, i * outer * inner * c.strides[-3] if i else 0, m, n, k, x._replace(first=x.first + here_a),
                y._replace(first=y.first + here_b), outer, inner, add)  # fmt: skip


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
    """C (..., m, n), whose columns lie side by side, = or += A (..., m, k) B (..., k, n) of any strides."""
    assert c.shape[-1] < 2 or c.strides[-1] == 1, f"columns of C {c.shape} by {c.strides}"
    _batches(device, c, a, b, add)

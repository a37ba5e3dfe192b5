"""Floor 6: the instructions of tensor cores: copies ahead of use, and products of whole warps.

Lane l holds, with g = l // 4 and t = l % 4, the elements that the manual of PTX names: of a 16 x 8 product the
numbers (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1) of C, and so on. Registers are bits: a number of 32, or two
of 16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.testing.simt.faults import BoundsError
from minigrad.testing.simt.here import cuda
from minigrad.testing.simt.memory import Place, commit_copies, wait_copies
from minigrad.testing.simt.models import collective, model

# ------------------------------------------------------------------------------------------------ copies


def _copy(to: Place, source: Place, size: int, full: int) -> None:
    """``size`` bytes of ``full`` and zeros after them; what they go to is unknown until the thread has waited."""
    if not 0 <= size <= full:
        raise BoundsError(f"a copy of {size} bytes of {full}")
    if source.i * source.array.itemsize % full or source.array.aligned % full:
        raise BoundsError(f"{source.array.name}[{source.i}]: {full} bytes are copied from an address that is no "
                          f"multiple of it")  # fmt: skip
    n = full // to.array.itemsize
    values = np.zeros(n, to.array.dtype)
    for i in range(size // source.array.itemsize):
        values[i : i + 1] = Place(source.array, source.i + i).read().view(values.dtype)
    to.array.begin_copy(to.i, n)
    cuda.thread.copies[-1].append((to, values))


model("copy16")(lambda to, source, size: _copy(to, source, size, 16))
model("copy4")(lambda to, source, size: _copy(to, source, size, 4))
model("copies_end")(commit_copies)
model("wait_copies1")(lambda: wait_copies(1))


# ------------------------------------------------------------------------------------------------ numbers


def _bits(x: Any) -> np.ndarray:
    return np.array(x, np.uint32)


@model("round_tf32")
def _(x: int) -> int:
    """To 10 bits after the point; a half goes away from zero. NaN and Inf stay."""
    if x & 0x7F800000 == 0x7F800000:
        return x
    return (x + 0x1000) & 0xFFFFE000


def _bf16(x: int) -> int:
    """The upper half of a float32, rounded to even."""
    if x & 0x7FFFFFFF > 0x7F800000:
        return 0x7FFF
    return (x + 0x7FFF + (x >> 16 & 1)) >> 16


@model("pack_bf16")
def _(low: int, high: int) -> int:
    return _bf16(low) | _bf16(high) << 16


# ------------------------------------------------------------------------------------------------ matrices


@collective("load_matrices")
def _(lanes: list[tuple]) -> list[tuple]:
    """Four 8 x 8 matrices of 16 bits: lane 8 i + j names row j of matrix i, 16 bytes; lane (g, t) gets word t of its
    row g."""
    rows = [[int(x) for x in place.read(4).view(np.uint32)] for (place,) in lanes]
    return [tuple(rows[8 * i + lane // 4][lane % 4] for i in range(4)) for lane in range(32)]


def _halves(x: np.ndarray) -> np.ndarray:
    """(...) words of two bf16 each -> (..., 2) numbers."""
    return np.stack([x << np.uint32(16), x & np.uint32(0xFFFF0000)], -1).view(np.float32)


def _product(width: int, numbers: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """C (16, 8) + A (16, k) B (k, 8) of a warp, each register of A and B holding ``width`` neighbours along k."""

    def multiply(lanes: list[tuple]) -> list[tuple]:
        words = _bits([[int(x) for x in lane[:6]] for lane in lanes]).reshape(8, 4, 6)  # (g, t, register)
        x = numbers(words).reshape(8, 4, 6, width).astype(np.float64)
        a = np.empty((16, 2, 4, width))  # row, half of k, t, neighbour
        a[:8, 0], a[8:, 0], a[:8, 1], a[8:, 1] = x[:, :, 0], x[:, :, 1], x[:, :, 2], x[:, :, 3]
        b = np.stack([x[:, :, 4], x[:, :, 5]], 1)  # column, half of k, t, neighbour
        c = np.array([lane[6:] for lane in lanes], np.float32).reshape(8, 4, 2, 2)  # g, t, half of the rows, neighbour
        product = (a.reshape(16, -1) @ b.reshape(8, -1).T).reshape(2, 8, 4, 2).transpose(1, 2, 0, 3)
        return [tuple(row) for row in (product + c).astype(np.float32).reshape(32, 4)]

    return multiply


collective("multiply_bf16")(_product(2, _halves))


def _tf32(x: np.ndarray) -> np.ndarray:
    """Tensor cores do not look at the last 13 bits."""
    return (x & np.uint32(0xFFFFE000)).view(np.float32)


collective("multiply_tf32")(_product(1, _tf32))

"""Floor 6: the same values in other memory, and who shares memory with whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.errors import UserError, describe

LAYOUTS = ("plain", "transposed", "permuted", "stepped", "reversed", "broadcast", "read-only")


def lay_out(x: np.ndarray, layout: str) -> np.ndarray:
    """A copy of x laid out in memory in one of the ways LAYOUTS.

    "transposed" is Fortran order, "permuted" has its first axis innermost, "reversed" has negative strides, "stepped"
    is every second element of a wider array of NaN, backwards, columns first, "read-only" cannot be written to.
    "broadcast" repeats the first slice along axis 0 with a stride of zero, so its values differ from those of x.

    >>> lay_out(np.ones((2, 3)), "reversed").strides
    (-24, -8)
    """
    x = x.copy()
    if layout not in LAYOUTS:
        raise UserError(describe("lay_out", repr(layout), f"one of {', '.join(LAYOUTS)}"))
    if x.ndim == 0 or layout == "plain":
        return x
    if layout == "transposed":
        return np.asfortranarray(x)
    if layout == "permuted":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    if layout == "stepped":
        filler = np.nan if x.dtype.kind == "f" else 0
        wide = np.full([2 * n + 1 for n in x.shape], filler, x.dtype, order="F")
        view = wide[tuple(slice(-2, None, -2) for _ in x.shape)]
        view[...] = x
        return view
    if layout == "reversed":
        return np.flip(np.flip(x).copy())
    if layout == "broadcast":
        return np.broadcast_to(x[:1], x.shape) if x.size else x
    x.flags.writeable = False
    return x


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether an element of both is the same memory; True where that is hard to tell."""
    try:
        return np.shares_memory(a, b, max_work=10_000)
    except np.exceptions.TooHardError:
        return True


def shared(grads: Sequence[Any], xs: Sequence[Any], gs: Sequence[Any]) -> str:
    """Which gradient shares memory with another array, in words; empty if none does."""
    others = [*[(f"input {i}", x) for i, x in enumerate(xs)], *[(f"cotangent {i}", g) for i, g in enumerate(gs)]]
    for n, grad in enumerate(grads):
        for name, other in [*others, *[(f"gradient {i}", a) for i, a in enumerate(grads[:n])]]:
            if isinstance(grad, np.ndarray) and isinstance(other, np.ndarray) and _overlap(grad, other):
                return f"gradient {n} shares memory with {name}; return a copy"
    return ""

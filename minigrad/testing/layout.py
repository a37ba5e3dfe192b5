"""Floor 6: the same values in other memory, and who shares memory with whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def strided(x: Any) -> np.ndarray:
    """The values of x as every second element of a larger array, backwards, columns first; NaN lies between them.

    >>> a = strided(np.array([1.0, 2.0]))
    >>> a, a.strides
    (array([1., 2.]), (-16,))
    """
    x = np.asarray(x)
    if not x.ndim:
        return x.copy()
    wide = np.full([2 * n + 1 for n in x.shape], np.nan, x.dtype, order="F")
    view = wide[tuple(slice(-2, None, -2) for _ in x.shape)]
    view[...] = x
    return view


def shared(grads: Sequence[Any], xs: Sequence[Any], gs: Sequence[Any]) -> str:
    """Which gradient shares memory with another array, in words; empty if none does."""
    others = [*[(f"input {i}", x) for i, x in enumerate(xs)], *[(f"cotangent {i}", g) for i, g in enumerate(gs)]]
    for n, grad in enumerate(grads):
        for name, other in [*others, *[(f"gradient {i}", a) for i, a in enumerate(grads[:n])]]:
            if isinstance(grad, np.ndarray) and isinstance(other, np.ndarray) and np.may_share_memory(grad, other):
                return f"gradient {n} shares memory with {name}; return a copy"
    return ""

"""Floor 4: what the runs of a compiled cell ask of arrays: to make them, and to move rows. Here those of NumPy; for a
device see ``cuda/layout.py``."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any  # of NumPy, or of a device


class Host:
    """Arrays of NumPy. Rows are named by a slice, or by a ``table`` of their numbers."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return np.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return np.zeros(shape, dtype)

    def table(self, numbers: np.ndarray) -> Array:
        return numbers

    def contiguous(self, x: Array) -> Array:
        return np.ascontiguousarray(x)

    def copy(self, x: Array) -> Array:
        return np.array(x, order="C")

    def take(self, x: Array, rows: Any) -> Array:
        """x[rows], a view if they are a slice."""
        return x[rows]

    def put(self, out: Array, rows: Any, x: Array) -> None:
        """out[rows] = x."""
        out[rows] = x

    def sum_rows(self, x: Array) -> Array:
        return x.sum(0)


HOST = Host()

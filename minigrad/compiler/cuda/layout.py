"""Floor 4: what runs of a compiled cell ask of the arrays of a device: to make them, and to move rows."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from minigrad.compiler.arrays import Array, Host
from minigrad.kernels.cuda import gather, move
from minigrad.kernels.cuda.backend import Backend
from minigrad.kernels.cuda.graphs import Graphs
from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import cuda


def put_rows(x, rows, out, count, width):
    """out[rows[i], :] = x[i, :]; all rows differ."""
    i = cuda.grid(1)
    while i < count * width:
        out[rows[i // width] * width + i % width] = x[i]
        i += cuda.gridsize(1)


PUT_ROWS = Kernel(put_rows, "T* i8* T* i8 i8")


class OnDevice(Host):
    """Arrays of a device; contiguous where rows move by a table, which lies on the device, too."""

    def __init__(self, backend: Backend):
        self.backend, self.device, self.graphs = backend, backend.device, Graphs(backend.device)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.device.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.backend.full(shape, 0, dtype)

    def table(self, numbers: np.ndarray) -> Array:
        return self.device.put(numbers.astype(np.int64))

    def contiguous(self, x: Array) -> Array:
        return move.contiguous(self.device, x)

    def copy(self, x: Array) -> Array:
        return move.copy(self.device, x)

    def take(self, x: Array, rows: Any) -> Array:
        return x[rows] if isinstance(rows, slice) else gather.take(self.device, x, rows, 0)

    def put(self, out: Array, rows: Any, x: Array) -> None:
        if isinstance(rows, slice):
            move.copy_into(self.device, x, out[rows])
            return
        count, width = x.shape
        self.device.launch(PUT_ROWS, x.dtype, self.device.blocks(x.size), x, rows, out, count, width)

    def sum_rows(self, x: Array) -> Array:
        return self.backend.reduce("sum", x, (0,)).reshape(x.shape[1:])


on = cache(OnDevice)  # of a backend

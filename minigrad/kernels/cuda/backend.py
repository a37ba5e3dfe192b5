"""Floor 2, CUDA: the backend of a device: what the operations ask for, as in ``kernels/cpu``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from minigrad.kernels.cuda import gather, head, matmul, move, random, reduce, rows, update
from minigrad.kernels.cuda.device import Array, Device
from minigrad.kernels.cuda.elementwise import Elementwise
from minigrad.kernels.loops import Shape


class Backend:
    """Arrays of ``device`` in, arrays of it out. Results may be views, with any strides."""

    def __init__(self, device: Device):
        self.device, self.name, self.array_type = device, device.name, device.array_type
        self.Elementwise = partial(Elementwise, device)

    def __hash__(self) -> int:
        return id(self)

    # ------------------------------------------------------------------ from and to the host

    def from_numpy(self, x: Any) -> Array:
        """An array with the data of ``x``, of NumPy or of this device (a copy)."""
        return self.copy(x) if isinstance(x, self.array_type) else self.device.put(x)

    def to_numpy(self, x: Array) -> np.ndarray:
        values = self.device.download(self.contiguous(x)) if x.size else np.empty(x.shape, x.dtype)
        values.flags.writeable = False
        return values

    def full(self, shape: Shape, value: Any, dtype: Any) -> Array:
        return move.full(self.device, shape, value, dtype)

    # ------------------------------------------------------------------ views

    def reshape(self, x: Array, shape: Shape) -> Array:
        return move.reshape(self.device, x, shape)

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        return x.transpose(axes)

    def matrix_transpose(self, x: Array) -> Array:
        return x.transpose((*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))

    def broadcast_to(self, x: Array, shape: Shape) -> Array:
        return x.broadcast_to(shape)

    def flip(self, x: Array, axes: Sequence[int]) -> Array:
        return x.flip(axes)

    # ------------------------------------------------------------------ copies

    def contiguous(self, x: Array) -> Array:
        """x, or a copy of it, row by row in memory."""
        return move.contiguous(self.device, x)

    def copy(self, x: Array) -> Array:
        return move.copy(self.device, x)

    def astype(self, x: Array, dtype: Any) -> Array:
        return move.astype(self.device, x, dtype)

    def concatenate(self, xs: Sequence[Array], axis: int = 0) -> Array:
        return move.concatenate(self.device, xs, axis)

    def pad(self, x: Array, widths: Sequence[tuple[int, int]], constant_values: Any = 0) -> Array:
        return move.pad(self.device, x, widths, constant_values)

    # ------------------------------------------------------------------ along axes

    def reduce(self, name: str, x: Array, axes: tuple[int, ...]) -> Array:
        return reduce.reduce(self.device, name, x, axes)

    def cumsum(self, x: Array, axis: int) -> Array:
        return reduce.cumsum(self.device, x, axis)

    def rows(self, name: str, x: Array) -> Array:
        return rows.rows(self.device, name, x)

    # ------------------------------------------------------------------ positions, which are arrays of the host

    def take(self, x: Array, positions: np.ndarray, axis: int) -> Array:
        return gather.take(self.device, x, positions, axis)

    def add_rows(self, g: Array, positions: np.ndarray, rows: int) -> Array:
        return gather.add_rows(self.device, g, positions, rows)

    def pick(self, x: Array, positions: np.ndarray) -> Array:
        return gather.pick(self.device, x, positions)

    def place(self, g: Array, positions: np.ndarray, n: int) -> Array:
        return gather.place(self.device, g, positions, n)

    def getitem(self, x: Array, index: Any) -> Array:
        return gather.getitem(self.device, x, index)

    def scatter(self, g: Array, index: Any, shape: tuple[int, ...]) -> Array:
        return gather.scatter(self.device, g, index, shape)

    # ------------------------------------------------------------------ optimisers

    def update(self, name: str, p: Array, g: Array, buffers: list[Array], settings: list[float]) -> Array:
        return update.update(self.device, name, p, g, buffers, settings)

    def scaled(self, x: Array, factor: float) -> Array:
        return update.scaled(self.device, x, factor)

    def squares(self, *xs: Array) -> float:
        return update.squares(self.device, *xs)

    def linear_cross_entropy(
        self, x: Array, w: Array, bias: Array | None, targets: np.ndarray, weights: np.ndarray, smoothing: float,
        wanted: Sequence[bool],
    ) -> tuple[Array, list[Array | None]]:  # fmt: skip
        return head.linear_cross_entropy(self.device, x, w, bias, targets, weights, smoothing, wanted)

    # ------------------------------------------------------------------ random numbers

    def bernoulli(self, shape: Shape, p: float, key: int, dtype: Any, one: float = 1.0) -> Array:
        return random.bernoulli(self.device, shape, p, key, dtype, one)

    def uniform(self, shape: Shape, key: int, dtype: Any) -> Array:
        return random.uniform(self.device, shape, key, dtype)

    # ------------------------------------------------------------------ products

    def matmul(self, a: Array, b: Array) -> Array:
        return matmul.matmul(self.device, a, b)

    def product_into(self, c: Array, a: Array, b: Array, add: bool = False) -> None:
        matmul.product_into(self.device, c, a, b, add)

"""Floor 2, CUDA: the backend of a device: what the operations ask for, as in ``kernels/cpu``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from minigrad.kernels.cuda import gather, head, update
from minigrad.kernels.cuda.device import Device
from minigrad.kernels.cuda.elementwise import Elementwise

Array = Any  # DeviceArray


class Backend:
    """Arrays of ``device`` in, arrays of it out."""

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
        values = self.device.download(gather.move.contiguous(self.device, x)) if x.size else np.empty(x.shape, x.dtype)
        values.flags.writeable = False
        return values

    def full(self, shape: tuple[int, ...], value: Any, dtype: Any) -> Array:
        return self.device.put(np.full(shape, value, dtype))

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

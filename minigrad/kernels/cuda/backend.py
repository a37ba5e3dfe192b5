"""Floor 2, CUDA: the backend of a device: what the operations ask for, as in ``kernels/cpu``."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minigrad.kernels.cuda import matmul
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
        values = self.device.download(x) if x.size else np.empty(x.shape, x.dtype)
        values.flags.writeable = False
        return values

    def full(self, shape: tuple[int, ...], value: Any, dtype: Any) -> Array:
        return self.device.put(np.full(shape, value, dtype))

    # ------------------------------------------------------------------ products

    def matmul(self, a: Array, b: Array) -> Array:
        return matmul.matmul(self.device, a, b)

    def product_into(self, c: Array, a: Array, b: Array, add: bool = False) -> None:
        matmul.product_into(self.device, c, a, b, add)

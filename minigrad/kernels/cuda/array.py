"""Floor 2, CUDA: an array on a device: memory, and how to walk it. Views share the memory; nothing here computes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from minigrad.kernels.loops import Shape, row_major

if TYPE_CHECKING:
    from minigrad.kernels.cuda.device import Device


class DeviceArray:
    """``memory`` from byte ``offset`` on, walked by ``strides``, in elements. Each device has a subclass of its own."""

    __slots__ = ("memory", "offset", "shape", "strides", "dtype", "base", "__weakref__")
    device: ClassVar[Device]

    def __init__(self, memory: Any, shape: Shape, dtype: np.dtype, strides: Shape | None = None, offset: int = 0,
                 base: DeviceArray | None = None):  # fmt: skip
        self.memory, self.offset, self.shape, self.dtype = memory, offset, shape, dtype
        self.strides = row_major(shape) if strides is None else strides
        self.base = base  # whose memory this is

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        strides = row_major(self.shape)
        return (
            self.strides == strides
            or not self.size
            or all([n == 1 or s == t for n, s, t in zip(self.shape, self.strides, strides)])
        )

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("the array is on a device; x.numpy() copies a tensor's values")

    def __repr__(self) -> str:
        return f"{self.dtype}{list(self.shape)} on {self.device.name}"

    # ------------------------------------------------------------------ views

    def __getitem__(self, index: Any) -> Any:
        return self.cut(index if isinstance(index, tuple) else (index,))

    def reshape(self, shape: Shape) -> Any:
        """Of a contiguous array."""
        if not self.contiguous:
            raise ValueError(f"no view {shape} of an array {self.shape} with strides {self.strides}")
        return self.view(tuple(shape), row_major(shape))

    def view(self, shape: Shape, strides: Shape, first: int = 0) -> Any:
        """The same memory walked otherwise, from element ``first`` on."""
        return type(self)(self.memory, shape, self.dtype, strides, self.offset + first * self.dtype.itemsize,
                          self if self.base is None else self.base)  # fmt: skip

    def transpose(self, axes: Shape) -> Any:
        return self.view(tuple(self.shape[a] for a in axes), tuple(self.strides[a] for a in axes))

    def broadcast_to(self, shape: Shape) -> Any:
        new = len(shape) - self.ndim
        strides = [0 if n == 1 else s for n, s in zip(self.shape, self.strides)]
        return self.view(tuple(shape), (0,) * new + tuple(strides))

    def flip(self, axes: Shape) -> Any:
        first = sum((self.shape[a] - 1) * self.strides[a] for a in axes if self.size)
        return self.view(self.shape, tuple(-s if a in axes else s for a, s in enumerate(self.strides)), first)

    def cut(self, index: tuple) -> Any:
        """``x[index]`` for slices, integers, None and Ellipsis."""
        index = index if any(p is Ellipsis for p in index) else (*index, Ellipsis)
        at = next(i for i, p in enumerate(index) if p is Ellipsis)
        named = sum(p is not None for p in index) - 1
        if named > self.ndim:
            words = "too many indices for array: array is"  # those of NumPy
            raise IndexError(f"{words} {self.ndim}-dimensional, but {named} were indexed")
        index = (*index[:at], *[slice(None)] * (self.ndim - named), *index[at + 1 :])
        shape, strides, first, axis = [], [], 0, 0
        for part in index:
            if part is None:
                shape.append(1)
                strides.append(0)
                continue
            n, s = self.shape[axis], self.strides[axis]
            if isinstance(part, slice):
                start, stop, step = part.indices(n)
                count = len(range(start, stop, step))
                first += start * s if count else 0
                shape.append(count)
                strides.append(s * step)
            else:
                if not -n <= part < n:
                    raise IndexError(f"index {part} is out of bounds for axis {axis} with size {n}")
                first += int(part) % n * s
            axis += 1
        return self.view(tuple(shape), tuple(strides), first)

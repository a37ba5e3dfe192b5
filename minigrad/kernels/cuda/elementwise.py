"""Floor 2, CUDA: one scalar function over arrays that broadcast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.kernels.abstract import broadcast_shapes
from minigrad.kernels.cuda.device import Array, Device
from minigrad.kernels.cuda.loops import Loops
from minigrad.kernels.loops import Shape, check_dtypes


class Elementwise:
    """As in ``kernels/cpu/elementwise.py``, on a device."""

    def __init__(self, device: Device, name: str, parts: tuple[Callable, ...], arity: int, *, text: str = "",
                 out: str = "", floats: bool = True, condition: bool = False):  # fmt: skip
        self.device, self.name, self.out = device, name, out
        self.floats, self.condition = floats, condition
        call = f"{name if text else parts[0].__name__}({', '.join(f'{{x{i}}}' for i in range(arity))})"
        takes = ["u1*" if condition else "T*", *["T*"] * (arity - 1), "u1*" if out else "T*"]
        self.loops = Loops(name, call, takes, text=text, parts=parts)

    def __call__(self, *xs: Any) -> Any:
        dtypes = tuple([x.dtype for x in xs])
        check_dtypes(self.name, dtypes, self.floats, self.condition)
        shape = broadcast_shapes(self.name, *[x.shape for x in xs])
        out = like(self.device, xs, shape, np.dtype(self.out or dtypes[-1]))
        self.loops(self.device, dtypes[-1], xs, out)
        return out


def like(device: Device, xs: tuple[Array, ...], shape: Shape, dtype: np.dtype) -> Array:
    """An array for a result, whose axes lie in memory in the order of the first operand that has its shape."""
    lead = next((x for x in xs if x.shape == shape), None)
    if lead is None or lead.contiguous or any(s == 0 and n > 1 for n, s in zip(shape, lead.strides)):
        return device.empty(shape, dtype)
    order = sorted(range(len(shape)), key=lambda a: -abs(lead.strides[a]))
    out = device.empty(tuple(shape[a] for a in order), dtype)
    return out.transpose(tuple(order.index(a) for a in range(len(shape))))

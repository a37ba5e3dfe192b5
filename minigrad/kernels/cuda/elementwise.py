"""Floor 2, CUDA: one scalar function over arrays that broadcast."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigrad.kernels.abstract import broadcast_shapes
from minigrad.kernels.cuda.device import Array, Device
from minigrad.kernels.cuda.loops import Loops, Plan, is_aligned
from minigrad.kernels.loops import Shape, check_dtypes, row_major, spread


class Launch(NamedTuple):
    loops: Loops
    plan: Plan | None
    shape: Shape  # of the result, and so on
    dtype: np.dtype
    strides: Shape
    size: int  # in bytes


class Elementwise:
    """As in ``kernels/cpu/elementwise.py``, on a device."""

    def __init__(self, device: Device, name: str, parts: tuple[Callable, ...], arity: int, *, text: str = "",
                 out: str = "", floats: bool = True, condition: bool = False):  # fmt: skip
        self.device, self.name, self.out = device, name, out
        self.floats, self.condition = floats, condition
        call = f"{name if text else parts[0].__name__}({', '.join(f'{{x{i}}}' for i in range(arity))})"
        takes = ["u1*" if condition else "T*", *["T*"] * (arity - 1), "u1*" if out else "T*"]
        self.loops = Loops(name, call, takes, text=text, parts=parts)
        self.bools = Loops(f"{name}_bools", f"{call} != 0", takes, text=text, parts=parts)  # which are bytes, 0 or 1
        self._launches: dict[tuple, Launch] = {}

    def _launch(self, key: tuple, xs: tuple[Array, ...]) -> Launch:
        """How to run on operands like these; all checks are here."""
        dtypes = tuple([x.dtype for x in xs])
        check_dtypes(self.name, dtypes, self.floats, self.condition)
        shape = broadcast_shapes(self.name, *[x.shape for x in xs])
        dtype, strides, size = np.dtype(self.out or dtypes[-1]), result_strides(xs, shape), math.prod(shape)
        all_strides = *[spread(x.shape, x.strides, len(shape)) for x in xs], strides
        loops = self.bools if dtypes[-1].kind == "b" else self.loops
        plan = loops.plan(shape, all_strides, [*map(is_aligned, xs), True]) if size else None
        if len(self._launches) > 4096:  # shapes that never repeat must not pile up
            self._launches.clear()
        found = self._launches[key] = Launch(loops, plan, shape, dtype, strides, size * dtype.itemsize)
        return found

    def __call__(self, *xs: Any) -> Any:
        key = tuple([(x.shape, x.strides, x.dtype, x.offset & 31) for x in xs])
        loops, plan, shape, dtype, strides, size = self._launches.get(key) or self._launch(key, xs)
        out = self.device.array_type(self.device.allocate(size), shape, dtype, strides)
        if size:
            loops.run(self.device, xs[-1].dtype, plan, xs, out)
        return out


def result_strides(xs: tuple[Array, ...], shape: Shape) -> Shape:
    """Of a new array whose axes lie in memory in the order of the first operand that has its shape."""
    lead = next((x for x in xs if x.shape == shape), None)
    if lead is None or lead.contiguous or any(s == 0 and n > 1 for n, s in zip(shape, lead.strides)):
        return row_major(shape)
    order = sorted(range(len(shape)), key=lambda a: -abs(lead.strides[a]))
    strides = row_major(tuple([shape[a] for a in order]))
    return tuple([strides[order.index(a)] for a in range(len(shape))])

"""Floor 2, CUDA: one scalar function over arrays that broadcast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.kernels.cuda.device import Device
from minigrad.kernels.cuda.kernel import Kernel


class Elementwise:
    """As in ``kernels/cpu/elementwise.py``, on a device."""

    def __init__(self, device: Device, name: str, parts: tuple[Callable, ...], arity: int, *, text: str = "",
                 out: str = "", floats: bool = True, condition: bool = False):  # fmt: skip
        self.device, self.name, self.out = device, name, out
        function = name if text else parts[0].__name__
        pointers, values = (", ".join(f"x{i}{at}" for i in range(arity)) for at in ("", "[i]"))
        lines = ["@kernel", f"def run(n, {pointers}, out):", "    i = cuda.grid(1)", "    while i < n:",
                 f"        out[i] = {function}({values})", "        i += cuda.gridsize(1)"]  # fmt: skip
        takes = " ".join(["i8", *["T*"] * arity, "u1*" if out else "T*"])
        self.kernel = Kernel(None, takes, name=name, text=text + "\n".join(lines) + "\n", parts=parts)

    def __call__(self, *xs: Any) -> Any:
        x = xs[-1]
        out = self.device.empty(x.shape, np.dtype(self.out or x.dtype))
        self.device.launch(self.kernel, x.dtype, self.device.blocks(x.size), x.size, *xs, out)
        return out

"""Floor 6: an emulated GPU: the CUDA backend on memory of the host, its kernels run by the runner."""

from __future__ import annotations

import linecache
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from minigrad.errors import DeviceError, describe
from minigrad.kernels import register
from minigrad.kernels.cuda.array import DeviceArray
from minigrad.kernels.cuda.backend import Backend
from minigrad.kernels.cuda.device import Device
from minigrad.kernels.cuda.kernel import File
from minigrad.testing.simt.runner import greenlet, run


class Pointer:
    """What a kernel sees of an array: elements, inside of the array only."""

    __slots__ = ("dtype", "elements")

    def __init__(self, elements: np.ndarray):
        self.elements, self.dtype = elements, elements.dtype

    def __len__(self) -> int:
        return len(self.elements)

    def __getitem__(self, i: int) -> Any:
        if i < 0:
            raise IndexError(f"element {i}")
        return self.elements[i]

    def __setitem__(self, i: int, value: Any) -> None:
        if i < 0:
            raise IndexError(f"element {i}")
        self.elements[i] = value


class Emulated(Device):
    name, vocabulary = "cuda-sim", "minigrad.testing.simt.vocabulary"
    capability, multiprocessors, threads, shared_limit = (9, 0), 2, 64, 227 * 1024

    def allocate(self, size: int) -> np.ndarray:
        return np.full(size, 255, np.uint8)  # NaN, read as floats

    def address(self, x: DeviceArray) -> int:
        return int(x.memory.ctypes.data) + x.offset

    def _elements(self, x: DeviceArray) -> np.ndarray:
        """From the first element of x on, as far as x reaches. (A view that goes backwards starts at its lowest.)"""
        reach = [(n - 1) * s for n, s in zip(x.shape, x.strides)] if x.size else [-1]
        low, high = sum(r for r in reach if r < 0) if x.size else 0, sum(r for r in reach if r > 0 or not x.size)
        if low < 0:
            raise IndexError("kernels take no pointer to an array that is walked backwards")
        item = x.dtype.itemsize
        return x.memory[x.offset : x.offset + (high + 1) * item].view(x.dtype)

    def upload(self, to: DeviceArray, values: np.ndarray) -> None:
        self._elements(to)[:] = values.ravel()

    def download(self, x: DeviceArray) -> np.ndarray:
        return self._elements(x).reshape(x.shape).copy()

    def compile(self, file: File, threads: int, max_registers: int | None) -> Any:
        name = f"<{file.stem}>"
        linecache.cache[name] = (len(file.text), None, file.text.splitlines(True), name)
        names: dict[str, Any] = {"__name__": file.stem}
        exec(compile(file.text, name, "exec"), names)
        return file, names["run"]

    def start(
        self, compiled: Any, grid: Any, threads: int, args: Sequence[Any], shared: int, cooperative: bool
    ) -> None:
        file, function = compiled
        if len(args) != len(file.takes):
            raise TypeError(f"{file.stem} takes {len(file.takes)} arguments, {len(args)} given")
        given = []
        for x, kind in zip(args, file.takes):
            if kind.endswith("*"):
                found = self._elements(x)
                own = {"b": "u1"}.get(x.dtype.kind, f"{x.dtype.kind}{x.dtype.itemsize}")
                if own != kind[:-1]:
                    raise TypeError(f"{file.stem} takes {kind}, got {own}*")
                given.append(Pointer(found))
            else:
                given.append(np.dtype(kind).type(x) if kind[0] == "f" else int(x))
        run(function, grid, threads, *given, shared=shared)

    def synchronize(self) -> None:
        pass


@cache
def device() -> Emulated:
    """The emulated device, known as "cuda-sim" from now on."""
    if greenlet is None:
        do = "pip install greenlet"
        raise DeviceError(describe("cuda-sim", "no greenlet", "the package that switches between threads", do))
    found = Emulated()
    register(Backend(found))
    return found

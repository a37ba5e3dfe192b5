"""Floor 6: an emulated GPU: the CUDA backend on memory of the host, its kernels run by the runner."""

from __future__ import annotations

import linecache
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from minigrad.kernels import register
from minigrad.kernels.cuda.array import DeviceArray
from minigrad.kernels.cuda.backend import Backend
from minigrad.kernels.cuda.device import Device
from minigrad.kernels.cuda.kernel import File
from minigrad.testing.simt.faults import BoundsError
from minigrad.testing.simt.memory import Array, address_of, array
from minigrad.testing.simt.races import Memory
from minigrad.testing.simt.runner import Launch, need
from minigrad.testing.simt.translate import Translated, translate


class Allocation:
    """Bytes of a device: fresh ones are poisoned (NaN, read as floats), and so are freed ones, whoever still looks.
    ``written``: which of them somebody wrote, as far as that is watched."""

    def __init__(self, device: Emulated, size: int):
        self.device, self.size = device, size
        self.bytes = np.full(size, 255, np.uint8)
        self.written = np.zeros(size, bool)
        device.in_use += size
        device.allocations += 1

    def __del__(self) -> None:
        self.bytes.fill(255)
        self.device.in_use -= self.size
        self.device.allocations -= 1


class Backwards:
    """The elements of a view that is walked backwards: its first one is not the lowest in memory."""

    __slots__ = ("array", "dtype", "first")

    def __init__(self, array: Array, first: int):
        self.array, self.first, self.dtype = array, first, array.dtype

    def __getitem__(self, i: int) -> Any:
        return self.array[self._at(i)]

    def __setitem__(self, i: int, value: Any) -> None:
        self.array[self._at(i)] = value

    def _at(self, i: int) -> int:
        if not 0 <= i + self.first < len(self.array):
            raise BoundsError(f"{self.array.name}[{i}] is outside of its {len(self.array)} elements, "
                              f"{-self.first} .. {len(self.array) - self.first - 1}")  # fmt: skip
        return i + self.first


class Emulated(Device):
    """``races``: watch what orders the accesses of each launch; slow. ``seed``: shuffle the order of threads.
    ``in_use``, ``allocations``: bytes and pieces of memory that somebody holds."""

    name, vocabulary = "cuda-sim", "minigrad.testing.simt.vocabulary"
    capability, multiprocessors, threads, shared_limit = (9, 0), 2, 64, 227 * 1024

    def __init__(self) -> None:
        super().__init__()
        self.races, self.seed = False, None
        self.in_use = self.allocations = 0

    def allocate(self, size: int) -> Allocation:
        return Allocation(self, size)

    def address(self, x: DeviceArray) -> int:
        return int(x.memory.bytes.ctypes.data) + x.offset

    def _elements(self, x: DeviceArray) -> tuple[np.ndarray, int]:
        """All that x may reach, from its lowest element on; and where its first one is."""
        reach = [(n - 1) * s for n, s in zip(x.shape, x.strides)] if x.size else [-1]
        low = sum(r for r in reach if r < 0) if x.size else 0
        high, item = sum(r for r in reach if r > 0 or not x.size), x.dtype.itemsize
        first = x.offset + low * item
        if x.size and not 0 <= first <= x.offset + (high + 1) * item <= x.memory.size:
            raise BoundsError(f"a view of {x.shape} by {x.strides} from byte {x.offset} on leaves its memory of "
                              f"{x.memory.size} bytes")  # fmt: skip
        return x.memory.bytes[first : x.offset + (high + 1) * item].view(x.dtype), -low

    def upload(self, to: DeviceArray, values: np.ndarray) -> None:
        self._elements(to)[0][:] = values.ravel()
        to.memory.written[to.offset : to.offset + values.nbytes] = True

    def download(self, x: DeviceArray) -> np.ndarray:
        return self._elements(x)[0].reshape(x.shape).copy()

    def compile(self, file: File, threads: int, max_registers: int | None) -> tuple[File, Translated]:
        name = f"<{file.stem}>"
        linecache.cache[name] = (len(file.text), None, file.text.splitlines(True), name)
        names: dict[str, Any] = {"__name__": file.stem}
        exec(compile(file.text, name, "exec"), names)
        return file, translate(names["run"])._replace(name=file.stem)

    def start(
        self, compiled: Any, grid: Any, threads: int, args: Sequence[Any], shared: int, cooperative: bool
    ) -> None:
        file, function = compiled
        if len(args) != len(file.takes):
            raise TypeError(f"{file.stem} takes {len(file.takes)} arguments, {len(args)} given")
        launch = Launch(function, grid, threads, (), shared=shared, seed=self.seed, races=self.races,
                        shared_limit=self.shared_limit, cooperative=cooperative)  # fmt: skip
        memories: dict[int, Memory | None] = {}
        names = function.function.__code__.co_varnames
        launch.args = [
            self._pointer(x, kind, f"{file.stem}: {name}", launch, memories)
            if kind.endswith("*")
            else (np.dtype(kind).type(x) if kind[0] == "f" else int(x))
            for x, kind, name in zip(args, file.takes, names)
        ]
        launch.run()
        if not self.races:
            for x in args:
                if isinstance(x, DeviceArray):
                    x.memory.written[:] = True

    def _pointer(self, x: DeviceArray, kind: str, name: str, launch: Launch, memories: dict) -> Any:
        """What a kernel sees of an array: its elements, as integers where they are truth values."""
        elements, first = self._elements(x)
        if x.dtype.kind == "b":
            elements = elements.view(np.uint8)
        own = f"{elements.dtype.kind}{elements.dtype.itemsize}"
        if own != kind[:-1]:
            raise TypeError(f"{name}: the kernel takes {kind}, got {own}*")
        memory = x.memory
        if id(memory) not in memories:
            memories[id(memory)] = launch.memory(memory.written, base=address_of(memory.bytes))
        found = array(elements, name, math.gcd(256, x.offset - first * x.dtype.itemsize), memories[id(memory)])
        return Backwards(found, first) if first else found

    def synchronize(self) -> None:
        pass


@cache
def device() -> Emulated:
    """The emulated device, known as "cuda-sim" from now on."""
    need()
    found = Emulated()
    register(Backend(found))
    return found

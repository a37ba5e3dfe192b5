"""Floor 2, CUDA: what a device must do. ``driver.py`` is a GPU, ``testing/simt/device.py`` an emulated one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np

from minigrad.errors import DeviceError, describe
from minigrad.kernels.cuda.array import DeviceArray, Shape
from minigrad.kernels.cuda.kernel import File, Kernel

Array = Any  # DeviceArray


class Graph:
    """Launches that ``Device.capture`` recorded, to be run as often as wanted on the same arrays, which it holds."""

    def __init__(self) -> None:
        self.launches: list[tuple] = []  # arguments of Device.start
        self.run: Callable[[], None] | None = None

    def launch(self) -> None:
        if self.run is None:
            do = "leave the 'with' before"
            raise DeviceError(describe("graph", "a launch while it is recorded", "a graph that is complete", do))
        self.run()


class Device(ABC):
    """Memory, and kernels that run one after another on one stream.

    capability:      (9, 0): which instructions there are
    multiprocessors: blocks that are worth starting
    threads:         of a block, where a kernel leaves it open
    shared_limit:    bytes of shared memory that a block may have
    """

    name: str
    vocabulary: str
    capability: tuple
    multiprocessors: int
    threads: int
    shared_limit: int
    array_base: type[DeviceArray] = DeviceArray

    def __init__(self) -> None:
        self.array_type: type[DeviceArray] = type("Array", (self.array_base,), {"device": self, "__slots__": ()})
        self._compiled: dict[tuple[Kernel, np.dtype], tuple[Any, int]] = {}
        self._recorded: Graph | None = None

    # ------------------------------------------------------------------ what a kind of device brings

    @abstractmethod
    def allocate(self, size: int) -> Any:
        """Memory of so many bytes, freed when nobody holds it."""

    @abstractmethod
    def address(self, x: Array) -> int:
        """Where the first element of an array lies."""

    @abstractmethod
    def upload(self, to: Array, values: np.ndarray) -> None:
        """Copy contiguous values into a contiguous array."""

    @abstractmethod
    def download(self, x: Array) -> np.ndarray:
        """Copy a contiguous array, when all kernels before are done."""

    @abstractmethod
    def compile(self, file: File, threads: int, max_registers: int | None) -> Any:
        """A kernel ready to run."""

    @abstractmethod
    def start(self, compiled: Any, grid: Shape, threads: int, args: Sequence[Any], shared: int, cooperative: bool
              ) -> None:  # fmt: skip
        """Run a kernel. ``args`` are arrays of this device (their pointers are meant), whole numbers, and NumPy
        numbers."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for all kernels; errors of theirs are raised here."""

    # ------------------------------------------------------------------ the same for all

    def empty(self, shape: Shape, dtype: Any) -> Array:
        dtype = np.dtype(dtype)
        return self.array_type(self.allocate(math.prod(shape) * dtype.itemsize), tuple(shape), dtype)

    def put(self, values: np.ndarray) -> Array:
        """An array with these values."""
        values = np.asarray(values)
        out = self.empty(values.shape, values.dtype)
        if values.size:
            self.upload(out, np.ascontiguousarray(values))
        return out

    def launch(self, kernel: Kernel, dtype: np.dtype, grid: int | Shape, *args: Any, shared: int = 0,
               cooperative: bool = False) -> None:  # fmt: skip
        """Run ``kernel`` for ``dtype`` with ``grid`` blocks; a grid of 0 does nothing. ``shared``: bytes of dynamic
        shared memory of a block; ``cooperative``: all blocks run at the same time, so they may wait for each other."""
        grid = (grid,) if isinstance(grid, int) else grid
        if 0 in grid:
            return
        found = self._compiled.get((kernel, dtype))
        if found is None:
            threads = kernel.threads or self.threads
            compiled = self.compile(kernel.file(dtype, self.vocabulary), threads, kernel.max_registers)
            found = self._compiled[kernel, dtype] = compiled, threads
        launch = found[0], grid, found[1], args, shared, cooperative
        if self._recorded is None:
            self.start(*launch)
        else:
            self._recorded.launches.append(launch)

    @property
    def recording(self) -> bool:
        return self._recorded is not None

    @contextmanager
    def capture(self) -> Iterator[Graph]:
        """``with device.capture() as graph:`` records what is launched inside, and runs none of it; ``graph.launch()``
        does, as often as wanted. Uploads and downloads are not recorded: they happen at once."""
        if self._recorded is not None:
            do = "record the inner launches with the outer ones"
            raise DeviceError(describe("graph", "a capture inside of a capture", "one at a time", do))
        graph = self._recorded = Graph()
        try:
            yield graph
        finally:
            self._recorded = None
        graph.run = self.instantiate(graph.launches)

    def instantiate(self, launches: list[tuple]) -> Callable[[], None]:
        """A function that runs recorded launches in their order; a GPU makes one graph of them."""

        def run() -> None:
            for launch in launches:
                self.start(*launch)

        return run

    def seconds(self, run: Callable[[], Any]) -> float:
        """How long what ``run`` launches takes."""
        self.synchronize()
        start = perf_counter()
        run()
        self.synchronize()
        return perf_counter() - start

    def blocks(self, items: int) -> int:
        """A grid for a kernel whose threads walk over ``items`` with the stride of the grid."""
        return min(-(-items // self.threads), 8 * self.multiprocessors)

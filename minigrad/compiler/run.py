"""Floor 4: the passes of a compiled cell on the CPU: its memory, and the tables of numbers that they read.

The passes yield each launch, so that ``together`` can run those of several sequences, such as both directions, in one
parallel region.
"""

from __future__ import annotations

from ctypes import addressof, c_char
from typing import NamedTuple

import numpy as np

from minigrad.compiler.emit import CellKernel, Loop
from minigrad.compiler.layout import Layout
from minigrad.compiler.plan import Buffer
from minigrad.compiler.sequence import Given, Launches, Run, Sequence
from minigrad.kernels.cpu import gemm, parallel

Array = np.ndarray
_ROWS = 64  # of the input's products, made ahead of the steps that need them, so that they are still in the cache
_FEW = 6  # members of a worker below which its products with the input wait for those of others, all at once
_SERIAL = 300_000  # multiply-adds of a pass below which one thread is faster


def _address(array: Array) -> int:
    """``array.ctypes.data`` in a third of the time; the array is not empty."""
    return addressof(c_char.from_buffer(array))


class Launch(NamedTuple):
    """A kernel to be called: ``at`` has all that its table wants but the shares of the workers."""

    loop: Loop
    address: int
    at: dict[str, int]
    layout: Layout

    def table(self, workers: int) -> Array:
        self.at["shares"] = self.layout.shares(workers)
        members = self.layout.batch // workers
        self.at["chunk"] = max(1, _ROWS // max(members, 1)) if members >= _FEW or workers == 1 else 0
        table = self.loop.fixed.copy()
        table[: len(self.loop.given)] = [self.at[name] for name in self.loop.given]
        return table


def together(passes: list[Launches]) -> list:
    """The results of passes; what they launch at the same time runs in one region."""
    results = [None] * len(passes)
    running = dict(enumerate(passes))
    while running:
        launches = []
        for i, one in list(running.items()):
            try:
                launches.append(next(one))
            except StopIteration as end:
                results[i] = end.value
                del running[i]
        _launch(launches)
    return results


def _launch(launches: list[Launch]) -> None:
    """A thread for each launch where there are no more threads or too few members to share, else all for each."""
    threads = parallel.workers()
    if sum([a.layout.rows * a.loop.work for a in launches]) <= _SERIAL:
        threads = 1
    if len(launches) > 1 and threads > 1 and (threads <= len(launches) or launches[0].layout.batch < threads):
        tables = [launch.table(1) for launch in launches]
        parallel.run_each([(a.address, _address(t), a.loop.phases) for a, t in zip(launches, tables)])
        return
    for launch in launches:
        table = launch.table(threads)
        parallel.run(launch.address, _address(table), launch.loop.phases, threads)


class Arena:
    """Rows of memory under names, in one block; each begins on a cache line."""

    def __init__(self, dtype: np.dtype):
        self.dtype, self.size, self.offsets = dtype, 0, {}  # type: ignore[var-annotated]

    def add(self, name: str, numbers: int) -> None:
        self.offsets[name] = self.size
        self.size += -(-numbers * self.dtype.itemsize // 64) * 64

    def place(self, at: dict[str, int]) -> Array:
        """The block; ``at`` learns the addresses."""
        block = np.empty(self.size + 64, np.uint8)
        first = (_address(block) + 63) // 64 * 64
        for name, offset in self.offsets.items():
            at[name] = first + offset
        return block


class Addresses(Given):
    """By name, and the arrays that they point to."""

    def __init__(self, dtype: np.dtype):
        self.dtype, self.address_of = dtype, gemm.kernels(dtype).address_of
        self.at: dict[str, int] = {}
        self.keep: list[Array] = []

    def copy(self) -> Addresses:
        found = Addresses(self.dtype)
        found.at, found.keep = dict(self.at), list(self.keep)
        return found

    def give(self, name: str, array: Array | None) -> None:
        self.at[name] = 0 if array is None else self.address_of(array)
        self.keep.append(array)

    def give_rows(self, name: str, array: Array | None, width: int) -> None:
        self.give(name, np.zeros((1, width), self.dtype) if array is None else array)
        self.at[f"w_{name}"] = 0 if array is None else width


class HostRun(Run):
    def _nothing(self) -> Addresses:
        return Addresses(self.dtype)

    def _call(self, direction: str, given: Addresses, more: bool) -> Launches:  # type: ignore[override]
        place, at = self.layout, given.at
        if place.rows == 0:
            return
        loop = getattr(self.kernel, direction)
        lasting, passing = Arena(self.dtype), Arena(self.dtype)
        for b in loop.buffers:
            if b.name not in at:
                (lasting if b.rows == "time" else passing).add(b.name, self._count(b) * b.width)
        for name, size in loop.packs:
            passing.add(name, size)
        if loop.scratch:
            passing.add("scratch", loop.scratch * place.rows)
        given.keep.append(lasting.place(at))
        block = passing.place(at)
        at["steps"], at["batch"], at["rows"], at["layout"] = place.steps, place.batch, place.rows, place.address
        at["more"] = more
        yield Launch(loop, getattr(self.kernel.module, direction).address, at, place)  # type: ignore[attr-defined]
        del block  # not before the kernel has run

    def _count(self, b: Buffer) -> int:
        return {"time": self.layout.rows, "worker": parallel.workers()}.get(b.rows, self.layout.batch)


class HostSequence(Sequence):
    run = HostRun
    kernel: CellKernel  # type: ignore[assignment]

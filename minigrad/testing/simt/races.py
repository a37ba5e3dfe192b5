"""Floor 6: which accesses are ordered, and by what.

Each thread counts its own steps from one synchronisation to the next, and knows of every other thread up to which step
all that it did lies before now (a vector clock). Threads that meet at a barrier learn what the others know. An access
races with an earlier one of another thread if the earlier step is not known yet. So it does not matter in which order
the emulator happened to run the threads.

What orders: barriers of block, group and grid; ``syncwarp`` among its lanes (shuffles and votes do not); and
``threadfence`` before an atomic that another thread's atomic meets later.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad.testing.simt.faults import EndlessError, RaceError, UnwrittenError, Where, line, of_kernel, place
from minigrad.testing.simt.here import cuda
from minigrad.testing.simt.memory import Array, address_of

ACCESSES = 100_000_000  # of one launch; more of them is a kernel that does not end


class Element:
    """Who used an element: its last writer, and all readers since."""

    __slots__ = ("atomic", "clock", "pending", "readers", "sync", "where", "writer")

    def __init__(self, writer: int):  # -1: before the launch, -2: nobody
        self.writer, self.clock, self.atomic, self.pending = writer, 0, False, False
        self.where: Where | None = None
        self.readers: dict[int, tuple[int, Where | None]] = {}
        self.sync: np.ndarray | None = None  # what an atomic told


class Memory:
    """Elements by address. ``written``: whether it was before; or, with the address ``base``, which bytes of it were.
    ``granule``: the memory of one buffer is read in several dtypes; then an element counts as its words."""

    def __init__(self, written: Any, granule: int = 8, base: int | None = None):
        self.elements: dict[int, Element] = {}
        self.written, self.granule, self.base = written, granule, base

    def array(self, *args: Any) -> Watched:
        return Watched(*args)


class Clocks:
    """What each thread of a launch knows."""

    def __init__(self, threads: int):
        self.own = [1] * threads
        self.known = [np.zeros(threads, np.int32)] * threads  # shared, never changed
        self.fenced: list[np.ndarray | None] = [None] * threads
        self.accesses = 0

    def meet(self, threads: Iterable[int]) -> None:
        """What these did before lies before what they do afterwards."""
        threads = list(threads)
        distinct = {id(self.known[t]): self.known[t] for t in threads}
        found = np.maximum.reduce(list(distinct.values()))
        for t in threads:
            found[t] = self.own[t]
            self.own[t] += 1
            self.known[t] = found

    def fence(self, t: int) -> None:
        self.fenced[t] = told = self.known[t].copy()
        told[t] = self.own[t]
        self.own[t] += 1

    def atomic(self, t: int, element: Element) -> None:
        told, before = self.fenced[t], element.sync
        if before is not None:
            self.known[t] = np.maximum(self.known[t], before)
        if told is not None:
            element.sync = told if before is None else np.maximum(told, before)


class Watched(Array):
    """An array whose accesses are compared with those before."""

    __slots__ = ("address",)

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.address = address_of(self.elements)

    def _used(self, i: tuple) -> list[Element]:
        """The element at i (or the words of it)."""
        at = self.address + sum(k * s for k, s in zip(i, self.elements.strides))
        memory, size = self.memory, self.dtype.itemsize
        found = []
        for a in (at,) if size <= memory.granule else range(at, at + size, memory.granule):
            element = memory.elements.get(a)
            if element is None:
                before = memory.written if memory.base is None else memory.written[a - memory.base]
                element = memory.elements[a] = Element(-1 if before else -2)
            found.append(element)
        clocks = cuda.launch.clocks
        clocks.accesses += 1
        if clocks.accesses > ACCESSES:
            raise EndlessError(f"{ACCESSES} accesses of memory, and no end")
        return found

    def _name(self, i: tuple) -> str:
        return f"{self.name}[{', '.join(map(str, i))}]"

    def _race(self, i: tuple, verb: str, other: int, did: str, where: Where | None) -> RaceError:
        launch = cuda.launch
        here = of_kernel(sys._getframe(1))
        return RaceError(
            f"a race for {self._name(i)}\n"
            f"  {place(cuda.thread.number, launch)} {verb} it: {line(here)}\n"
            f"  {place(other, launch)} {did} it: {line(where)}\n"
            f"  no barrier orders the two"
        )

    def _read(self, i: tuple, where: Where | None, atomic: bool = False) -> None:
        thread, clocks = cuda.thread.number, cuda.launch.clocks
        for e in self._used(i):
            if e.writer == -2:
                raise UnwrittenError(f"{self._name(i)} is read, and nobody wrote it")
            if e.pending:
                raise UnwrittenError(f"{self._name(i)} is read while an asynchronous copy to it is on its way")
            if e.writer >= 0 and e.writer != thread and clocks.known[thread][e.writer] < e.clock and not (
                atomic and e.atomic
            ):  # fmt: skip
                raise self._race(i, "reads", e.writer, "wrote", e.where)
            if not atomic:
                e.readers[thread] = clocks.own[thread], where

    def _write(self, i: tuple, where: Where | None, atomic: bool = False, same: bool = False) -> None:
        """``same``: the value that was there; so two threads may write one value."""
        thread, clocks = cuda.thread.number, cuda.launch.clocks
        known = clocks.known[thread]
        for e in self._used(i):
            if e.writer >= 0 and e.writer != thread and known[e.writer] < e.clock and not (
                same or (atomic and e.atomic)
            ):  # fmt: skip
                raise self._race(i, "writes", e.writer, "wrote", e.where)
            for reader, (clock, at) in e.readers.items():
                if reader != thread and known[reader] < clock:
                    raise self._race(i, "writes", reader, "read", at)
            now = clocks.own[thread]
            atomic &= e.atomic or (e.writer, e.clock) != (thread, now)  # a plain write of this step still counts
            e.writer, e.clock, e.where, e.atomic, e.pending = thread, now, where, atomic, False
            e.readers.clear()
        if self.memory.base is not None:
            at = self.address - self.memory.base + sum(k * s for k, s in zip(i, self.elements.strides))
            self.memory.written[at : at + self.dtype.itemsize] = True

    # ------------------------------------------------------------------ access

    def __getitem__(self, i: Any) -> Any:
        i = self.index(i)
        if i.__class__ is not tuple:
            return i
        self._read(i, _here())
        return self.get(i)

    def __setitem__(self, i: Any, value: Any) -> None:
        place = self.index(i)
        if place.__class__ is tuple:
            e = self._used(place)[0]
            kept = self.get(place)
            same = e.writer >= 0 and not e.pending and (kept == value or (kept != kept and value != value))
            self._write(place, _here(), same=same)
        super().__setitem__(i, value)

    def change(self, i: Any, new: Any) -> Any:
        i = self.index(i)
        for e in self._used(i)[:1]:
            cuda.launch.clocks.atomic(cuda.thread.number, e)
        where = _here()
        self._read(i, where, atomic=True)
        self._write(i, where, atomic=True)
        return super().change(i, new)

    def acquire(self, i: Any) -> Any:
        i = self.index(i)
        cuda.launch.clocks.atomic(cuda.thread.number, self._used(i)[0])
        self._read(i, _here(), atomic=True)
        return self.get(i)

    def _along(self, i: Any, n: int) -> list[tuple]:
        i = i if i.__class__ is tuple else (i,)
        return [(*i[:-1], i[-1] + k) for k in range(n)]

    def load(self, i: Any, n: int) -> np.ndarray:
        found, where = super().load(i, n), _here()
        for k in self._along(i, n):
            self._read(k, where)
        return found

    def store(self, i: Any, values: Any) -> None:
        self.span(i, len(values))
        where = _here()
        for k in self._along(i, len(values)):
            self._write(k, where)
        super().store(i, values)

    def begin_copy(self, i: Any, n: int) -> None:
        self.span(i, n)
        where = _here()
        for k in self._along(i, n):
            self._write(k, where)
            for e in self._used(k):
                e.pending = True
        super().begin_copy(i, n)

    end_copy = store


def _here() -> Where | None:
    return of_kernel(sys._getframe(2))

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


Uses = dict[int, tuple[int, Where | None]]  # by thread: at which step of it, and where


class Element:
    """Who used an element: its last plain write, and since then all reads, and all atomics.

    written: before the launch, or in it; pending: an asynchronous copy is on its way; told: by atomics, to the next"""

    __slots__ = ("atomics", "pending", "reads", "told", "writes", "written")

    def __init__(self, written: bool):
        self.written, self.pending = written, False
        self.writes: Uses = {}
        self.reads: Uses = {}
        self.atomics: Uses = {}
        self.told: np.ndarray | None = None


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
        told, before = self.fenced[t], element.told
        if before is not None:
            self.known[t] = np.maximum(self.known[t], before)
        if told is not None:
            element.told = told if before is None else np.maximum(told, before)


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
                element = memory.elements[a] = Element(bool(before))
            found.append(element)
        clocks = cuda.launch.clocks
        clocks.accesses += 1
        if clocks.accesses > ACCESSES:
            raise EndlessError(f"{ACCESSES} accesses of memory, and no end")
        return found

    def _name(self, i: tuple) -> str:
        return f"{self.name}[{', '.join(map(str, i))}]"

    def _compare(self, i: tuple, does: str, uses: Uses, did: str) -> None:
        """One of ``uses`` that nothing orders with what the thread does now is a race."""
        thread, launch = cuda.thread.number, cuda.launch
        known = launch.clocks.known[thread]
        for other, (clock, where) in uses.items():
            if other != thread and known[other] < clock:
                here = line(of_kernel(sys._getframe(1)))
                raise RaceError(
                    f"a race for {self._name(i)}\n"
                    f"  {place(thread, launch)} {does} it: {here}\n"
                    f"  {place(other, launch)} {did} it: {line(where)}\n"
                    f"  no barrier orders the two"
                )

    def _written(self, i: tuple, e: Element) -> None:
        if not e.written:
            raise UnwrittenError(f"{self._name(i)} is read, and nobody wrote it")
        if e.pending:
            raise UnwrittenError(f"{self._name(i)} is read while an asynchronous copy to it is on its way")

    def _read(self, i: tuple, where: Where | None) -> None:
        for e in self._used(i):
            self._written(i, e)
            if e.writes:
                self._compare(i, "reads", e.writes, "wrote")
            if e.atomics:
                self._compare(i, "reads", e.atomics, "changed")
            thread = cuda.thread.number
            e.reads[thread] = cuda.launch.clocks.own[thread], where

    def _write(self, i: tuple, where: Where | None, same: bool = False) -> None:
        """``same``: the value that another wrote, too; that does no harm."""
        for e in self._used(i):
            if not same:
                self._compare(i, "writes", e.writes, "wrote")
            self._compare(i, "writes", e.reads, "read")
            self._compare(i, "writes", e.atomics, "changed")
            thread = cuda.thread.number
            e.writes, e.reads, e.atomics = {thread: (cuda.launch.clocks.own[thread], where)}, {}, {}
            e.written, e.pending = True, False
        if self.memory.base is not None:
            at = self.address - self.memory.base + sum(k * s for k, s in zip(i, self.elements.strides))
            self.memory.written[at : at + self.dtype.itemsize] = True

    def _atomic(self, i: tuple, reads: bool = False) -> None:
        thread, clocks = cuda.thread.number, cuda.launch.clocks
        e = self._used(i)[0]
        clocks.atomic(thread, e)
        self._written(i, e)
        self._compare(i, "changes", e.writes, "wrote")
        if not reads:
            self._compare(i, "changes", e.reads, "read")
            e.atomics[thread] = clocks.own[thread], _here()

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
            same = bool(e.writes) and not e.pending and (kept == value or (kept != kept and value != value))
            self._write(place, _here(), same=same)
        super().__setitem__(i, value)

    def change(self, i: Any, new: Any) -> Any:
        self._atomic(self.index(i))
        return super().change(i, new)

    def acquire(self, i: Any) -> Any:
        i = self.index(i)
        self._atomic(i, reads=True)
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

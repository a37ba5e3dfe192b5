"""Floor 6: what the words of a CUDA kernel mean on the emulated device; see ``kernels/cuda/vocabulary.py``."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from minigrad.testing.simt.models import COLLECTIVES, MODELS
from minigrad.testing.simt.runner import DivergenceError, Launch, Thread

FULL = 0xFFFFFFFF
_LAUNCH: list[Launch] = []


@contextmanager
def running(launch: Launch) -> Iterator[Launch]:
    _LAUNCH.append(launch)
    try:
        yield launch
    finally:
        _LAUNCH.pop()


def current() -> Launch:
    return _LAUNCH[-1]


def _poisoned(shape: Any, dtype: Any) -> np.ndarray:
    dtype = np.dtype(getattr(dtype, "name", dtype))
    return np.full(shape, np.nan if dtype.kind == "f" else np.iinfo(dtype).max, dtype)


def _shared(shape: Any, dtype: Any, alignment: int = 0) -> np.ndarray:
    block = current().thread.block
    if shape == 0:
        return block.dynamic.view(np.dtype(dtype))
    frame = sys._getframe(1)
    place = frame.f_code, frame.f_lasti
    if place not in block.arrays:
        block.arrays[place] = _poisoned(shape, dtype)
    return block.arrays[place]


def _atomic(change: Callable) -> Callable:
    def run(array: Any, i: Any, value: Any) -> Any:
        old = array[i]
        array[i] = change(old, value)
        return old

    return run


class _Cuda:
    """``cuda`` in a kernel."""

    warpsize = 32
    threadIdx = property(lambda self: current().thread.place)
    blockIdx = property(lambda self: current().thread.block.place)
    blockDim = property(lambda self: current().shape)
    gridDim = property(lambda self: current().grid)
    laneid = property(lambda self: current().thread.lane)
    shared = SimpleNamespace(array=_shared)
    local = SimpleNamespace(array=lambda shape, dtype, alignment=0: _poisoned(shape, dtype))
    atomic = SimpleNamespace(
        add=_atomic(lambda old, v: old + v), max=_atomic(max), min=_atomic(min), exch=_atomic(lambda old, v: v)
    )

    def grid(self, axes: int) -> Any:
        launch = current()
        b, t, n = launch.thread.block.place, launch.thread.place, launch.shape
        found = b.x * n.x + t.x, b.y * n.y + t.y, b.z * n.z + t.z
        return found[0] if axes == 1 else found[:axes]

    def gridsize(self, axes: int) -> Any:
        g, n = current().grid, current().shape
        found = g.x * n.x, g.y * n.y, g.z * n.z
        return found[0] if axes == 1 else found[:axes]

    def syncthreads(self) -> None:
        frame = sys._getframe(1)
        current().pause(("block", frame.f_code.co_name, frame.f_lineno))

    def syncwarp(self, mask: int = FULL) -> None:
        current().pause(("warp", "sync", mask))

    def shfl_sync(self, mask: int, value: Any, lane: int) -> Any:
        return current().pause(("warp", "index", mask), (value, lane))

    def shfl_down_sync(self, mask: int, value: Any, delta: int) -> Any:
        return current().pause(("warp", "down", mask), (value, delta))

    def shfl_up_sync(self, mask: int, value: Any, delta: int) -> Any:
        return current().pause(("warp", "up", mask), (value, delta))

    def shfl_xor_sync(self, mask: int, value: Any, other: int) -> Any:
        return current().pause(("warp", "xor", mask), (value, other))

    def ballot_sync(self, mask: int, value: Any) -> int:
        return current().pause(("warp", "ballot", mask), bool(value))

    def threadfence(self) -> None:
        pass


cuda = _Cuda()


def kernel(function: Callable) -> Callable:
    return function


inline = kernel


# ------------------------------------------------------------------------------------------------ warp functions


def _shuffle(source: Callable[[int, int], int]) -> Callable:
    def meet(group: list[Thread]) -> None:
        values = {t.lane: t.value[0] for t in group}
        found = [values.get(source(t.lane, t.value[1]), t.value[0]) for t in group]
        for t, value in zip(group, found):
            t.value = value

    return meet


def _ballot(group: list[Thread]) -> None:
    votes = sum(1 << t.lane for t in group if t.value)
    for t in group:
        t.value = votes


COLLECTIVES.update(
    sync=lambda group: None, index=_shuffle(lambda lane, i: i % 32), down=_shuffle(lambda lane, d: lane + d),
    up=_shuffle(lambda lane, d: lane - d), xor=_shuffle(lambda lane, m: lane ^ m), ballot=_ballot,
)  # fmt: skip


# ------------------------------------------------------------------------------------------------ memory


def _span(p: Any, i: int, n: int) -> None:
    if i % n:
        raise IndexError(f"an access of {n} neighbours at {i}, which is no multiple of {n}")
    if not 0 <= i <= len(p) - n:
        raise IndexError(f"elements {i} .. {i + n} of {len(p)}")


def _load(n: int) -> Callable:
    def load(p: Any, i: int) -> tuple:
        _span(p, i, n)
        return tuple([p[i + k] for k in range(n)])

    return load


def _store(n: int) -> Callable:
    def store(p: Any, i: int, values: tuple) -> None:
        _span(p, i, n)
        for k in range(n):
            p[i + k] = values[k]

    return store


load4, load2, store4, store2 = _load(4), _load(2), _store(4), _store(2)


class Place:
    """The address of an element. ``read`` and ``write`` move n neighbours; all are inside, and n items aligned."""

    def __init__(self, array: Any, i: int):
        self.array, self.i = array, i

    def read(self, n: int = 1) -> np.ndarray:
        _span(self.array, self.i, n)
        return np.array([self.array[self.i + k] for k in range(n)], self.array.dtype)

    def write(self, values: Any) -> None:
        _span(self.array, self.i, len(values))
        for k, value in enumerate(values):
            self.array[self.i + k] = value


address = shared_address = Place


class _Counter:
    """What the blocks of a group count at a barrier."""

    def __init__(self, counters: Any):
        self.counters = counters

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Counter)

    def __hash__(self) -> int:
        return 0

    def arrive(self, group: int, blocks: int, target: int) -> None:
        self.counters[group] = int(self.counters[group]) + blocks
        if self.counters[group] != target:
            raise DivergenceError(f"a barrier waits for the count {target}, and {self.counters[group]} is reached")


def group_barrier(counters: Any, group: int, blocks: int, target: int) -> None:
    current().pause(("group", _Counter(counters), int(group), int(blocks), int(target)))


def grid_barrier(counter: Any, target: int) -> None:
    current().pause(("group", _Counter(counter), 0, current().grid.size, int(target)))


def __getattr__(name: str) -> Any:
    """Words that are registered as models."""
    if name in MODELS:
        return MODELS[name]
    raise AttributeError(f"the emulator has no model of '{name}'; register one with simt.model or simt.collective")


# ------------------------------------------------------------------------------------------------ mathematics


def _of_numbers(function: Callable) -> Callable:
    """A function of a NumPy number in its own dtype; outside of its domain NaN or Inf, as on a GPU."""
    return lambda x: function(x) if isinstance(x, np.floating) else function(np.float64(x))


exp, expm1, log, log1p, sqrt, sin, cos, fabs = map(
    _of_numbers, (np.exp, np.expm1, np.log, np.log1p, np.sqrt, np.sin, np.cos, np.abs)
)
copysign = np.copysign


def erf(x: Any) -> Any:
    return type(x)(math.erf(x))


def exp2_fast(x: Any) -> Any:
    return np.float32(np.exp2(np.float32(x)))


def reciprocal_fast(x: Any) -> Any:
    return np.float32(1) / np.float32(x)

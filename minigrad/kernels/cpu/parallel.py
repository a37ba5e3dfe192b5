"""Floor 2, CPU: one parallel region for every large kernel.

A body is a compiled function ``body(table, phase, worker, workers)`` known by its address; ``table`` is the
address of its int64 arguments. The region is compiled once, so bodies need no ``parallel=True``, which would
cost a second of compile time each. A barrier stands between phases. A region costs 1 to 2 us back to back
(OpenMP) and up to 100 us after a pause, so small work takes ``serial``.
"""

from __future__ import annotations

import os
from functools import lru_cache
from types import ModuleType

import numba
import numpy as np

from minigrad.config import config
from minigrad.kernels.cpu import micro
from minigrad.kernels.cpu.build import emit, load

_TEXT = """
from numba import carray, prange
from minigrad.kernels.cpu.compile import body, parallel_kernel

@kernel
def serial(body, table, phases):
    for phase in range(phases):
        call4(body, (table, phase, 0, 1))

@parallel_kernel
def region(body, table, phases, workers):
    for phase in range(phases):
        for worker in prange(workers):
            call4(body, (table, phase, worker, workers))

@body
def each(table, phase, worker, workers):
    t = carray(address_as_int64(table), (3 * workers,))                # body, table and phases of every worker
    for own in range(t[3 * worker + 2]):
        call4(t[3 * worker], (t[3 * worker + 1], own, 0, 1))
"""


@lru_cache
def launcher() -> ModuleType:
    """``serial(body, table, phases)`` and ``region(body, table, phases, workers)``."""
    return load("region", emit("Parallel region", _TEXT, [micro.call4, micro.address_as_int64], np.dtype("int64")))


def run(body: int, table: int, phases: int, workers: int) -> None:
    if workers == 1:
        launcher().serial(body, table, phases)
    else:
        launcher().region(body, table, phases, workers)


def run_each(calls: list[tuple[int, int, int]]) -> None:
    """Several (body, table, phases), each on a thread of its own."""
    table = np.array(calls, np.int64)
    launcher().region(launcher().each.address, table.ctypes.data, 1, len(calls))


@lru_cache
def workers() -> int:
    """Threads for large kernels."""
    most = min(numba.config.NUMBA_NUM_THREADS, os.cpu_count() or 1)
    return max(1, min(config.threads or most, most))

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
from numba import prange
from minigrad.kernels.cpu.compile import parallel_kernel

@kernel
def serial(body, table, phases):
    for phase in range(phases):
        call4(body, (table, phase, 0, 1))

@parallel_kernel
def region(body, table, phases, workers):
    for phase in range(phases):
        for worker in prange(workers):
            call4(body, (table, phase, worker, workers))
"""


@lru_cache
def launcher() -> ModuleType:
    """``serial(body, table, phases)`` and ``region(body, table, phases, workers)``."""
    return load("region", emit("Parallel region", _TEXT, [micro.call4], np.dtype("int64")))


def run(body: int, table: int, phases: int, workers: int) -> None:
    if workers == 1:
        launcher().serial(body, table, phases)
    else:
        launcher().region(body, table, phases, workers)


@lru_cache
def workers() -> int:
    """Threads for large kernels."""
    most = min(numba.config.NUMBA_NUM_THREADS, os.cpu_count() or 1)
    return max(1, min(config.threads or most, most))

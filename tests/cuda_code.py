"""The machine code of minigrad's CUDA kernels without a GPU: which kernels there are, and what the compiler makes of them.

``kernels()`` finds them by running every operation, its gradients and recurrent layers on a device that computes
nothing and notes what it is asked to launch. ``look`` compiles one and reads its machine code.
"""

import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata

import numpy as np

import minigrad as mg
from minigrad.errors import MinigradError
from minigrad.kernels import BACKENDS, register
from minigrad.kernels.cuda.backend import Backend
from minigrad.kernels.cuda.device import Device
from minigrad.kernels.cuda.kernel import KERNELS
from minigrad.kernels.cuda.language import INSTRUCTIONS
from minigrad.ops import REGISTRY

ARCHITECTURES = ((7, 5), (8, 0), (9, 0, "a"))
THREADS = 256  # of a block where the kernel leaves it open, as on a GPU
REGISTERS = 65536  # of a multiprocessor, and so of a block
SHARED = 48 * 1024  # bytes of a block that the compiler may lay out; more is asked for at the launch
PACKAGES = ("numba", "numba-cuda", "nvidia-cuda-nvrtc", "nvidia-nvvm", "nvidia-nvjitlink")


class Collecting(Device):
    """A device that computes nothing and notes what it should launch."""

    name, vocabulary = "cuda-collecting", "minigrad.kernels.cuda.vocabulary"
    capability, multiprocessors, threads, shared_limit = (9, 0, "a"), 132, THREADS, 227 * 1024

    def __init__(self):
        super().__init__()
        self.seen = {}  # (name of the kernel, dtype, its file) -> kernel

    def allocate(self, size):
        return size

    def upload(self, to, values):
        pass

    def download(self, x):
        return np.zeros(x.shape, x.dtype)

    def compile(self, file, threads, max_registers):
        return file

    def start(self, compiled, grid, threads, args, shared, cooperative):
        pass

    def synchronize(self):
        pass

    def launch(self, kernel, dtype, grid, *args, **options):
        self.seen[kernel.file(dtype, self.vocabulary).stem] = kernel, np.dtype(dtype)
        super().launch(kernel, dtype, grid, *args, **options)


@contextmanager
def collecting():
    device = Collecting()
    register(Backend(device))
    try:
        yield device
    finally:
        del BACKENDS[device.array_type]


def _operations(name, dtype):
    """Every operation of the registry with its gradients, with every way of calling it that tests know."""
    from test_ops import leaves_of_call, materialise

    for record in REGISTRY.values():
        for i, (args, attrs) in enumerate(record.cases):
            arrays, fill = materialise(np.random.default_rng(i), record, args)
            yield record.name, lambda r=record, a=arrays, f=fill, k=attrs: leaves_of_call(r, a, f, k, name, dtype)

"""Floor 2, CUDA: what a machine has of a GPU, its driver and the packages, and what mends what is missing.

Asks the driver's own library through ctypes, so that it works where no package of CUDA is installed.
"""

from __future__ import annotations

import ctypes
import sys
from importlib.util import find_spec
from typing import NamedTuple

CAPABILITY = (7, 5)  # the oldest that the libraries of CUDA 13 make code for
LIBRARIES = ("nvrtc", "nvvm", "nvJitLink")  # what compiles a kernel
_MAJOR, _MINOR = 75, 76  # CUdevice_attribute: compute capability
_EXTRA = "pip install 'minigrad[cuda]'"


class Problem(NamedTuple):
    """Why there is no GPU to compute on: what was found, what it takes, and the command that mends it."""

    got: str
    expected: str
    do: str


class Card(NamedTuple):
    name: str
    capability: tuple[int, int]
    cuda: tuple[int, int]  # the newest CUDA that its driver knows


def card() -> Card | Problem:
    """The first GPU that the driver shows to this process (CUDA_VISIBLE_DEVICES chooses)."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        do = "on Ubuntu: sudo ubuntu-drivers install; in a container: docker run --gpus all"
        return Problem("no NVIDIA driver (libcuda.so.1)", "an NVIDIA GPU with its driver", do)
    found, count = ctypes.c_int(), ctypes.c_int()
    error = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if error or not count.value:
        got = f"no GPU (the driver answers {error})" if error else "a driver but no GPU"
        return Problem(got, "an NVIDIA GPU that this process may see", "nvidia-smi shows what the driver sees")
    device, name, capability = ctypes.c_int(), ctypes.create_string_buffer(100), []
    driver.cuDeviceGet(ctypes.byref(device), 0)
    driver.cuDeviceGetName(name, len(name), device)
    for attribute in (_MAJOR, _MINOR):
        driver.cuDeviceGetAttribute(ctypes.byref(found), attribute, device)
        capability.append(found.value)
    driver.cuDriverGetVersion(ctypes.byref(found))
    major, minor = capability
    cuda = found.value // 1000, found.value % 1000 // 10
    if (major, minor) < CAPABILITY:
        got = f"{name.value.decode()} with compute capability {major}.{minor}"
        return Problem(got, "{}.{} or later".format(*CAPABILITY), "--device cpu")
    if cuda[0] < 12:
        do = "update it, on Ubuntu: sudo ubuntu-drivers install"
        return Problem("a driver for CUDA {}.{}".format(*cuda), "one for CUDA 12 or later", do)
    return Card(name.value.decode(), (major, minor), cuda)


def packages(driver: int = 13) -> Problem | None:
    """What is missing to compile kernels for a driver of CUDA ``driver``; None if nothing is."""
    extra = _EXTRA if driver >= 13 else _EXTRA.replace("cuda", "cuda12")
    if find_spec("numba_cuda") is None:
        return Problem("no numba-cuda", "it and CUDA's compiler libraries (numba's own numba.cuda does not do)", extra)
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

    for library in LIBRARIES:
        try:
            load_nvidia_dynamic_lib(library)
        except DynamicLibNotFoundError:
            return Problem(f"no library {library}", f"all of {', '.join(LIBRARIES)}", extra)
    return None


def summary() -> str:
    """One line: the GPU, or what is missing and the command that mends it."""
    found = card()
    if isinstance(found, Problem):
        return f"{found.got}; {found.do}"
    missing = packages(found.cuda[0])
    shown = f"{found.name}, compute capability {{}}.{{}}, driver for CUDA {{}}.{{}}".format(
        *found.capability, *found.cuda
    )
    return f"{shown}; {missing.got}: {missing.do}" if missing else shown

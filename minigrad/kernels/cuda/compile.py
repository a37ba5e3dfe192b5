"""Floor 2, CUDA: from the text of a kernel to machine code, without a GPU: the same path for a device and for tests.

numba-cuda makes LTO-IR of the kernel, nvJitLink makes a cubin of it, and that is what a device loads
(``driver.py``). So what the tests assert of registers, spills and instructions holds for what runs.
"""

# mypy: ignore-errors

from __future__ import annotations

import contextlib
import re
import threading
import warnings
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from minigrad.errors import DeviceError, describe
from minigrad.kernels.cuda import present

if not hasattr(np, "row_stack"):  # numba-cuda 0.30 asks for it; NumPy 2.5 took it away
    np.row_stack = np.vstack

from numba import types

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba-cuda 0.30 is older than NumPy 2.5, which warns of dates
        import _numba_cuda_redirector  # noqa: F401  (also where its .pth file is not read: pip install --target)
        from numba import cuda
        from numba.cuda import cgutils, dispatcher  # noqa: F401  (for vocabulary.py, as are the next)
        from numba.cuda.extending import intrinsic  # noqa: F401
        from numba.cuda.typing import signature  # noqa: F401

    if getattr(cuda, "implementation", "") != "NVIDIA":
        raise ImportError("numba's own CUDA target, which is no longer kept up")
    from cuda.core import Linker, LinkerOptions, ObjectCode
except ImportError as error:
    do = "pip install 'minigrad[cuda]'"
    raise DeviceError(describe("cuda", f"no numba-cuda ({error})", "numba-cuda and CUDA's libraries", do)) from None

_ELEMENTS = {"f4": types.float32, "f8": types.float64, "i8": types.int64, "i4": types.int32, "i2": types.int16,
             "i1": types.int8, "u8": types.uint64, "u4": types.uint32, "u2": types.uint16,
             "u1": types.uint8}  # fmt: skip
_REPORT = re.compile(
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\s*\n.*?Used (\d+) registers"
)
_SHARED = re.compile(r"(\d+) bytes smem")
REGISTERS = 65536  # of a multiprocessor
_COMPILING = threading.Lock()


class Code(NamedTuple):
    """Machine code of one kernel, and what ptxas says of it: counts, and bytes of each thread or block."""

    cubin: bytes
    entry: str
    registers: int
    stack: int
    spills: int
    shared: int


@contextlib.contextmanager
def _pretend(capability):
    """numba-cuda asks the current device for its capability when it meets a device function."""
    before = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability[:2])
    try:
        yield
    finally:
        dispatcher.get_current_device = before


def architecture(capability) -> str:
    """(9, 0, "a") is "sm_90a"."""
    return "sm_" + "".join(map(str, capability))


def numba_type(token: str):
    """ "f4*" a pointer, "i8" a number."""
    element = _ELEMENTS[token.rstrip("*")]
    return types.CPointer(element) if token.endswith("*") else element


def lower(text: str, stem: str, takes, capability, threads: int, max_registers=None, output: str = "ltoir"):
    """LTO-IR (or "ptx") of ``run`` in the text of a kernel file. A ceiling of registers is said as a number of blocks
    that a multiprocessor must hold: ptxas heeds no other where it knows the threads."""
    blocks = REGISTERS // (threads * max_registers) if threads and max_registers else 1
    names = {"__name__": stem, "__file__": f"<{stem}>"}
    exec(compile(text, f"<{stem}>", "exec"), names)
    with _pretend(capability):
        code, _ = cuda.compile(names["run"], types.void(*map(numba_type, takes)), device=False, abi="numba",
                               abi_info={"abi_name": stem}, cc=capability, output=output,
                               launch_bounds=(threads, blocks) if threads else None)  # fmt: skip
    return code


def build(text: str, stem: str, takes, capability, threads: int = 0, max_registers: int | None = None) -> Code:
    """Machine code of the kernel for arguments of these types (``numba_type``)."""
    try:
        with _COMPILING:
            ir = lower(text, stem, takes, capability, threads, max_registers)
            options = LinkerOptions(arch=architecture(capability), link_time_optimization=True, ptxas_options=["-v"])
            linker = Linker(ObjectCode.from_ltoir(ir), options=options)
            cubin = linker.link("cubin").code
            log = linker.get_info_log()
    except RuntimeError as error:
        missing = present.packages()
        if missing is None:
            raise
        raise DeviceError(describe("cuda", *missing)) from error
    stack, stores, loads, registers = map(int, _REPORT.search(log).groups())
    shared = _SHARED.search(log)
    return Code(bytes(cubin), stem, registers, stack, stores + loads, int(shared[1]) if shared else 0)

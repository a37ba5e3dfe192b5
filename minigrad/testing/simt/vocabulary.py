"""Floor 6: what the words of a CUDA kernel mean on the emulated device; see ``kernels/cuda/vocabulary.py``."""

from __future__ import annotations

import linecache
import math
import re
import sys
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np

from minigrad.testing.simt.faults import BoundsError, DivergenceError
from minigrad.testing.simt.here import cuda
from minigrad.testing.simt.memory import Array, Place, address_of, array, commit_copies, dtype_of, poisoned, wait_copies
from minigrad.testing.simt.models import FULL, MODELS, model
from minigrad.testing.simt.warps import WORDS

__all__ = ["FULL", "Array", "Place", "commit_copies", "cuda", "wait_copies"]
_ASSIGNED = re.compile(r"\s*(\w+)\s*=[^=]")
STATIC = 48 * 1024  # bytes of shared arrays of constant size that a block may have


def current() -> Any:
    return cuda.launch


def kernel(function: Callable) -> Callable:
    return function


inline = kernel


# ------------------------------------------------------------------------------------------------ places


def grid(axes: int) -> Any:
    b, t, n = cuda.blockIdx, cuda.threadIdx, cuda.blockDim
    if axes == 1:
        return b.x * n.x + t.x
    return (b.x * n.x + t.x, b.y * n.y + t.y, b.z * n.z + t.z)[:axes]


def gridsize(axes: int) -> Any:
    g, n = cuda.gridDim, cuda.blockDim
    return g.x * n.x if axes == 1 else (g.x * n.x, g.y * n.y, g.z * n.z)[:axes]


# ------------------------------------------------------------------------------------------------ memory


def _shared(shape: Any, dtype: Any, alignment: int | None = None) -> Array:
    if shape in (0, (0,)):
        return _dynamic(dtype_of(dtype))
    launch, arrays, frame = cuda.launch, cuda.thread.block.arrays, sys._getframe(1)
    place = id(frame.f_code), frame.f_lasti
    found = arrays.get(place)
    if found is None:
        dtype = dtype_of(dtype)
        elements = poisoned(shape, dtype)
        found = array(elements, _named("shared", frame), alignment or dtype.itemsize, launch.memory(False))
        arrays[place] = found
        used = sum(x.elements.nbytes for x in arrays.values())
        if used > STATIC or used + launch.shared > launch.shared_limit:
            limit = f"{STATIC} of constant size, {launch.shared_limit} in all"
            raise BoundsError(f"{used} bytes of shared arrays and {launch.shared} dynamic; a block may have {limit}")
    return found


def _dynamic(dtype: np.dtype) -> Array:
    launch, block = cuda.launch, cuda.thread.block
    if block.dynamic is None:
        buffer = np.full(launch.shared, 255, np.uint8)  # NaN, read as floats
        block.dynamic = buffer, launch.memory(False, granule=4)
    buffer, memory = block.dynamic
    whole = len(buffer) // dtype.itemsize * dtype.itemsize
    return array(buffer[:whole].view(dtype), "dynamic shared memory", 256, memory)


def _local(shape: Any, dtype: Any, alignment: int | None = None) -> Array:
    name = _named("local", sys._getframe(1)) if cuda.launch.races else "a local array"
    return array(poisoned(shape, dtype), name, alignment or dtype_of(dtype).itemsize, cuda.launch.memory(False))


def _named(kind: str, frame: FrameType) -> str:
    """ "shared array s", where the text of the line is ``s = ...``"""
    found = _ASSIGNED.match(linecache.getline(frame.f_code.co_filename, frame.f_lineno))
    return f"{kind} array {found[1]}" if found else f"{kind} array of line {frame.f_lineno}"


def _constant(values: np.ndarray) -> Array:
    return array(np.array(values), "a constant array", writable=False)


def _change(new: Callable) -> Callable:
    return lambda x, i, value: x.change(i, lambda old: new(old, value))


def _cas(x: Array, i: Any, expected: Any, value: Any) -> Any:
    old = x.change(i, lambda old: value if old == expected else old)
    if old != expected:
        _spin()
    return old


def _inc(old: int, limit: int) -> int:
    return 0 if old >= limit else old + 1


def _dec(old: int, limit: int) -> int:
    return limit if old == 0 or old > limit else old - 1


def _nan(choose: Callable, skip: bool) -> Callable:
    """max and min of numbers of which one may be NaN: the other."""

    def run(old: Any, value: Any) -> Any:
        if value != value:
            return old
        return value if old != old else choose(old, value)

    return run if skip else choose


def _spin() -> None:
    """Let the others run: this thread waits for what one of them does."""
    if cuda.thread.green is not None:
        cuda.launch.pause(("spin",))


def threadfence() -> None:
    if cuda.launch.races:
        cuda.launch.clocks.fence(cuda.thread.number)


# ------------------------------------------------------------------------------------------------ barriers


def _syncthreads(name: str) -> Callable:
    def sync(value: Any = None) -> Any:
        frame = sys._getframe(1)
        return cuda.launch.pause(("syncthreads", name, id(frame.f_code), frame.f_lineno), value)

    return sync


def group_barrier(counters: Array, group: int, blocks: int, target: int) -> None:
    """The counter is kept as on a GPU, so a wrong target is found."""
    _meet("group_barrier", counters, int(group), int(blocks), int(target))


def grid_barrier(counter: Array, target: int) -> None:
    _meet("grid_barrier", counter, 0, cuda.gridDim.size, int(target))


def _meet(word: str, counters: Array, group: int, blocks: int, target: int) -> None:
    counters.index(group)

    def count(arrived: int) -> None:
        counters.elements[group] += arrived
        if counters.elements[group] != target:
            raise DivergenceError(f"{word} with the target {target}; the {blocks} blocks have made the counter "
                                  f"{counters.elements[group]}")  # fmt: skip

    at = address_of(counters.elements) + group * counters.dtype.itemsize
    cuda.launch.pause((f"{word} (group {group}, target {target})", blocks, at), count)


def _grid_sync() -> None:
    cuda.launch.pause(("this_grid().sync()", cuda.gridDim.size))


# ------------------------------------------------------------------------------------------------ bits and numbers


def _bits(x: Any) -> int:
    if hasattr(x, "dtype"):
        return 8 * x.dtype.itemsize
    raise TypeError("how many bits has it? write np.uint32(x) or np.int64(x)")


def _pattern(x: Any) -> int:
    return int(x) & (1 << (8 * x.dtype.itemsize if hasattr(x, "dtype") else 64)) - 1


def popc(x: Any) -> int:
    return _pattern(x).bit_count()


def clz(x: Any) -> int:
    return _bits(x) - _pattern(x).bit_length()


def ffs(x: Any) -> int:
    found = _pattern(x)
    return (found & -found).bit_length()


def brev(x: Any) -> int:
    return int(f"{_pattern(x):0{_bits(x)}b}"[::-1], 2)


def fma(a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once where float64 is exact enough: for float32."""
    if isinstance(a, np.float32):
        return np.float32(np.float64(a) * np.float64(b) + np.float64(c))
    return a * b + c


def selp(condition: Any, a: Any, b: Any) -> Any:
    return a if condition else b


cuda.__dict__.update(
    grid=grid, gridsize=gridsize,
    threadfence=threadfence, threadfence_block=threadfence, threadfence_system=threadfence,
    shared=SimpleNamespace(array=_shared), local=SimpleNamespace(array=_local),
    const=SimpleNamespace(array_like=_constant), cg=SimpleNamespace(this_grid=lambda: SimpleNamespace(sync=_grid_sync)),
    syncthreads=_syncthreads("block"), syncthreads_and=_syncthreads("block_and"),
    syncthreads_or=_syncthreads("block_or"), syncthreads_count=_syncthreads("block_count"),
    popc=popc, clz=clz, ffs=ffs, brev=brev, fma=fma, selp=selp, cbrt=np.cbrt, rsqrt=lambda x: type(x)(1) / np.sqrt(x),
    nanosleep=lambda n: _spin(),
    atomic=SimpleNamespace(
        add=_change(lambda old, v: old + v), sub=_change(lambda old, v: old - v), exch=_change(lambda old, v: v),
        max=_change(_nan(max, False)), min=_change(_nan(min, False)), nanmax=_change(_nan(max, True)),
        nanmin=_change(_nan(min, True)), and_=_change(lambda old, v: old & v), or_=_change(lambda old, v: old | v),
        xor=_change(lambda old, v: old ^ v), inc=_change(_inc), dec=_change(_dec), cas=_cas,
        compare_and_swap=lambda x, expected, value: _cas(x, 0, expected, value),
    ),
    **WORDS,
)  # fmt: skip


# ------------------------------------------------------------------------------------------------ neighbours at once


def _load(n: int) -> Callable:
    return lambda x, i: tuple(x.load(i, n).tolist() if x.dtype.kind in "iu" else x.load(i, n))


def _store(n: int) -> Callable:
    def store(x: Array, i: Any, values: tuple) -> None:
        if len(values) != n:
            raise BoundsError(f"store{n} of {len(values)} values")
        x.store(i, values)

    return store


load4, load2, store4, store2 = _load(4), _load(2), _store(4), _store(2)
address = shared_address = Place


@model("add_release")
def add_release(to: Place, value: int) -> None:
    threadfence()
    to.array.change(to.i, lambda old: old + value)


@model("load_acquire")
def load_acquire(at: Place) -> Any:
    _spin()
    return at.array.acquire(at.i)


def __getattr__(name: str) -> Any:
    """Words that are registered as models."""
    if name in MODELS:
        return MODELS[name]
    raise AttributeError(f"the emulator has no model of '{name}'; register one with simt.model or simt.collective")


# ------------------------------------------------------------------------------------------------ mathematics


def _of_numbers(function: Callable) -> Callable:
    """A function of a NumPy number in its own dtype; outside of its domain NaN or Inf, as on a GPU."""
    return lambda x: function(x) if isinstance(x, np.floating) else function(np.float64(x))


exp, expm1, log, log1p, log2, sqrt, sin, cos, tan, tanh, fabs = map(
    _of_numbers,
    (np.exp, np.expm1, np.log, np.log1p, np.log2, np.sqrt, np.sin, np.cos, np.tan, np.tanh, np.abs),
)
copysign = np.copysign


def erf(x: Any) -> Any:
    return type(x)(math.erf(x))


libdevice = SimpleNamespace(
    expf=exp, fast_expf=exp, exp=exp, tanhf=tanh, tanh=tanh, logf=log, log=log, fast_logf=log, sqrtf=sqrt, sqrt=sqrt,
    rsqrtf=cuda.rsqrt, rsqrt=cuda.rsqrt, fdividef=lambda a, b: a / b, fast_fdividef=lambda a, b: a / b,
    fmaf=fma, fma=fma, sinf=sin, cosf=cos, fabsf=fabs, erff=erf, erf=erf,
)  # fmt: skip

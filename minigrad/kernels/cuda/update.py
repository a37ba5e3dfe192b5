"""Floor 2, CUDA: the steps of the optimisers (``kernels/steps.py``), one pass over memory each; sums of squares."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np

from minigrad.kernels import steps
from minigrad.kernels.cuda import move
from minigrad.kernels.cuda.device import Array, Device
from minigrad.kernels.cuda.gather import aligned
from minigrad.kernels.cuda.kernel import KERNELS, Kernel
from minigrad.kernels.cuda.language import cuda, load4, store4
from minigrad.kernels.cuda.reduce import join_block

CHUNK, THREADS = 4096, 256  # of a sum of squares: elements and threads of a block


def times(x, factor):
    return (factor * x,)


def _over_arrays(function: Callable, own: int, reads: int) -> Kernel:
    """A kernel that applies ``function`` to each element of its first ``reads`` arguments, the last ``own`` of which it
    replaces by all but the first of its results; the first goes into ``out``. Four neighbours at a time."""
    names = list(inspect.signature(function).parameters)
    arrays, settings = names[:reads], names[reads:]
    writes, name = ["out", *arrays[reads - own :]], function.__name__

    def call(values: list[str]) -> str:
        return f"{name}({', '.join([*values, *settings])})"

    lines = ["@kernel", f"def run(size, {', '.join([*arrays, 'out', *settings])}):",
             "    i = 4 * cuda.grid(1)", "    while i + 3 < size:"]  # fmt: skip
    lines += [f"        {x}4 = load4({x}, i)" for x in arrays]
    lines += [f"        y{k} = {call([f'{x}4[{k}]' for x in arrays])}" for k in range(4)]
    lines += [f"        store4({x}, i, (y0[{j}], y1[{j}], y2[{j}], y3[{j}]))" for j, x in enumerate(writes)]
    lines += ["        i += 4 * cuda.gridsize(1)", "    i = size - size % 4 + cuda.grid(1)", "    if i < size:",
              f"        y = {call([f'{x}[i]' for x in arrays])}"]  # fmt: skip
    lines += [f"        {x}[i] = y[{j}]" for j, x in enumerate(writes)]
    takes = " ".join(["i8", *["T*"] * (reads + 1), *["T"] * len(settings)])
    kernel = Kernel(None, takes, name=name, text="\n".join(lines) + "\n", parts=(function, load4, store4),
                    promises=("LDG.E.128", "STG.E.128"))  # fmt: skip
    KERNELS.append(kernel)
    return kernel


def squares_kernel(x, parts, n, chunk, width):
    """parts[block] = the sum of the squares of ``chunk`` elements."""
    room = cuda.shared.array(32, T)  # noqa: F821
    i = cuda.blockIdx.x * chunk + 4 * cuda.threadIdx.x
    end = min(n, (cuda.blockIdx.x + 1) * chunk)
    total = 0.0
    while i + 3 < end:
        a = load4(x, i)
        total += (a[0] * a[0] + a[1] * a[1]) + (a[2] * a[2] + a[3] * a[3])
        i += 4 * width
    while i < end:  # the last elements of x, in one thread
        total += x[i] * x[i]
        i += 1
    total = join_block(total, room, 0)
    if cuda.threadIdx.x == 0:
        parts[cuda.blockIdx.x] = total


_STEPS = {f.__name__: _over_arrays(f, own, 2 + own) for f, own in steps.OWN.items()}
_TIMES = _over_arrays(times, 0, 1)
_SQUARES = Kernel(squares_kernel, "T* T* i8", threads=THREADS, promises=("LDG.E.128",), chunk=CHUNK, width=THREADS)


def _plain(device: Device, x: Array) -> Array:
    """x, or a copy, in memory of which four neighbours may be read at once."""
    x = move.contiguous(device, x)
    return x if aligned(x) else move.copy(device, x)


def _launch(device: Device, kernel: Kernel, xs: list[Array], settings: list[float]) -> Array:
    out, n, dtype = device.empty(xs[0].shape, xs[0].dtype), xs[0].size, xs[0].dtype
    device.launch(kernel, dtype, device.blocks(-(-n // 4)), n, *xs, out, *map(dtype.type, settings))
    return out


def update(device: Device, name: str, p: Array, g: Array, buffers: list[Array], settings: list[float]) -> Array:
    """The new parameters after one step of optimiser ``name``; ``buffers`` change."""
    return _launch(device, _STEPS[name], [_plain(device, p), _plain(device, g), *buffers], settings)


def scaled(device: Device, x: Array, factor: float) -> Array:
    """x times a number."""
    return _launch(device, _TIMES, [_plain(device, x)], [factor])


def squares(device: Device, *xs: Array) -> float:
    """The sum of squares of all elements of arrays: of chunks in an array's dtype, and of those in float64."""
    total = 0.0
    for dtype in dict.fromkeys(x.dtype for x in xs):
        found = [x for x in xs if x.dtype == dtype]
        counts, first = [-(-x.size // CHUNK) for x in found], 0
        parts = device.empty((sum(counts),), dtype)
        for x, count in zip(found, counts):
            device.launch(_SQUARES, dtype, count, _plain(device, x), parts.cut((slice(first, first + count),)), x.size)
            first += count
        total += float(device.download(parts).sum(dtype=np.float64)) if first else 0.0
    return total

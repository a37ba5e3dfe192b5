"""Floor 2, CUDA: softmax and its relatives along the last axis.

The largest element of a row is subtracted first, so exponentials cannot overflow. A warp keeps a short row in
registers, so it is read once; a block reads a long row three times, twice from a cache. Limited by the bytes read and
written.
"""

# mypy: disable-error-code="no-untyped-def, name-defined"
# ruff: noqa: F821

from __future__ import annotations

from math import exp, log

from minigrad.kernels.cuda import move
from minigrad.kernels.cuda.device import Array, Device
from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import cuda
from minigrad.kernels.cuda.reduce import join_block, join_warp

SOFTMAX, LOG_SOFTMAX, LOGSUMEXP = range(3)


def origin(m, kind):
    """What is subtracted before exp: the largest element m; 0 for m = -inf and inf, where a logarithm follows, so
    logsumexp is -inf or inf."""
    return T(0) if kind != 0 and (m == -INF or m == INF) else m


def warp_rows_kernel(x, out, rows, n, kind, each):
    """A warp for each of ``rows`` of n <= 32 each."""
    values = cuda.local.array(each, T)
    row, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    if row < rows:
        m = -INF
        for e in range(each):
            k = lane + 32 * e
            values[e] = x[row * n + k] if k < n else -INF
        for e in range(each):
            m = values[e] if values[e] > m else m
        m = origin(join_warp(m, 1), kind)
        total = T(0)
        for e in range(each):
            power = exp(values[e] - m)
            if lane + 32 * e < n:
                total += power
            if kind == 0:
                values[e] = power
        total = join_warp(total, 0)
        if kind == 2:
            if lane == 0:
                out[row] = m + log(total)
        else:
            z = 1.0 / total if kind == 0 else m + log(total)
            for e in range(each):
                k = lane + 32 * e
                if k < n:
                    out[row * n + k] = values[e] * z if kind == 0 else values[e] - z


def block_rows_kernel(x, out, n, kind):
    """A block for each row of n."""
    largest, sums = cuda.shared.array(32, T), cuda.shared.array(32, T)
    step = cuda.blockDim.x
    row = cuda.blockIdx.x
    first, end = row * n + cuda.threadIdx.x, (row + 1) * n
    m0, k = -INF, first
    m1, m2, m3 = m0, m0, m0
    while k + 3 * step < end:
        x0, x1, x2, x3 = x[k], x[k + step], x[k + 2 * step], x[k + 3 * step]
        m0 = x0 if x0 > m0 else m0
        m1 = x1 if x1 > m1 else m1
        m2 = x2 if x2 > m2 else m2
        m3 = x3 if x3 > m3 else m3
        k += 4 * step
    while k < end:
        m0 = x[k] if x[k] > m0 else m0
        k += step
    m0 = m1 if m1 > m0 else m0
    m2 = m3 if m3 > m2 else m2
    m = origin(join_block(m2 if m2 > m0 else m0, largest, 1), kind)
    s0, k = T(0), first
    s1, s2, s3 = s0, s0, s0
    while k + 3 * step < end:
        x0, x1, x2, x3 = x[k], x[k + step], x[k + 2 * step], x[k + 3 * step]
        s0 += exp(x0 - m)
        s1 += exp(x1 - m)
        s2 += exp(x2 - m)
        s3 += exp(x3 - m)
        k += 4 * step
    while k < end:
        s0 += exp(x[k] - m)
        k += step
    total = join_block((s0 + s1) + (s2 + s3), sums, 0)
    if kind == 2:
        if cuda.threadIdx.x == 0:
            out[row] = m + log(total)
    else:
        z = 1.0 / total if kind == 0 else m + log(total)
        k = first
        while k < end:
            out[k] = exp(x[k] - m) * z if kind == 0 else x[k] - z
            k += step


_EACH = (1, 4, 16)  # of which the first that holds a row is taken
_NAMES = {"softmax": SOFTMAX, "log_softmax": LOG_SOFTMAX, "logsumexp": LOGSUMEXP}
_WARP = {
    (kind, each): Kernel(warp_rows_kernel, "T* T* i8 i8", kind=kind, each=each)
    for kind in _NAMES.values()
    for each in _EACH
}
_BLOCK = {kind: Kernel(block_rows_kernel, "T* T* i8", kind=kind) for kind in _NAMES.values()}


def rows(device: Device, name: str, x: Array) -> Array:
    """Each row's "softmax" or "log_softmax" (same shape), or "logsumexp" (last axis of size 1)."""
    n, kind = x.shape[-1], _NAMES[name]
    out = device.empty((*x.shape[:-1], 1) if kind == LOGSUMEXP else x.shape, x.dtype)
    if out.size:
        x, count = move.contiguous(device, x), x.size // n
        each = next((e for e in _EACH if n <= 32 * e), 0)
        if each:
            device.launch(_WARP[kind, each], x.dtype, -(-32 * count // device.threads), x, out, count, n)
        else:
            device.launch(_BLOCK[kind], x.dtype, count, x, out, n)
    return out

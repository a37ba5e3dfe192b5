"""Floor 2, CPU: sums, products, maxima along axes, and running sums.

Every reduction is one of an array seen as (a, r, b) over its middle axis; several axes are folded together
where they touch and taken one after another where they do not. Long sums are cut into blocks, whose sums are
added up in float64: the error grows with the length of a block, not with the number of blocks.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

import numpy as np

from minigrad.kernels.cpu.build import Kernel
from minigrad.kernels.cpu.micro import fast_add, fast_max
from minigrad.kernels.loops import reductions


def sum_rows(x, out, first, last, b):
    """out (b,) = the sum of the rows first .. last of x (., b)."""
    for k in range(b):
        out[k] = 0.0
    for j in range(first, last):
        row = x[j * b : (j + 1) * b]
        for k in range(b):
            out[k] += row[k]


def sum_kernel(x, out, a, r, b):
    """out (a, b) = sum over r of x (a, r, b)."""
    if b == 1:
        for i in range(a):
            total = np.float64(0)
            for start in range(0, r, 4096):
                row = x[i * r + start : i * r + min(r, start + 4096)]
                part = 0.0
                for j in range(row.size):
                    part = fast_add(part, row[j])
                total += part
            out[i] = total
        return
    parts, totals = np.empty(b, x.dtype), np.empty(b, np.float64)
    for i in range(a):
        o = out[i * b : (i + 1) * b]
        if r <= 128:
            sum_rows(x, o, i * r, (i + 1) * r, b)
            continue
        for k in range(b):
            totals[k] = 0.0
        for start in range(0, r, 128):
            sum_rows(x, parts, i * r + start, i * r + min(r, start + 128), b)
            for k in range(b):
                totals[k] += parts[k]
        for k in range(b):
            o[k] = totals[k]


def max_kernel(x, out, a, r, b):
    """out (a, b) = max over r of x (a, r, b); NaN wins, as in NumPy."""
    if b == 1:
        for i in range(a):
            row = x[i * r : (i + 1) * r]
            m, nans = row[0], 0
            for j in range(r):
                m = fast_max(m, row[j])
                nans += row[j] != row[j]
            out[i] = np.nan if nans else m
        return
    for i in range(a):
        o = out[i * b : (i + 1) * b]
        for j in range(r):
            row = x[(i * r + j) * b : (i * r + j + 1) * b]
            for k in range(b):
                o[k] = row[k] if j == 0 or row[k] > o[k] or row[k] != row[k] else o[k]


def cumsum_kernel(x, out, a, r, b):
    """out[:, j] = x[:, 0] + ... + x[:, j]."""
    for i in range(a):
        for k in range(b):
            total = 0.0
            for j in range(r):
                total += x[(i * r + j) * b + k]
                out[(i * r + j) * b + k] = total


_KERNELS = {"sum": Kernel(sum_kernel), "max": Kernel(max_kernel)}
_CUMSUM = Kernel(cumsum_kernel)


def reduce(name: str, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """``name`` ("sum", "max") over sorted, non-negative ``axes``, which stay with size 1."""
    kernel = _KERNELS[name][x.dtype]
    if not x.flags.c_contiguous:
        if x.flags.f_contiguous:
            return reduce(name, x.T, tuple(sorted(x.ndim - 1 - axis for axis in axes))).T
        x = np.ascontiguousarray(x)
    for shape, folded in reductions(x.shape, axes):
        out = np.empty(shape, x.dtype)
        kernel(x.ravel(), out.ravel(), *folded)
        x = out
    return x


def cumsum(x: np.ndarray, axis: int) -> np.ndarray:
    """Running sum along a non-negative axis."""
    out = np.empty(x.shape, x.dtype)
    a, r, b = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
    _CUMSUM[x.dtype](np.ascontiguousarray(x).ravel(), out.ravel(), a, r, b)
    return out

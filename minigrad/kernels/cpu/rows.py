"""Floor 2, CPU: softmax and its relatives along the last axis.

The largest element of a row is subtracted first, so exponentials cannot overflow.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import exp, log

import numpy as np

from minigrad.kernels.cpu.build import Kernel
from minigrad.kernels.cpu.micro import fast_add, fast_max


def row_max(x):
    m = x[0]
    for k in range(x.size):
        m = fast_max(m, x[k])
    return m


def softmax_kernel(x, out, rows, n):
    """out = e^(x - m) / sum e^(x - m)."""
    for i in range(rows):
        row, y = x[i * n : (i + 1) * n], out[i * n : (i + 1) * n]
        m, total = row_max(row), 0.0
        for k in range(n):
            y[k] = exp(row[k] - m)
        for k in range(n):
            total = fast_add(total, y[k])
        scale = 1.0 / total
        for k in range(n):
            y[k] *= scale


def row_logsumexp(row):
    """m + log sum e^(x - m); -inf for a row of -inf, inf for one with inf."""
    m, total = row_max(row), 0.0
    if m == -np.inf or m == np.inf:
        m = 0.0
    for k in range(row.size):
        total = fast_add(total, exp(row[k] - m))
    return m + log(total)


def logsumexp_kernel(x, out, rows, n):
    for i in range(rows):
        out[i] = row_logsumexp(x[i * n : (i + 1) * n])


def log_softmax_kernel(x, out, rows, n):
    for i in range(rows):
        row, y = x[i * n : (i + 1) * n], out[i * n : (i + 1) * n]
        z = row_logsumexp(row)
        for k in range(n):
            y[k] = row[k] - z


_KERNELS = {
    "softmax": Kernel(softmax_kernel),
    "log_softmax": Kernel(log_softmax_kernel),
    "logsumexp": Kernel(logsumexp_kernel),
}


def rows(name: str, x: np.ndarray) -> np.ndarray:
    """Each row's "softmax" or "log_softmax" (same shape), or "logsumexp" (last axis of size 1)."""
    n = x.shape[-1]
    out = np.empty((*x.shape[:-1], 1) if name == "logsumexp" else x.shape, x.dtype)
    if out.size:
        _KERNELS[name][x.dtype](np.ascontiguousarray(x).ravel(), out.ravel(), x.size // n, n)
    return out

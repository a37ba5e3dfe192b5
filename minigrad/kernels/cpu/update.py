"""Floor 2, CPU: the steps of the optimisers (``kernels/steps.py``), one pass over memory each.

``p`` parameters, ``g`` gradient, ``out`` the new parameters, ``h`` the settings in the parameters' dtype; ``m`` and
``v`` are the optimiser's own buffers and are written to.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from minigrad.kernels.cpu.micro import fast_add
from minigrad.kernels.cpu.shared import Shared
from minigrad.kernels.steps import adagrad, adam, average, rmsprop, sgd


def sgd_loop(p, g, out, m, h):
    lr, momentum, decay = h[0], h[1], h[2]
    for i in range(p.size):
        out[i], m[i] = sgd(p[i], g[i], m[i], lr, momentum, decay)


def adagrad_loop(p, g, out, v, h):
    lr, eps, decay = h[0], h[1], h[2]
    for i in range(p.size):
        out[i], v[i] = adagrad(p[i], g[i], v[i], lr, eps, decay)


def rmsprop_loop(p, g, out, v, m, h):
    lr, alpha, eps, momentum, decay = h[0], h[1], h[2], h[3], h[4]
    for i in range(p.size):
        out[i], v[i], m[i] = rmsprop(p[i], g[i], v[i], m[i], lr, alpha, eps, momentum, decay)


def adam_loop(p, g, out, m, v, h):
    lr, b1, b2, eps, c1, c2, l2, decay = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
    for i in range(p.size):
        out[i], m[i], v[i] = adam(p[i], g[i], m[i], v[i], lr, b1, b2, eps, c1, c2, l2, decay)


def average_loop(p, x, out, h):
    n = h[0]
    for i in range(p.size):
        (out[i],) = average(p[i], x[i], n)


def times(x, out, factor):
    for i in range(x.size):
        out[i] = factor[0] * x[i]


def sums_of_squares(first, last, x, parts):
    """parts[j] = the sum of the squares of block j, 4096 numbers."""
    for j in range(first, last):
        row, part = x[j * 4096 : min(x.size, (j + 1) * 4096)], 0.0
        for i in range(row.size):
            part = fast_add(part, row[i] * row[i])
        parts[j] = part


_STEPS = {
    "sgd": Shared(sgd_loop, 4), "adagrad": Shared(adagrad_loop, 4), "rmsprop": Shared(rmsprop_loop, 5),
    "adam": Shared(adam_loop, 5), "average": Shared(average_loop, 3),
}  # fmt: skip
_TIMES, _SQUARES = Shared(times, 2), Shared(sums_of_squares)


def update(name: str, p: np.ndarray, g: np.ndarray, buffers: list[np.ndarray], settings: list[float]) -> np.ndarray:
    """The new parameters after one step of optimiser ``name``; ``buffers`` change."""
    out = np.empty(p.shape, p.dtype)
    flat = [x.ravel() for x in (np.ascontiguousarray(p), np.ascontiguousarray(g), out, *buffers)]
    _STEPS[name](p.dtype, p.size, p.size, *flat, np.array(settings, p.dtype))
    return out


def scaled(x: np.ndarray, factor: float) -> np.ndarray:
    """x times a number."""
    out = np.empty(x.shape, x.dtype)
    _TIMES(x.dtype, x.size, x.size, np.ascontiguousarray(x).ravel(), out.ravel(), np.array([factor], x.dtype))
    return out


def squares(*xs: np.ndarray) -> float:
    """The sum of squares of all elements of arrays: of blocks in an array's dtype, and of those in float64."""
    total = 0.0
    for x in xs:
        parts = np.empty(-(-x.size // 4096))
        _SQUARES(x.dtype, parts.size, x.size, np.ascontiguousarray(x).ravel(), parts)
        total += float(parts.sum())
    return total

"""Floor 2, CPU: the steps of the optimisers, one pass over memory each.

``p`` parameters, ``g`` gradient, ``out`` the new parameters, ``h`` the settings in the parameters' dtype; ``m`` and
``v`` are the optimiser's own buffers and are written to.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import sqrt

import numpy as np

from minigrad.kernels.cpu.micro import fast_add
from minigrad.kernels.cpu.shared import Shared


def sgd(p, g, out, m, h):
    """m = momentum m + g + decay p;  out = p - lr m."""
    lr, momentum, decay = h[0], h[1], h[2]
    for i in range(p.size):
        m[i] = momentum * m[i] + (g[i] + decay * p[i])
        out[i] = p[i] - lr * m[i]


def adagrad(p, g, out, v, h):
    """v += g^2;  out = p - lr g / (sqrt(v) + eps)."""
    lr, eps, decay = h[0], h[1], h[2]
    for i in range(p.size):
        d = g[i] + decay * p[i]
        v[i] += d * d
        out[i] = p[i] - lr * d / (sqrt(v[i]) + eps)


def rmsprop(p, g, out, v, m, h):
    """v = a v + (1 - a) g^2;  m = momentum m + g / (sqrt(v) + eps);  out = p - lr m."""
    lr, alpha, eps, momentum, decay = h[0], h[1], h[2], h[3], h[4]
    for i in range(p.size):
        d = g[i] + decay * p[i]
        v[i] = alpha * v[i] + (1.0 - alpha) * d * d
        m[i] = momentum * m[i] + d / (sqrt(v[i]) + eps)
        out[i] = p[i] - lr * m[i]


def adam(p, g, out, m, v, h):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  out = p (1 - lr decay) - lr m' / (sqrt(v') + eps).

    m' = m / (1 - b1^t) and v' = v / (1 - b2^t) undo the start from zero.
    """
    lr, b1, b2, eps, c1, c2, l2, decay = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
    for i in range(p.size):
        d = g[i] + l2 * p[i]
        m[i] = b1 * m[i] + (1.0 - b1) * d
        v[i] = b2 * v[i] + (1.0 - b2) * d * d
        out[i] = p[i] * (1.0 - lr * decay) - lr * (m[i] * c1) / (sqrt(v[i] * c2) + eps)


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


_STEPS = {f.__name__: Shared(f, n) for f, n in ((sgd, 4), (adagrad, 4), (rmsprop, 5), (adam, 5))}
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


def squares(x: np.ndarray) -> float:
    """The sum of squares of all elements: of blocks in the array's dtype, and of those in float64."""
    parts = np.empty(-(-x.size // 4096))
    _SQUARES(x.dtype, parts.size, x.size, np.ascontiguousarray(x).ravel(), parts)
    return float(parts.sum())

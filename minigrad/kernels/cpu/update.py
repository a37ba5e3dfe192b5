"""Floor 2, CPU: the steps of the optimisers, one pass over memory each.

``p`` parameters, ``g`` gradient, ``out`` the new parameters, ``h`` the settings in the parameters' dtype; ``m`` and
``v`` are the optimiser's own buffers and are written to.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from minigrad.kernels.cpu.build import Kernel
from minigrad.kernels.cpu.micro import fast_add


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


def sum_of_squares(x):
    """In blocks, each added up in the array's dtype and all in float64."""
    total = np.float64(0)
    for start in range(0, x.size, 4096):
        part = 0.0
        row = x[start : min(x.size, start + 4096)]
        for i in range(row.size):
            part = fast_add(part, row[i] * row[i])
        total += part
    return total


_STEPS = {f.__name__: Kernel(f) for f in (sgd, adagrad, rmsprop, adam)}
_SQUARES = Kernel(sum_of_squares)


def update(name: str, p: np.ndarray, g: np.ndarray, buffers: list[np.ndarray], settings: list[float]) -> np.ndarray:
    """The new parameters after one step of optimiser ``name``; ``buffers`` change."""
    out = np.empty(p.shape, p.dtype)
    own = [b.ravel() for b in buffers]
    flat = np.ascontiguousarray(p).ravel(), np.ascontiguousarray(g).ravel(), out.ravel()
    _STEPS[name][p.dtype](*flat, *own, np.array(settings, p.dtype))
    return out


def squares(x: Any) -> float:
    """The sum of squares of all elements."""
    return float(_SQUARES[x.dtype](np.ascontiguousarray(x).ravel()))

"""Floor 2, CPU: the loss of a linear layer over many classes, and its gradients, a block of rows at a time.

The logits of a block (rows, V) are made, turned into losses and in place into their gradient, used for the gradients
of the inputs, and overwritten by those of the next block: they stay in the cache, and never exist whole.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

import numpy as np

from minigrad.kernels.cpu import gemm
from minigrad.kernels.cpu.micro import fast_add, fast_max
from minigrad.kernels.cpu.rows import row_max
from minigrad.kernels.cpu.shared import Shared


def head_rows(first, last, z, bias, targets, weights, losses, smoothing, classes, gradient):
    """losses[i] = weights[i] (log sum e^z - sum_k q_k z_k), q the smoothed target; z becomes the gradient of it."""
    e = smoothing[0]
    for i in range(first, last):
        row, t, weight = z[i * classes : (i + 1) * classes], targets[i], weights[i]
        total, away = 0.0, 0.0
        if bias.size:
            m = row[0] + bias[0]
            for k in range(classes):
                y = row[k] + bias[k]
                row[k] = y
                m = fast_max(m, y)
        else:
            m = row_max(row)
        if m == -np.inf or m == np.inf:  # as in row_logsumexp
            m = 0.0
        at = row[t] - m
        if e != 0.0:
            for k in range(classes):
                away = fast_add(away, row[k] - m)
        for k in range(classes):
            y = exp(row[k] - m)
            row[k] = y
            total = fast_add(total, y)
        loss = log(total) - at
        if e != 0.0:
            loss = (1.0 - e) * loss + e * (log(total) - away / classes)
        losses[i] = weight * loss if weight != 0.0 else 0.0
        if gradient:
            scale, share = weight / total, weight * e / classes
            for k in range(classes):
                row[k] = row[k] * scale - share
            row[t] -= weight * (1.0 - e)


def head_columns(first, last, g, part, total, rows, classes):
    """total[k] += the sum of g[:, k], in blocks of 128 rows."""
    p = part[first:last]
    for start in range(0, rows, 128):
        for k in range(p.size):
            p[k] = 0.0
        for i in range(start, min(rows, start + 128)):
            row = g[i * classes + first : i * classes + last]
            for k in range(p.size):
                p[k] += row[k]
        for k in range(p.size):
            total[first + k] += p[k]


_ROWS, _COLUMNS = Shared(head_rows), Shared(head_columns)
# Of a block. N, H, V = 400, 200, 10000 on one thread: 52 and 104 rows 71 ms, 200 rows 62, and with W packed once for
# all blocks 56; all 400 at once 55. Where V is small, 2**19 to 2**23 elements are alike.
_ELEMENTS, _ROWS_AT_LEAST = 2**19, 256


def linear_cross_entropy(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, targets: np.ndarray, weights: np.ndarray,
    smoothing: float, wanted: Sequence[bool],
) -> tuple[np.ndarray, list[np.ndarray | None]]:  # fmt: skip
    """Losses (N,), each times its weight, for x (N, H), w (V, H), bias (V,), targets (N,); and the gradients of their
    sum by x, w and bias, those that are ``wanted``."""
    (n, h), v, dtype = x.shape, len(w), x.dtype
    losses = np.empty(n, dtype)
    b = np.zeros(0, dtype) if bias is None else np.ascontiguousarray(bias)
    settings = np.array([smoothing], dtype)
    dx = np.empty((n, h), dtype) if wanted[0] else None
    dw = (np.empty if n else np.zeros)((v, h), dtype) if wanted[1] else None
    db = np.zeros(v) if wanted[2] else None
    blocks = -(-n // max(_ROWS_AT_LEAST, _ELEMENTS // v))
    room, part = np.empty((-(-n // max(blocks, 1)), v), dtype), np.empty(v, dtype)
    forward, back = gemm.Factor(w.T), gemm.Factor(w)
    for i in range(blocks):
        rows = slice(n * i // blocks, n * (i + 1) // blocks)
        z = room[: rows.stop - rows.start]
        gemm.product_into(z, x[rows], forward)
        _ROWS(dtype, len(z), z.size, z.ravel(), b, targets[rows], weights[rows], losses[rows], settings, v,
              int(any(wanted)))  # fmt: skip
        if dx is not None:
            gemm.product_into(dx[rows], z, back)
        if dw is not None:
            gemm.product_into(dw, z.T, x[rows], i > 0)
        if db is not None:
            _COLUMNS(dtype, v, z.size, z.ravel(), part, db, len(z), v)
    return losses, [dx, dw, None if db is None else db.astype(dtype)]

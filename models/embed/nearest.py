"""Floor 7: all rows of a table of vectors against a few: products, distances, and the largest of many numbers.

One pass over the table, shared out to the threads; equal rows get equal numbers, wherever they stand.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from minigrad.kernels.cpu.micro import fast_add
from minigrad.kernels.cpu.shared import Shared


def row_products(first, last, x, targets, out, dim, many):
    """out[j, k] = x[j] . targets[k]."""
    for j in range(first, last):
        row = x[j * dim : (j + 1) * dim]
        for k in range(many):
            target, part = targets[k * dim : (k + 1) * dim], 0.0
            for i in range(dim):
                part = fast_add(part, row[i] * target[i])
            out[j * many + k] = part


def row_distances(first, last, x, target, out, dim):
    """out[j] = |x[j] - target|^2."""
    for j in range(first, last):
        row, part = x[j * dim : (j + 1) * dim], 0.0
        for i in range(dim):
            part = fast_add(part, (row[i] - target[i]) * (row[i] - target[i]))
        out[j] = part


_PRODUCTS, _DISTANCES = Shared(row_products), Shared(row_distances)


def products(table: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """x . t for each row x of ``table`` (V, D) and t of ``targets`` (K, D), both float32 and C-contiguous: (V, K).

    >>> products(np.eye(2, dtype=np.float32), np.array([[3, 4]], np.float32))[:, 0].tolist()
    [3.0, 4.0]
    """
    (rows, dim), many = table.shape, len(targets)
    out = np.empty((rows, many), np.float32)
    _PRODUCTS(table.dtype, rows, rows * dim * many, table.ravel(), targets.ravel(), out.ravel(), dim, many)
    return out


def distances(table: np.ndarray, target: np.ndarray) -> np.ndarray:
    """|x - t| for each row x of ``table`` (V, D) and t (D,), both float32 and C-contiguous: (V,).

    >>> distances(np.eye(2, dtype=np.float32), np.array([1, 1], np.float32)).tolist()
    [1.0, 1.0]
    """
    rows, dim = table.shape
    out = np.empty(rows, np.float32)
    _DISTANCES(table.dtype, rows, rows * dim, table.ravel(), target, out, dim)
    return np.sqrt(out, out)


def largest(scores: np.ndarray, n: int) -> np.ndarray:
    """Where the n largest of ``scores`` (V,) are, the largest first, of equal ones the earlier; -Inf is none of them.

    >>> largest(np.array([1.0, 3.0, -np.inf, 3.0]), 3).tolist()
    [1, 3, 0]
    """
    found = np.arange(len(scores))
    if n < len(scores):
        found = np.flatnonzero(scores >= np.partition(scores, -n)[-n])
    found = found[np.argsort(-scores[found], kind="stable")][:n]
    return found[scores[found] > -np.inf]

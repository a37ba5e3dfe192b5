"""Floor 7: gradient descent block by block, as one compiled loop: what ``objectives`` defines.

The kernel is made for one D, so that the compiler unrolls its loops. It changes W and C in place and holds no lock:
several threads may run it over the same arrays, and lose now and then what another wrote (Recht et al. 2011, Hogwild).
"""

# mypy: ignore-errors

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import exp, fabs

import numpy as np

from minigrad.kernels.cpu.build import Kernel
from minigrad.kernels.cpu.micro import fast_add, fast_mul, prefetch
from minigrad.models.embed.blocks import Blocks
from minigrad.models.embed.objectives import CBOW, SkipGram, Softmax


def gather(rows, first, count, W, together, X, D):
    """X (k, D) of rows[first : first + count]; k."""
    if not together:
        for i in range(count):
            for d in range(D):
                X[i, d] = W[rows[first + i], d]
        return count
    for d in range(D):
        X[0, d] = 0.0
    i, last = first, first + count
    while i + 3 <= last:
        for d in range(D):
            X[0, d] += W[rows[i], d] + W[rows[i + 1], d] + W[rows[i + 2], d]
        i += 3
    while i < last:
        for d in range(D):
            X[0, d] += W[rows[i], d]
        i += 1
    scale = 1.0 / X.dtype.type(count)
    for d in range(D):
        X[0, d] *= scale
    return 1


def dots(X, i, Y, m, S, at, D):
    """S[at : at + m] = Y x_i, three at a time."""
    j = 0
    while j + 3 <= m:
        a, b, c = X.dtype.type(0), X.dtype.type(0), X.dtype.type(0)
        for d in range(D):
            x = X[i, d]
            a, b, c = fast_add(a, x * Y[j, d]), fast_add(b, x * Y[j + 1, d]), fast_add(c, x * Y[j + 2, d])
        S[at + j], S[at + j + 1], S[at + j + 2] = a, b, c
        j += 3
    while j < m:
        a = X.dtype.type(0)
        for d in range(D):
            a = fast_add(a, X[i, d] * Y[j, d])
        S[at + j] = a
        j += 1


def combine(S, at, stride, A, n, out, row, D):
    """out[row] += sum_j S[at + j stride] A[j] over n rows, three at a time."""
    j = 0
    while j + 3 <= n:
        a, b, c = S[at + j * stride], S[at + (j + 1) * stride], S[at + (j + 2) * stride]
        for d in range(D):
            out[row, d] += a * A[j, d] + b * A[j + 1, d] + c * A[j + 2, d]
        j += 3
    while j < n:
        a = S[at + j * stride]
        for d in range(D):
            out[row, d] += a * A[j, d]
        j += 1


def judge(S, L, n, rate):
    """J of n scores S (N, 16) with the labels L, and S = -rate dJ/ds. 16 at a time: sum log(1 + e^-|s|) is the log of a
    product, which no 16 numbers of at most 2 make too large. What fills the last 16 has no share in J."""
    for e in range(n, n + 15 & -16):
        S[e >> 4, e & 15], L[e >> 4, e & 15] = -1e4, 0.0
    total = np.float64(0)
    for q in range(n + 15 >> 4):
        product, part = S.dtype.type(1), S.dtype.type(0)
        for e in range(16):
            s, y = S[q, e], L[q, e]
            t = exp(-fabs(s))
            product = fast_mul(product, 1.0 + t)
            part = fast_add(part, (s if s > 0.0 else 0.0) - y * s)
            S[q, e] = rate * (y - (1.0 if s > 0.0 else t) / (1.0 + t))
        total += np.float64(part) + np.log(np.float64(product))
    return total


def spread(rows, first, count, W, together, S, Y, m, X, D):
    """W[rows] += S Y, with the rows of ``gather``; a row that stands twice moves twice."""
    if not together:
        for i in range(count):
            combine(S, i * m, 1, Y, m, W, rows[first + i], D)
        return
    for d in range(D):
        X[0, d] = 0.0
    combine(S, 0, 1, Y, m, X, 0, D)
    for i in range(count):
        for d in range(D):
            W[rows[first + i], d] += X[0, d]


def ask_for(A, ids, first, last, D):
    """Have the rows A[ids[first:last]] brought nearer, all their lines of 64 bytes."""
    for i in range(first, last):
        start = A.ctypes.data + ids[i] * D * A.itemsize
        for byte in range(0, D * A.itemsize + 63, 64):
            prefetch(start + byte)


def descend(rows, row_start, outputs, labels, output_start, W, C, rate, together, X, Y, S, L, D):
    """Each block's step W -= rate dJ/dW, C -= rate dJ/dC; the sum of J."""
    total, S16, L16 = np.float64(0), S.reshape(-1, 16), L.reshape(-1, 16)
    for n in range(row_start.size - 1):
        first, count = row_start[n], row_start[n + 1] - row_start[n]
        a, m = output_start[n], output_start[n + 1] - output_start[n]
        if n + 2 < row_start.size:
            ask_for(W, rows, row_start[n + 1], row_start[n + 2], D)
            ask_for(C, outputs, output_start[n + 1], output_start[n + 2], D)
        k = gather(rows, first, count, W, together, X, D)
        for j in range(m):
            for d in range(D):
                Y[j, d] = C[outputs[a + j], d]
        for i in range(k):
            dots(X, i, Y, m, S, i * m, D)
            for j in range(m):
                L[i * m + j] = labels[a + j]
        total += judge(S16, L16, k * m, rate)
        for j in range(m):
            combine(S, j, m, X, k, C, outputs[a + j], D)
        spread(rows, first, count, W, together, S, Y, m, X, D)
    return total


def descend_softmax(rows, row_start, outputs, labels, output_start, W, C, rate, X, S, D):
    """The same with all rows of C for each block, and the first output as the target."""
    V = C.shape[0]
    total = np.float64(0)
    for n in range(row_start.size - 1):
        first, count, target = row_start[n], row_start[n + 1] - row_start[n], outputs[output_start[n]]
        k = gather(rows, first, count, W, False, X, D)
        for i in range(k):
            dots(X, i, C, V, S, i * V, D)
            row = S[i * V : (i + 1) * V]
            top, z = row.max(), row.dtype.type(0)
            total -= row[target] - top
            for j in range(V):
                row[j] = exp(row[j] - top)
                z = fast_add(z, row[j])
            total += np.log(np.float64(z))
            for j in range(V):
                row[j] *= -rate / z
            row[target] += rate
        spread(rows, first, count, W, False, S, C, V, X, D)  # first: C is as it was
        for j in range(V):
            combine(S, j, V, X, k, C, j, D)
    return total


@lru_cache
def _kernel(function: Callable, D: int) -> Kernel:
    return Kernel(function, D=D)


def step(objective: type[SkipGram], blocks: Blocks, W: np.ndarray, C: np.ndarray, rate: float) -> float:
    """Gradient descent over blocks, one after the other, in place; the sum of their J, each before its step. A rate of
    0 only measures.

    >>> from minigrad.models.embed.blocks import Drawing
    >>> drawing = Drawing(np.array([5, 4, 3]), window=2, negatives=2)
    >>> W, C = np.full((3, 4), 0.1), np.zeros((3, 4))
    >>> blocks = drawing(np.array([2, 3, 4, 2, 3], np.int32), seed=0)
    >>> first = step(SkipGram, blocks, W, C, 0.1)
    >>> bool(step(SkipGram, blocks, W, C, 0.0) < first)
    True
    """
    if not len(blocks):
        return 0.0
    D, given = W.shape[1], (*blocks[:5], W, C, W.dtype.type(rate))
    k = 1 if objective is CBOW else int(np.diff(blocks.row_start).max())
    X = np.empty((k, D), W.dtype)
    if objective is Softmax:
        return _kernel(descend_softmax, D)[W.dtype](*given, X, np.empty(k * len(C), W.dtype))
    m = int(np.diff(blocks.output_start).max())
    S, L = (np.empty((k * m + 15) // 16 * 16, W.dtype) for _ in range(2))
    return _kernel(descend, D)[W.dtype](*given, objective is CBOW, X, np.empty((m, D), W.dtype), S, L)

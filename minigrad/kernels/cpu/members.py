"""Floor 2, CPU: products of rows with matrices, where every member of a batch has a matrix of its own.

Attention reads such a memory once for every step. There is nothing to pack for: each number is used once. Four rows of
the matrix are taken at a time, so that a row of the result is read and written a fourth as often.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minigrad.kernels.cpu import micro
from minigrad.kernels.cpu.build import emit, load

_TEXT = '''
from numba import carray
from minigrad.kernels.cpu.compile import address, unit
from minigrad.kernels.cpu.micro import pointer_to

SIZE = {size}   # bytes of a number
pointer = pointer_to("{dtype}")


@unit
def add_one(n, a, x, to):
    for j in range(n):
        to[j] += a * x[j]

@unit
def add_four(n, a, b, c, d, x, y, z, w, to):
    for j in range(n):
        to[j] += (a * x[j] + b * y[j]) + (c * z[j] + d * w[j])

@unit
def dot_one(n, q, x, to):
    a = ZERO
    for j in range(n):
        a = fast_add(a, q[j] * x[j])
    to[0] += a

@unit
def dot_four(n, q, x, y, z, w, to):
    a = b = c = d = ZERO
    for j in range(n):
        a = fast_add(a, q[j] * x[j])
        b = fast_add(b, q[j] * y[j])
        c = fast_add(c, q[j] * z[j])
        d = fast_add(d, q[j] * w[j])
    to[0] += a
    to[1] += b
    to[2] += c
    to[3] += d

@unit
def clear(n, to):
    for j in range(n):
        to[j] = ZERO


@address(12)
def times(m, x, x_row, k, matrices, size, n, to, to_row, add, unused, unused_too):
    """to (n) = or += x (k) M (k, n) for m members, whose matrices lie ``size`` numbers apart."""
    for b in range(m):
        at, row, y = pointer(x + SIZE * b * x_row), matrices + SIZE * b * size, pointer(to + SIZE * b * to_row)
        if not add:
            clear(n, y)
        i = 0
        while i + 4 <= k:
            p, q, r, s = (pointer(row + SIZE * (i + 0) * n), pointer(row + SIZE * (i + 1) * n),
                          pointer(row + SIZE * (i + 2) * n), pointer(row + SIZE * (i + 3) * n))
            add_four(n, at[i], at[i + 1], at[i + 2], at[i + 3], p, q, r, s, y)
            i += 4
        while i < k:
            add_one(n, at[i], pointer(row + SIZE * i * n), y)
            i += 1


@address(12)
def times_turned(m, x, x_row, k, matrices, size, n, to, to_row, add, unused, unused_too):
    """to (n) = or += x (k) M^T, M (n, k), for m members."""
    for b in range(m):
        at, row, y = pointer(x + SIZE * b * x_row), matrices + SIZE * b * size, to + SIZE * b * to_row
        if not add:
            clear(n, pointer(y))
        i = 0
        while i + 4 <= n:
            p, q, r, s = (pointer(row + SIZE * (i + 0) * k), pointer(row + SIZE * (i + 1) * k),
                          pointer(row + SIZE * (i + 2) * k), pointer(row + SIZE * (i + 3) * k))
            dot_four(k, at, p, q, r, s, pointer(y + SIZE * i))
            i += 4
        while i < n:
            dot_one(k, at, pointer(row + SIZE * i * k), pointer(y + SIZE * i))
            i += 1


@address(12)
def outer(layout, steps, first, last, a, a_row, k, g, g_row, n, to, unused):
    """M (k, n) += the sum of a^T g over the steps, for the members first .. last; ``layout`` as in compiler/layout.py:
    four numbers a step, of which the first is that of its first row and the last how many members it has."""
    at = carray(address_as_int64(layout), (4 * steps,))
    for b in range(first, last):
        matrix, s = to + SIZE * b * k * n, 0
        while s + 4 <= steps and at[4 * s + 15] > b:
            p, q, r, t = at[4 * s] + b, at[4 * s + 4] + b, at[4 * s + 8] + b, at[4 * s + 12] + b
            ap, aq, ar, az = (pointer(a + SIZE * p * a_row), pointer(a + SIZE * q * a_row),
                              pointer(a + SIZE * r * a_row), pointer(a + SIZE * t * a_row))
            gp, gq, gr, gz = (pointer(g + SIZE * p * g_row), pointer(g + SIZE * q * g_row),
                              pointer(g + SIZE * r * g_row), pointer(g + SIZE * t * g_row))
            for i in range(k):
                add_four(n, ap[i], aq[i], ar[i], az[i], gp, gq, gr, gz, pointer(matrix + SIZE * i * n))
            s += 4
        while s < steps and at[4 * s + 3] > b:
            row = at[4 * s] + b
            ap, gp = pointer(a + SIZE * row * a_row), pointer(g + SIZE * row * g_row)
            for i in range(k):
                add_one(n, ap[i], gp, pointer(matrix + SIZE * i * n))
            s += 1
'''


class Members(NamedTuple):
    """Addresses of the three kernels of a dtype, each of twelve int64."""

    times: int
    times_turned: int
    outer: int


_KNOWN: dict[np.dtype, Members] = {}


def kernels(dtype: np.dtype) -> Members:
    found = _KNOWN.get(dtype)
    if found is None:
        text = _TEXT.format(size=dtype.itemsize, dtype=dtype.name)
        title = f"Products with a matrix of each member's own, {dtype.name}"
        module = load(f"members_{dtype.name}", emit(title, text, [micro.address_as_int64, micro.fast_add], dtype))
        addresses = [getattr(module, name).address for name in Members._fields]
        found = _KNOWN[dtype] = Members(*addresses)
    return found

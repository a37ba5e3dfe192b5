"""Floor 2, CPU: random numbers from a key (``kernels/philox.py``); an item is the four words of one counter."""

# mypy: disable-error-code="no-untyped-def, name-defined"
# ruff: noqa: F821

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.kernels.cpu.shared import Shared
from minigrad.kernels.philox import words


def bernoulli_items(first, last, out, key, bound, one):
    """Word i of the stream of ``key`` decides on out[i]: one if it is below ``bound``, else 0."""
    part, value = out[4 * first : 4 * last], one[0]
    for i in range(last - first):
        a, b, c, d = words(first + i, key)
        part[4 * i] = value if a < bound else 0.0
        part[4 * i + 1] = value if b < bound else 0.0
        part[4 * i + 2] = value if c < bound else 0.0
        part[4 * i + 3] = value if d < bound else 0.0


def uniform_singles(first, last, out, key):
    """out[i] = the upper 24 bits of word i, in units of 2^-24."""
    part = out[4 * first : 4 * last]
    for i in range(last - first):
        a, b, c, d = words(first + i, key)
        part[4 * i] = T(a >> 8) * 5.9604644775390625e-08
        part[4 * i + 1] = T(b >> 8) * 5.9604644775390625e-08
        part[4 * i + 2] = T(c >> 8) * 5.9604644775390625e-08
        part[4 * i + 3] = T(d >> 8) * 5.9604644775390625e-08


def uniform_doubles(first, last, out, key):
    """out[i] = the upper 27 bits of word 2 i and 26 of the next, in units of 2^-53."""
    part = out[2 * first : 2 * last]
    for i in range(last - first):
        a, b, c, d = words(first + i, key)
        part[2 * i] = T((a >> 5 << 26) + (b >> 6)) * 1.1102230246251565e-16
        part[2 * i + 1] = T((c >> 5 << 26) + (d >> 6)) * 1.1102230246251565e-16


_BERNOULLI, _SINGLES, _DOUBLES = Shared(bernoulli_items), Shared(uniform_singles), Shared(uniform_doubles)


def _fill(kernel: Shared, shape: tuple[int, ...], each: int, dtype: Any, *args: Any) -> np.ndarray:
    """An array filled by a kernel that makes ``each`` numbers from one counter."""
    size = math.prod(shape)
    items = -(-size // each)
    out = np.empty(each * items, dtype)
    kernel(out.dtype, items, size, out, *args)
    return out[:size].reshape(shape)


def bernoulli(shape: tuple[int, ...], p: float, key: int, dtype: Any, one: float = 1.0) -> np.ndarray:
    """``one`` with probability p, to within 2^-32, else 0: the same for the same ``key``, 0 <= key < 2^63."""
    return _fill(_BERNOULLI, shape, 4, dtype, key, round(p * 2**32), np.array([one], dtype))


def uniform(shape: tuple[int, ...], key: int, dtype: Any) -> np.ndarray:
    """Uniform on [0, 1): the same for the same ``key``, 0 <= key < 2^63."""
    single = np.dtype(dtype).itemsize == 4
    return _fill(_SINGLES if single else _DOUBLES, shape, 4 if single else 2, dtype, key)

"""Floor 2: what elementwise kernels and reductions of every target check and fold before they run."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from minigrad.errors import DtypeError, describe

Shape = tuple[int, ...]


def check_dtypes(name: str, dtypes: tuple[np.dtype, ...], floats: bool, condition: bool) -> None:
    """Operands of one dtype (the first may be a ``condition``), which is a float's where ``floats``; or DtypeError."""
    dtype = dtypes[-1]
    if any(d != dtype for d in dtypes[condition:]) or (condition and dtypes[0].kind != "b"):
        got = " and ".join(map(str, dtypes))
        raise DtypeError(describe(name, got, "operands of one dtype", "cast one with .astype()"))
    if floats and dtype.kind != "f":
        raise DtypeError(describe(name, str(dtype), "float32 or float64", "cast it: x.astype('float32')"))


def reductions(shape: Shape, axes: tuple[int, ...]) -> list[tuple[Shape, tuple[int, int, int]]]:
    """A reduction over sorted ``axes``, which then have size 1, as some of an array (a, r, b) over its middle axis, one
    after another: axes that touch are taken together, the last first. Each with the shape of its result."""
    found: list[tuple[Shape, tuple[int, int, int]]] = []
    sizes, last = list(shape), len(axes) - 1
    while last >= 0:
        first = last
        while first > 0 and axes[first - 1] == axes[first] - 1:
            first -= 1
        low, high = axes[first], axes[last] + 1
        folded = math.prod(sizes[:low]), math.prod(sizes[low:high]), math.prod(sizes[high:])
        sizes[low:high] = [1] * (high - low)
        found.append((tuple(sizes), folded))
        last = first - 1
    return found


@lru_cache(maxsize=4096)
def row_major(shape: Shape) -> Shape:
    """Strides, in elements, of a contiguous array."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def spread(shape: Shape, strides: Shape, ndim: int) -> Shape:
    """Strides of an array that is broadcast to ``ndim`` axes: 0 where it has one element or none."""
    return (0,) * (ndim - len(shape)) + tuple([0 if n == 1 else s for n, s in zip(shape, strides)])


def fold(shape: Shape, strides: list[Shape]) -> tuple[list[int], list[list[int]]]:
    """As few loops as walk arrays of ``shape`` with such strides: sizes, and for each array a stride for each loop.

    Two axes are one loop where a step along the outer one is as long as all steps along the inner one, for every array.
    """
    if 0 in shape:
        return [0], [[1] for _ in strides]
    sizes: list[int] = []
    steps: list[list[int]] = []  # for each loop, of each array
    for n, moves in zip(shape, zip(*strides)):
        if n == 1:
            continue
        if steps and all([outer == inner * n for outer, inner in zip(steps[-1], moves)]):
            sizes[-1] *= n
            steps[-1] = list(moves)
        else:
            sizes.append(n)
            steps.append(list(moves))
    if not sizes:
        return [1], [[1] for _ in strides]
    return sizes, [list(s) for s in zip(*steps)]

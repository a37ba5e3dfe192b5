"""Floor 2: a backend that computes shapes and nothing else.

Its arrays have a shape and a dtype but no elements. Running a function on them, with something watching which
operations it uses, is how a function is traced: to fuse a gradient rule, or to compile a recurrent cell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.errors import ShapeError, describe


class Abstract:
    """An array without elements. ``value`` is the number that a constant is filled with, else None."""

    __slots__ = ("shape", "dtype", "value")

    def __init__(self, shape: tuple[int, ...], dtype: Any, value: Any = None):
        self.shape, self.dtype, self.value = tuple(shape), np.dtype(dtype), value

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("an abstract array has no elements")

    def __repr__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def broadcast_shapes(where: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """NumPy's rule: sizes, aligned at the right, are equal or 1."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        got = " and ".join(map(str, shapes))
        raise ShapeError(describe(where, got, "shapes that broadcast (equal or 1, aligned right)")) from None


name = "abstract"
array_type = Abstract


class Elementwise:
    """The result of broadcasting."""

    def __init__(self, name: str, parts: tuple[Callable, ...], arity: int, *, text: str = "", out: str = "", **_: Any):
        self.name, self.out = name, out

    def __call__(self, *xs: Abstract) -> Abstract:
        return Abstract(broadcast_shapes(self.name, *[x.shape for x in xs]), self.out or xs[-1].dtype)


def _stand_in(x: Any) -> Any:
    """A NumPy array of that shape that takes no memory; also for each array of a sequence."""
    if isinstance(x, (tuple, list)) and any(isinstance(part, Abstract) for part in x):
        return [_stand_in(part) for part in x]
    return np.broadcast_to(np.zeros((), x.dtype), x.shape) if isinstance(x, Abstract) else x


def _shape_of(function: Callable) -> Callable[..., Abstract]:
    """The shape and dtype that a NumPy function gives."""

    def run(*args: Any, **kwargs: Any) -> Abstract:
        out = function(*map(_stand_in, args), **kwargs)
        return Abstract(out.shape, out.dtype)

    return run


astype = _shape_of(lambda x, dtype: np.zeros(x.shape, dtype))
broadcast_to = _shape_of(np.broadcast_to)
concatenate = _shape_of(np.concatenate)
flip = _shape_of(np.flip)
getitem = _shape_of(lambda x, index: x[index])
matrix_transpose = _shape_of(lambda x: x.swapaxes(-1, -2))
pad = _shape_of(np.pad)
pick = _shape_of(lambda x, positions: x[..., 0])
place = _shape_of(lambda g, positions, n: np.broadcast_to(g[..., None], (*g.shape, n)))
reduce = _shape_of(lambda name, x, axes: np.zeros([1 if i in axes else n for i, n in enumerate(x.shape)], x.dtype))
reshape = _shape_of(np.reshape)
take = _shape_of(np.take)
transpose = _shape_of(np.transpose)


def cumsum(x: Abstract, axis: int) -> Abstract:
    return Abstract(x.shape, x.dtype)


def rows(name: str, x: Abstract) -> Abstract:
    return Abstract((*x.shape[:-1], 1) if name == "logsumexp" else x.shape, x.dtype)


def matmul(a: Abstract, b: Abstract) -> Abstract:
    return Abstract((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), a.dtype)


def add_rows(g: Abstract, positions: np.ndarray, rows: int) -> Abstract:
    return Abstract((rows, *g.shape[positions.ndim :]), g.dtype)


def scatter(g: Abstract, index: Any, shape: tuple[int, ...]) -> Abstract:
    return Abstract(shape, g.dtype)


def full(shape: tuple[int, ...], value: Any, dtype: Any) -> Abstract:
    return Abstract(shape, dtype, value)


def from_numpy(x: Any) -> Abstract:
    if isinstance(x, Abstract):
        return x
    return Abstract(x.shape, x.dtype, x.item() if x.size == 1 else None)


def adopt(x: Any) -> Abstract:
    """A constant that stands beside abstract arrays."""
    return from_numpy(x)


def to_numpy(x: Abstract) -> np.ndarray:
    raise TypeError("an abstract array has no elements")

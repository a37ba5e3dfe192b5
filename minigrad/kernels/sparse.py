"""Floor 2: the gradient of a table of which a few rows were read: those rows alone.

A backend of its own: the engine, clipping and zeroing take such a gradient like any other, and only the optimisers ask.
Two such gradients are added row by row, and functions that leave 0 at 0 (a factor, clipping) take the rows; for
everything else it becomes the dense array.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.kernels import cpu


class Rows:
    """An array of ``shape`` (V, ...) that is 0 but at ``positions`` (N,), sorted, each once: ``values`` (N, ...)."""

    __slots__ = ("positions", "values", "shape")

    def __init__(self, positions: np.ndarray, values: np.ndarray, shape: tuple[int, ...]):
        self.positions, self.values, self.shape = positions, values, shape

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        out = np.zeros(self.shape, dtype or self.dtype)
        out[self.positions] = self.values
        return out

    def __repr__(self) -> str:
        return f"{len(self.positions)} rows of {self.dtype}{list(self.shape)}"


name = "cpu"
array_type = Rows


def dense(x: Any) -> Any:
    """The array of rows; also of those in a sequence. Anything else as it is."""
    if type(x) in (list, tuple):
        return type(x)(map(dense, x))
    return np.asarray(x) if isinstance(x, Rows) else x


def adopt(x: Any) -> Any:
    """An operand that stands beside rows."""
    return x


def from_numpy(x: Any) -> Any:
    return Rows(x.positions.copy(), x.values.copy(), x.shape) if isinstance(x, Rows) else cpu.from_numpy(x)


def to_numpy(x: Rows) -> np.ndarray:
    return cpu.to_numpy(np.asarray(x))


def gather_rows(positions: np.ndarray, values: np.ndarray, shape: tuple[int, ...]) -> Rows:
    """Rows from ``values`` (N, ...) at any ``positions`` (N,); those of one position are added up in their order."""
    return Rows(*cpu.join_rows(positions, values), shape)


def _add(x: Any, y: Any) -> Any:
    if isinstance(x, Rows) and isinstance(y, Rows):
        return gather_rows(np.concatenate([x.positions, y.positions]), np.concatenate([x.values, y.values]), x.shape)
    rows, other = (x, y) if isinstance(x, Rows) else (y, x)
    out = other.copy()
    out[rows.positions] += rows.values
    return out


class Elementwise:
    """As on the CPU; a function of one array of rows and of numbers that is 0 at 0 gives rows."""

    def __init__(self, name: str, parts: tuple[Callable, ...], arity: int, **options: Any):
        self.adds = name == "add"
        self.dense = cpu.Elementwise(name, parts, arity, **options)

    def __call__(self, *xs: Any) -> Any:
        if self.adds and xs[0].shape == xs[1].shape and xs[0].dtype == xs[1].dtype:
            return _add(*xs)
        rows = [x for x in xs if isinstance(x, Rows)]
        if len(rows) == 1 and all(x is rows[0] or (x.size == 1 and x.ndim <= rows[0].ndim) for x in xs):
            at_zero = self.dense(*[np.zeros((), x.dtype) if x is rows[0] else x for x in xs])
            if not at_zero.any():
                values = self.dense(*[x.values if x is rows[0] else x.reshape(()) for x in xs])
                return Rows(rows[0].positions, values, rows[0].shape)
        return self.dense(*map(dense, xs))


def squares(*xs: Rows) -> float:
    return cpu.squares(*[x.values for x in xs])


def scaled(x: Rows, factor: float) -> Rows:
    return Rows(x.positions, cpu.scaled(x.values, factor), x.shape)


def update(name: str, p: np.ndarray, g: Rows, buffers: list[np.ndarray], settings: list[float]) -> np.ndarray:
    """One step of optimiser ``name`` for the rows of ``g``, written into ``p``; gives ``p`` as another array."""
    at, out = g.positions, p.view()
    own = [b[at] for b in buffers]
    out[at] = cpu.update(name, p[at], g.values, own, settings)
    for b, new in zip(buffers, own):
        b[at] = new
    return out


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    function = getattr(cpu, name)
    return lambda *args, **options: function(*map(dense, args), **options)

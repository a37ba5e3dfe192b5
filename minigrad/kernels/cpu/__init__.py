"""Floor 2: the CPU backend. NumPy arrays in, NumPy arrays out; it knows no Tensor.

NumPy moves data (views, copies); Numba does arithmetic. Another device is a sibling module with these names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.kernels.cpu.elementwise import Elementwise
from minigrad.kernels.cpu.gather import add_rows, join_rows, pick, place, scatter
from minigrad.kernels.cpu.gemm import matmul
from minigrad.kernels.cpu.head import linear_cross_entropy
from minigrad.kernels.cpu.memory import keep_memory
from minigrad.kernels.cpu.random import bernoulli, uniform
from minigrad.kernels.cpu.reduce import cumsum, reduce
from minigrad.kernels.cpu.rows import rows
from minigrad.kernels.cpu.update import scaled, squares, update

keep_memory()

name = "cpu"
array_type = np.ndarray


def from_numpy(x: np.ndarray) -> np.ndarray:
    """An array of this device with the data of ``x`` (a copy)."""
    return np.array(x)


def to_numpy(x: np.ndarray) -> np.ndarray:
    """A NumPy array that must not be written to (here: a view)."""
    view = x.view()
    view.flags.writeable = False
    return view


def full(shape: tuple[int, ...], value: Any, dtype: Any) -> np.ndarray:
    return np.full(shape, value, dtype) if shape else np.array(value, dtype)


astype = np.ndarray.astype
broadcast_to = np.broadcast_to
concatenate = np.concatenate
pad = np.pad


def reshape(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return x.reshape(shape)


def transpose(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return x.transpose(axes)


def matrix_transpose(x: np.ndarray) -> np.ndarray:
    return x.swapaxes(-1, -2)


def getitem(x: np.ndarray, index: Any) -> np.ndarray:
    return np.asarray(x[index])  # NumPy gives a scalar where no axis is left, here and below


def take(x: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(np.take(x, positions, axis))


def flip(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.asarray(np.flip(x, axes))


__all__ = [
    "Elementwise", "add_rows", "array_type", "astype", "bernoulli", "broadcast_to", "concatenate", "cumsum", "flip",
    "from_numpy", "full", "getitem", "join_rows", "linear_cross_entropy", "matmul", "matrix_transpose", "name", "pad",
    "pick", "place", "reduce", "reshape", "rows", "scaled", "scatter", "squares", "take", "to_numpy", "transpose",
    "uniform", "update",
]  # fmt: skip

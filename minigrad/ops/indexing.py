"""Floor 4: reading at positions and adding at positions, transposes of each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.engine import Operation, Tensor, apply, is_recording
from minigrad.errors import DtypeError, IndexingError, ShapeError, describe
from minigrad.kernels.sparse import gather_rows
from minigrad.ops.elementwise import add
from minigrad.ops.record import case, operation
from minigrad.ops.shapes import as_tensor, as_tensors

GROUP = "Indexing"
_ROWS = np.array([[2, 0, 2], [1, 1, 0]])
_MASK = np.array([[True, False, True], [False, False, True]])

_SCATTER = Operation(
    "scatter",
    lambda k, g, index, shape: k.scatter(g, index, shape),
    (lambda g, y, x, index, shape: apply(_GETITEM, (g,), {"index": index}),),
)
_GETITEM = Operation(
    "getitem",
    lambda k, x, index: k.getitem(x, index),
    (lambda g, y, x, index: apply(_SCATTER, (g,), {"index": index, "shape": x.shape}),),
)


def _plain(part: Any) -> Any:
    return part.numpy() if isinstance(part, Tensor) else np.asarray(part) if isinstance(part, list) else part


@operation("x[index]", lambda x, index: x[index], case((4, 3), 1), case((4, 3), (slice(None, None, 2), -1)),
           case((4, 3), _ROWS), case((4, 3), (_ROWS[0], _ROWS[1])), case((2, 3), _MASK),
           case((3, 4), (None, ..., slice(3, 0, -2))), group=GROUP, op=_GETITEM)  # fmt: skip
def getitem(x: Tensor, index: Any) -> Tensor:
    """``x[index]`` for slices, integers, integer arrays, masks, None and Ellipsis, as NumPy reads them."""
    plain = tuple(map(_plain, index)) if isinstance(index, tuple) else _plain(index)
    try:
        return apply(_GETITEM, (x,), {"index": plain})
    except IndexError as error:
        raise IndexingError(describe("getitem", str(error), f"positions inside of {x.shape}")) from None


def _positions(where: str, indices: Any, n: int) -> np.ndarray:
    """Checked integer positions, 0 <= position < n."""
    found = indices.numpy() if isinstance(indices, Tensor) else np.asarray(indices)
    if found.dtype.kind not in "iu":
        if found.size:
            raise DtypeError(describe(where, f"indices of dtype {found.dtype}", "integers"))
        found = found.astype(np.int64)
    if found.size and (found.min() < 0 or found.max() >= n):
        raise IndexingError(describe(where, f"indices from {found.min()} to {found.max()}", f"0 <= index < {n}"))
    return found


def _take_vjp(g: Tensor, y: Tensor, w: Tensor, positions: np.ndarray, sparse: bool = False) -> Tensor:
    """Only the rows read, if asked for, where nothing but a leaf's ``grad`` will take them."""
    if sparse and w.is_leaf and not is_recording() and type(g.data) is np.ndarray:
        return Tensor(gather_rows(positions.ravel(), g.data.reshape(positions.size, *w.shape[1:]), w.shape))
    return apply(_ADD_ROWS, (g,), {"positions": positions, "rows": w.shape[0]})


_TAKE = Operation("embedding", lambda k, w, positions, sparse=False: k.take(w, positions, 0), (_take_vjp,))
_ADD_ROWS = Operation(
    "add_rows",
    lambda k, g, positions, rows: k.add_rows(g, positions, rows),
    (lambda g, y, x, positions, rows: apply(_TAKE, (g,), {"positions": positions}),),
)


@operation("y_i = w[index_i]", lambda w, indices: w[indices], case((4, 3), _ROWS), case((3,), _ROWS[0]),
           case((4, 2), np.zeros((0,), int)), group=GROUP, op=_TAKE)  # fmt: skip
def embedding(weight: Any, indices: Any, sparse: bool = False) -> Tensor:
    """Rows of ``weight`` (V, ...) at ``indices`` (...).

    With ``sparse``, ``weight.grad`` holds only the rows that were read, and an optimiser steps only those: see
    ``nn.Embedding``.

    >>> import minigrad as mg
    >>> mg.embedding(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), [1, 1])
    tensor([[3., 4.],
            [3., 4.]])
    """
    weight = as_tensor("embedding", weight)
    if weight.ndim == 0:
        raise ShapeError(describe("embedding", "a weight without axes", "(V, D)"))
    positions = _positions("embedding", indices, weight.shape[0])
    return apply(_TAKE, (weight,), {"positions": positions, "sparse": sparse})


def _scatter_add_oracle(x: np.ndarray, indices: Any, values: np.ndarray) -> np.ndarray:
    out = np.array(x)
    np.add.at(out, indices, values)
    return out


@operation("x with values_i added at row index_i", _scatter_add_oracle, case((4, 3), _ROWS, (2, 3, 3)),
           case((3,), _ROWS[0], (3,)), group=GROUP, op=_ADD_ROWS)  # fmt: skip
def scatter_add(x: Any, indices: Any, values: Any) -> Tensor:
    """x (V, ...) with ``values`` (..., ...) added at the rows ``indices`` (...), repeated ones again and again."""
    x, values = as_tensors("scatter_add", x, values)
    if x.ndim == 0:
        raise ShapeError(describe("scatter_add", "x without axes", "(V, ...)"))
    positions = _positions("scatter_add", indices, x.shape[0])
    if values.shape != positions.shape + x.shape[1:]:
        expected = f"{positions.shape + x.shape[1:]}"
        raise ShapeError(describe("scatter_add", f"values {values.shape}", expected))
    return add(x, apply(_ADD_ROWS, (values,), {"positions": positions, "rows": x.shape[0]}))


_PICK = Operation(
    "pick",
    lambda k, x, positions: k.pick(x, positions),
    (lambda g, y, x, positions: apply(_PLACE, (g,), {"positions": positions, "n": x.shape[-1]}),),
)
_PLACE = Operation(
    "place",
    lambda k, g, positions, n: k.place(g, positions, n),
    (lambda g, y, x, positions, n: apply(_PICK, (g,), {"positions": positions}),),
)


@operation("y_i = x[i, index_i]", lambda x, indices: np.take_along_axis(x, indices[..., None], -1)[..., 0],
           case((2, 3, 4), _ROWS), case((3, 4), _ROWS[0]), group=GROUP, op=_PICK)  # fmt: skip
def pick(x: Any, indices: Any) -> Tensor:
    """One element of each row: x (..., V) and ``indices`` (...) give (...)."""
    x = as_tensor("pick", x)
    positions = _positions("pick", indices, x.shape[-1] if x.ndim else 0)
    if x.ndim == 0 or positions.shape != x.shape[:-1]:
        raise ShapeError(describe("pick", f"x {x.shape}, indices {positions.shape}", "x (..., V), indices (...)"))
    return apply(_PICK, (x,), {"positions": positions})

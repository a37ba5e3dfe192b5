"""Floor 4: products of matrices, and einsum by way of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.engine import Operation, Tensor, apply
from minigrad.errors import DtypeError, ShapeError, describe
from minigrad.ops.elementwise import add, mul
from minigrad.ops.record import REAL, case, operation
from minigrad.ops.reductions import sum
from minigrad.ops.shapes import as_tensor, as_tensors, expand_dims, reshape, squeeze, transpose

GROUP = "Products"

_TURN = Operation("matrix_transpose", lambda k, x: k.matrix_transpose(x), (lambda g, y, x: matrix_transpose(g),))


@operation(
    "the last two axes exchanged",
    lambda x: np.swapaxes(x, -1, -2),
    case((3, 4)),
    case((2, 3, 4)),
    group=GROUP,
    op=_TURN,
)
def matrix_transpose(x: Any) -> Tensor:
    x = as_tensor("matrix_transpose", x)
    if x.ndim < 2:
        raise ShapeError(describe("matrix_transpose", f"shape {x.shape}", "two axes at least"))
    return apply(_TURN, (x,))


_MATMUL = Operation(
    "matmul",
    lambda k, a, b: k.matmul(a, b),
    (
        lambda g, y, a, b: apply(_MATMUL, (g, apply(_TURN, (b,)))),
        lambda g, y, a, b: apply(_MATMUL, (apply(_TURN, (a,)), g)),
    ),
)


@operation("a b, the matrix product", np.matmul, case((3, 4), (4, 2)), case((4,), (4,)), case((3, 4), (4,)),
           case((4,), (4, 2)), case((5, 3, 4), (4, 2)), case((2, 1, 3, 4), (5, 4, 2)), case((4,), (5, 4, 2)),
           case((0, 4), (4, 2)), case((3, 0), (0, 2)), case((1, 1), (1, 1)), domain=(REAL, REAL),
           group=GROUP, op=_MATMUL)  # fmt: skip
def matmul(a: Any, b: Any) -> Tensor:
    """NumPy's ``a @ b``: vectors, matrices (m, k) @ (k, n), and batches of them that broadcast.

    >>> import minigrad as mg
    >>> mg.matmul(mg.tensor([[1.0, 2.0]]), mg.tensor([[3.0], [4.0]]))
    tensor([[11.]])
    """
    a, b = as_tensors("matmul", a, b)
    if a.dtype != b.dtype or a.dtype.kind != "f":
        do = "cast with .astype()"
        raise DtypeError(describe("matmul", f"{a.dtype} and {b.dtype}", "two of float32 or of float64", do))
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ShapeError(describe("matmul", f"{a.shape} @ {b.shape}", "(..., m, k) @ (..., k, n) with one k"))
    if a.ndim == 1:
        return sum(mul(a, b)) if b.ndim == 1 else squeeze(matmul(expand_dims(a, 0), b), -2)
    if b.ndim == 1:
        return squeeze(matmul(a, expand_dims(b, 1)), -1)
    if b.ndim == 2 and a.ndim > 2:  # one product for all rows, and so one for the gradient of b
        return reshape(
            apply(_MATMUL, (reshape(a, (math.prod(a.shape[:-1]), a.shape[-1])), b)), (*a.shape[:-1], b.shape[-1])
        )
    return apply(_MATMUL, (a, b))


@operation("x W^T + b", lambda x, w, b: x @ w.T + b, case((5, 3), (4, 3), (4,)), case((2, 5, 3), (4, 3), (4,)),
           domain=(REAL, REAL, REAL), group=GROUP)  # fmt: skip
def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """x (..., I), weight (O, I), bias (O,): (..., O)."""
    x, weight = as_tensors("linear", x, weight)
    y = matmul(x, transpose(weight))
    return y if bias is None else add(y, bias)


_EINSUM_CASES = (
    "ij,jk->ik",
    "bij,bjk->bik",
    "ij,ij->",
    "i,j->ij",
    "ij->ji",
    "ij->i",
    "bi,ij,bj->b",
    "ijk,k->ji",
    "ij,kj",
)
_SIZES = {"i": 2, "j": 3, "k": 4, "b": 2}


def _case(spec: str) -> Any:
    return case(spec, *[tuple(_SIZES[c] for c in part) for part in spec.split("->")[0].split(",")])


@operation("the sum over indices that the result does not have", np.einsum, *map(_case, _EINSUM_CASES), group=GROUP)
def einsum(spec: str, *xs: Any) -> Tensor:
    """Einstein's notation, two operands at a time, each a matrix product.

    >>> import minigrad as mg
    >>> mg.einsum("ij,j->i", mg.tensor([[1.0, 2.0]]), mg.tensor([3.0, 4.0]))
    tensor([11.])
    """
    tensors = as_tensors("einsum", *xs)
    inputs, _, result = spec.replace(" ", "").partition("->")
    parts = inputs.split(",")
    if "->" not in spec:
        result = "".join(sorted(c for c in set(inputs) if c.isalpha() and inputs.count(c) == 1))
    known = len(parts) == len(tensors) and all(p.isalpha() or not p for p in [*parts, result])
    if not known or not set(result) <= set(inputs) or len(set(result)) < len(result):
        expected = f"letters for {len(tensors)} operands, '->' and letters of theirs, each once"
        raise ShapeError(describe("einsum", repr(spec), expected))
    sizes: dict[str, int] = {}
    for part, x in zip(parts, tensors):
        if len(part) != x.ndim or any(sizes.setdefault(c, n) != n for c, n in zip(part, x.shape)):
            got = f"'{spec}' with shapes " + ", ".join(str(t.shape) for t in tensors)
            raise ShapeError(describe("einsum", got, "one size for each letter"))
    if any(len(set(part)) < len(part) for part in parts):
        raise ShapeError(describe("einsum", repr(spec), "each letter once in an operand", "index the diagonal first"))
    a, left = tensors[0], parts[0]
    for i in range(1, len(tensors)):
        needed = set(result).union(*parts[i + 1 :])
        a, left = _contract(a, left, tensors[i], parts[i], needed, sizes)
    a, left = _sum_out(a, left, set(result))
    return _arrange(a, left, result)


def _sum_out(x: Tensor, letters: str, keep: set[str]) -> tuple[Tensor, str]:
    axes = [i for i, c in enumerate(letters) if c not in keep]
    return (sum(x, axes) if axes else x), "".join(c for c in letters if c in keep)


def _arrange(x: Tensor, letters: str, order: str) -> Tensor:
    return x if letters == order else transpose(x, [letters.index(c) for c in order])


def _contract(
    a: Tensor, left: str, b: Tensor, right: str, needed: set[str], sizes: dict[str, int]
) -> tuple[Tensor, str]:
    """One product of two operands; ``needed`` letters stay."""
    a, left = _sum_out(a, left, needed | set(right))
    b, right = _sum_out(b, right, needed | set(left))
    batch = "".join(c for c in left if c in right and c in needed)
    inner = "".join(c for c in left if c in right and c not in needed)
    rows = "".join(c for c in left if c not in right)
    columns = "".join(c for c in right if c not in left)

    def size(letters: str) -> int:
        return math.prod(sizes[c] for c in letters)

    x = reshape(_arrange(a, left, batch + rows + inner), (size(batch), size(rows), size(inner)))
    y = reshape(_arrange(b, right, batch + inner + columns), (size(batch), size(inner), size(columns)))
    out = batch + rows + columns
    return reshape(matmul(x, y), [sizes[c] for c in out]), out

"""Floor 4: sums, means, extremes and products along axes, and running sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.engine import Operation, Tensor, apply, constant
from minigrad.errors import DtypeError, ShapeError, describe
from minigrad.ops.elementwise import add, div, equal, mul, neg, square, sub, where
from minigrad.ops.record import case, operation
from minigrad.ops.shapes import as_tensor, broadcast_to, concat, flip, moveaxis, normalise_axes, normalise_axis, reshape

GROUP = "Reduction"
Axis = int | Sequence[int] | None
_CASES = (
    case((3, 4)),
    case((3, 4), axis=0),
    case((2, 3, 4), axis=(0, 2), keepdims=True),
    case((5,), axis=-1),
    case(()),
)


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """``shape`` with size 1 at the reduced axes."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _dropped(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def _reduction(name: str, vjp: Any) -> Operation:
    def forward(k: Any, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        out = k.reduce(name, x, axes)
        return out if keepdims else k.reshape(out, _dropped(x.shape, axes))

    return Operation(name, forward, (vjp,))


def _prepare(where: str, x: Any, axis: Axis) -> tuple[Tensor, tuple[int, ...]]:
    x = as_tensor(where, x)
    if x.dtype.kind != "f":
        raise DtypeError(describe(where, str(x.dtype), "float32 or float64", "cast it: x.astype('float32')"))
    return x, normalise_axes(where, axis, x.ndim)


def _prepare_some(where: str, x: Any, axis: Axis) -> tuple[Tensor, tuple[int, ...]]:
    """The same where nothing cannot be reduced."""
    x, axes = _prepare(where, x, axis)
    if any(x.shape[a] == 0 for a in axes):
        raise ShapeError(describe(where, f"shape {x.shape} over axes {axes}", "one element at least"))
    return x, axes


def _sum_vjp(g: Tensor, y: Tensor, x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return broadcast_to(reshape(g, _kept(x.shape, axes)), x.shape)


_SUM = _reduction("sum", _sum_vjp)


@operation("the sum over axes", np.sum, *_CASES, case((0, 3)), case((0, 3), axis=0), group=GROUP, op=_SUM)
def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum over ``axis`` (an axis, several, or all).

    >>> import minigrad as mg
    >>> mg.sum(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    tensor([4., 6.])
    """
    x, axes = _prepare("sum", x, axis)
    return apply(_SUM, (x,), {"axes": axes, "keepdims": keepdims})


def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The transpose of broadcasting ``shape`` to the shape of x: the sum over the axes that it added or stretched."""
    extra = x.ndim - len(shape)
    axes = tuple(i for i, n in enumerate(x.shape) if i < extra or (shape[i - extra] == 1 and n != 1))
    return reshape(sum(x, axes, keepdims=True) if axes else x, shape)


@operation("the mean over axes", np.mean, *_CASES, group=GROUP)
def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    x, axes = _prepare_some("mean", x, axis)
    return mul(sum(x, axes, keepdims), 1.0 / math.prod(x.shape[a] for a in axes))


@operation("mean((x - mean x)^2) n / (n - ddof)", np.var, *_CASES[:4], case((4, 3), axis=0, ddof=1), group=GROUP)
def var(x: Any, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
    """Variance; ``ddof=1`` divides by n - 1."""
    x, axes = _prepare("var", x, axis)
    n = math.prod(x.shape[a] for a in axes)
    if n <= ddof:
        raise ShapeError(describe("var", f"{n} elements with ddof={ddof}", "more elements than ddof"))
    return mul(sum(square(sub(x, mean(x, axes, keepdims=True))), axes, keepdims), 1.0 / (n - ddof))


def _max_vjp(g: Tensor, y: Tensor, x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """The largest elements share the gradient equally."""
    kept = _kept(x.shape, axes)
    largest = where(equal(x, reshape(y.detach(), kept)), constant("max", 1.0, x), 0.0)
    return mul(largest, div(reshape(g, kept), sum(largest, axes, keepdims=True)))


_MAX = _reduction("max", _max_vjp)


@operation("the largest over axes; ties share the gradient", np.max, *_CASES, smooth=False, group=GROUP, op=_MAX)
def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    x, axes = _prepare_some("max", x, axis)
    return apply(_MAX, (x,), {"axes": axes, "keepdims": keepdims})


@operation("the smallest over axes; ties share the gradient", np.min, *_CASES, smooth=False, group=GROUP)
def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    x, axes = _prepare_some("min", x, axis)
    return neg(max(neg(x), axes, keepdims))


@operation("the product over axes", np.prod, *_CASES, case((0, 3), axis=0), case((7,)), group=GROUP)
def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """By halving, so that its gradient is right where elements are zero, at any order."""
    x, axes = _prepare("prod", x, axis)
    kept = _kept(x.shape, axes)
    for i, a in enumerate(axes):
        x = moveaxis(x, a - i, -1)
    n = math.prod(x.shape[x.ndim - len(axes) :])
    x = reshape(x, (*x.shape[: x.ndim - len(axes)], n))
    if n == 0:
        return reshape(add(sum(x, -1), 1.0), kept if keepdims else _dropped(kept, axes))
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        rest = x[..., 2 * half :]
        x = mul(x[..., :half], x[..., half : 2 * half])
        if rest.shape[-1]:
            x = concat([x, rest], -1)
    return reshape(x, kept if keepdims else _dropped(kept, axes))


_CUMSUM = Operation(
    "cumsum", lambda k, x, axis: k.cumsum(x, axis), (lambda g, y, x, axis: flip(cumsum(flip(g, axis), axis), axis),)
)


@operation("y_i = x_0 + ... + x_i", np.cumsum, case((3, 4), axis=0), case((3, 4), axis=-1), case((0, 2), axis=0),
           group=GROUP, op=_CUMSUM)  # fmt: skip
def cumsum(x: Any, axis: int = -1) -> Tensor:
    x, _ = _prepare("cumsum", x, None)
    return apply(_CUMSUM, (x,), {"axis": normalise_axis("cumsum", axis, x.ndim)})

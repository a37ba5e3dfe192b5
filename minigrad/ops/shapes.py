"""Floor 4: operations that move elements and compute nothing: reshape, transpose, join, cut, repeat, pad."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.engine import Operation, Tensor, apply, constant
from minigrad.errors import DtypeError, ShapeError, describe
from minigrad.ops.record import case, operation

GROUP = "Shape"
INTEGER = (int, np.integer)


def as_tensor(where: str, x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else constant(where, x, x)


def as_tensors(where: str, *xs: Any) -> list[Tensor]:
    """Operands of one operation: what is no tensor goes to the device of the first that is."""
    like = next((x for x in xs if isinstance(x, Tensor)), None)
    return [x if isinstance(x, Tensor) else constant(where, x, x if like is None else like) for x in xs]


def normalise_axis(where: str, axis: int, ndim: int) -> int:
    """A non-negative axis number."""
    if not -ndim <= axis < ndim:
        raise ShapeError(describe(where, f"axis {axis} of a tensor with {ndim} axes", f"{-ndim} <= axis < {ndim}"))
    return axis % ndim


def normalise_axes(where: str, axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Sorted non-negative axis numbers; None means all."""
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, INTEGER) else tuple(axis)
    axes = tuple(sorted(normalise_axis(where, a, ndim) for a in given))
    if len(set(axes)) < len(axes):
        raise ShapeError(describe(where, f"axes {given}", "each axis once"))
    return axes


# ------------------------------------------------------------------------------------------------ views

_RESHAPE = Operation("reshape", lambda k, x, shape: k.reshape(x, shape), (lambda g, y, x, shape: reshape(g, x.shape),))


@operation("the same elements in another shape", np.reshape, case((3, 4), (2, 6)), case((3, 4), (4, -1)),
           case((0, 3), (3, 0)), case((), (1, 1)), group=GROUP, op=_RESHAPE)  # fmt: skip
def reshape(x: Any, *shape: Any) -> Tensor:
    """The same elements, row by row, in another shape; one size may be -1.

    >>> import minigrad as mg
    >>> mg.tensor([1, 2, 3, 4]).reshape(2, -1).shape
    (2, 2)
    """
    x = as_tensor("reshape", x)
    new = tuple(int(n) for n in (shape[0] if len(shape) == 1 and not isinstance(shape[0], INTEGER) else shape))
    known = math.prod(n for n in new if n != -1)
    if new.count(-1) == 1 and known and x.size % known == 0:
        new = tuple(x.size // known if n == -1 else n for n in new)
    if min(new, default=0) < 0 or math.prod(new) != x.size:
        raise ShapeError(describe("reshape", f"{x.shape} to {new}", f"a shape of {x.size} elements"))
    return x if new == x.shape else apply(_RESHAPE, (x,), {"shape": new})


_TRANSPOSE = Operation(
    "transpose",
    lambda k, x, axes: k.transpose(x, axes),
    (lambda g, y, x, axes: transpose(g, tuple(int(i) for i in np.argsort(axes))),),
)


@operation("y[i_a0, i_a1, ...] = x[i_0, i_1, ...]", np.transpose, case((3, 4)), case((2, 3, 4), (2, 0, 1)), case((5,)),
           group=GROUP, op=_TRANSPOSE)  # fmt: skip
def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in another order; reversed if none is given.

    >>> import minigrad as mg
    >>> mg.transpose(mg.tensor([[1, 2, 3]])).shape
    (3, 1)
    """
    x = as_tensor("transpose", x)
    order = (
        tuple(reversed(range(x.ndim))) if axes is None else tuple(normalise_axis("transpose", a, x.ndim) for a in axes)
    )
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(describe("transpose", f"axes {axes} for shape {x.shape}", "each axis once"))
    return apply(_TRANSPOSE, (x,), {"axes": order})


permute = transpose


@operation("two axes exchanged", np.swapaxes, case((2, 3, 4), 0, 2), case((2, 3), -1, -2), group=GROUP)
def swapaxes(x: Any, a: int, b: int) -> Tensor:
    x = as_tensor("swapaxes", x)
    order = list(range(x.ndim))
    a, b = normalise_axis("swapaxes", a, x.ndim), normalise_axis("swapaxes", b, x.ndim)
    order[a], order[b] = order[b], order[a]
    return transpose(x, order)


@operation("one axis moved to another place", np.moveaxis, case((2, 3, 4), 0, -1), case((2, 3, 4), 2, 1), group=GROUP)
def moveaxis(x: Any, source: int, to: int) -> Tensor:
    x = as_tensor("moveaxis", x)
    order = list(range(x.ndim))
    axis = order.pop(normalise_axis("moveaxis", source, x.ndim))
    order.insert(normalise_axis("moveaxis", to, x.ndim), axis)
    return transpose(x, order)


_BROADCAST = Operation("broadcast_to", lambda k, x, shape: k.broadcast_to(x, shape), (lambda g, y, x, shape: g,))


@operation("x repeated along axes of size 1", np.broadcast_to, case((3, 1), (2, 3, 4)), case((), (2,)),
           case((1,), (0,)), group=GROUP, op=_BROADCAST)  # fmt: skip
def broadcast_to(x: Any, shape: Sequence[int]) -> Tensor:
    x, new = as_tensor("broadcast_to", x), tuple(shape)
    sizes = zip(reversed(x.shape), reversed(new))
    if len(new) < x.ndim or any(n != m and n != 1 for n, m in sizes):
        raise ShapeError(describe("broadcast_to", f"{x.shape} to {new}", "equal sizes or 1, aligned right"))
    return x if new == x.shape else apply(_BROADCAST, (x,), {"shape": new})


@operation(
    "axes of size 1 removed", np.squeeze, case((1, 3, 1)), case((1, 3, 1), 0), case((1, 3, 1), (0, -1)), group=GROUP
)
def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    x = as_tensor("squeeze", x)
    axes = (
        {i for i, n in enumerate(x.shape) if n == 1} if axis is None else set(normalise_axes("squeeze", axis, x.ndim))
    )
    if any(x.shape[a] != 1 for a in axes):
        raise ShapeError(describe("squeeze", f"axis {axis} of shape {x.shape}", "size 1"))
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


@operation("an axis of size 1 put in", np.expand_dims, case((2, 3), 0), case((2, 3), -1), case((), 0), group=GROUP)
def expand_dims(x: Any, axis: int) -> Tensor:
    x = as_tensor("expand_dims", x)
    at = normalise_axis("expand_dims", axis, x.ndim + 1)
    return reshape(x, (*x.shape[:at], 1, *x.shape[at:]))


_FLIP = Operation(
    "flip", lambda k, x, axes: k.flip(x, axes), (lambda g, y, x, axes: apply(_FLIP, (g,), {"axes": axes}),)
)


@operation("the order along axes reversed", np.flip, case((2, 3), 0), case((2, 3)), case((2, 3, 4), (0, 2)),
           group=GROUP, op=_FLIP)  # fmt: skip
def flip(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    x = as_tensor("flip", x)
    return apply(_FLIP, (x,), {"axes": normalise_axes("flip", axis, x.ndim)})


# ------------------------------------------------------------------------------------------------ join and cut


def _concat_vjp(g: Tensor, y: Tensor, *xs: Tensor, axis: int) -> list[Tensor | None]:
    found: list[Tensor | None] = []
    start = 0
    for x in xs:
        index = (slice(None),) * axis + (slice(start, start + x.shape[axis]),)
        found.append(g[index] if x.requires_grad else None)  # type: ignore[index]
        start += x.shape[axis]
    return found


_CONCAT = Operation("concat", lambda k, *xs, axis: k.concatenate(xs, axis), _concat_vjp)


def _check_one_dtype(where: str, tensors: Sequence[Tensor]) -> None:
    if len({x.dtype for x in tensors}) > 1:
        got = " and ".join(str(x.dtype) for x in tensors)
        raise DtypeError(describe(where, got, "one dtype", "cast with .astype()"))


@operation("joined along an axis", lambda *xs, axis=0: np.concatenate(xs[0], axis), case([(2, 3), (1, 3)]),
           case([(2, 3), (2, 0), (2, 1)], axis=1), case([(3,)], axis=-1), group=GROUP, op=_CONCAT)  # fmt: skip
def concat(xs: Sequence[Any], axis: int = 0) -> Tensor:
    """Joined along an axis; the other sizes agree.

    >>> import minigrad as mg
    >>> mg.concat([mg.tensor([1.0, 2.0]), mg.tensor([3.0])])
    tensor([1., 2., 3.])
    """
    tensors = tuple(as_tensors("concat", *xs))
    if not tensors:
        raise ShapeError(describe("concat", "no tensor", "one at least"))
    first = tensors[0]
    at = normalise_axis("concat", axis, first.ndim)
    for x in tensors:
        if x.ndim != first.ndim or any(n != m for i, (n, m) in enumerate(zip(x.shape, first.shape)) if i != at):
            got = " and ".join(str(t.shape) for t in tensors)
            raise ShapeError(describe("concat", got, f"equal sizes, but for axis {axis}"))
    _check_one_dtype("concat", tensors)
    return apply(_CONCAT, tensors, {"axis": at})


@operation("joined along a new axis", lambda *xs, axis=0: np.stack(xs[0], axis), case([(2, 3), (2, 3)]),
           case([(2, 3), (2, 3)], axis=-1), case([()]), group=GROUP)  # fmt: skip
def stack(xs: Sequence[Any], axis: int = 0) -> Tensor:
    tensors = as_tensors("stack", *xs)
    if len({x.shape for x in tensors}) != 1:
        got = " and ".join(str(x.shape) for x in tensors) or "no tensor"
        raise ShapeError(describe("stack", got, "one at least, of equal shapes"))
    _check_one_dtype("stack", tensors)
    apart = [expand_dims(x, axis) for x in tensors]
    return apart[0] if len(apart) == 1 else concat(apart, normalise_axis("stack", axis, tensors[0].ndim + 1))


def zeros_like(x: Tensor) -> Tensor:
    return broadcast_to(Tensor(_backend(x).full((), 0, x.dtype)), x.shape)


def _backend(x: Tensor) -> Any:
    from minigrad.kernels import BACKENDS

    return BACKENDS[type(x.data)]


def _filled(g: Sequence[Tensor | None], y: Sequence[Tensor]) -> list[Tensor]:
    """Zeros for results that were not used."""
    return [zeros_like(part) if c is None else c for c, part in zip(g, y)]


def _split_forward(k: Any, x: Any, cuts: tuple[int, ...], axis: int) -> tuple:
    head = (slice(None),) * axis
    return tuple(k.getitem(x, (*head, slice(a, b))) for a, b in zip((0, *cuts), (*cuts, x.shape[axis])))


_SPLIT = Operation("split", _split_forward, (lambda g, y, x, cuts, axis: concat(_filled(g, y), axis),))


@operation(
    "cut into parts along an axis", np.split, case((6, 2), 3), case((2, 5), [1, 4], axis=-1), group=GROUP, op=_SPLIT
)
def split(x: Any, parts: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """Cut along an axis, into a number of equal parts or at the given places.

    >>> import minigrad as mg
    >>> mg.split(mg.tensor([1.0, 2.0, 3.0]), [1])
    (tensor([1.]), tensor([2., 3.]))
    """
    x = as_tensor("split", x)
    axis = normalise_axis("split", axis, x.ndim)
    n = x.shape[axis]
    if isinstance(parts, INTEGER):
        if parts < 1 or n % parts:
            raise ShapeError(
                describe("split", f"{n} elements into {parts}", "equal parts", "pass the places to cut at")
            )
        cuts = tuple(range(n // parts, n, n // parts)) if n else (0,) * (parts - 1)
    else:
        cuts = tuple(int(c) for c in parts)
    if list(cuts) != sorted(cuts) or (cuts and not 0 <= cuts[0] <= cuts[-1] <= n):
        raise ShapeError(describe("split", f"cuts at {cuts} of {n} elements", "rising places inside"))
    return apply(_SPLIT, (x,), {"cuts": cuts, "axis": axis})


def _unstack_forward(k: Any, x: Any, axis: int) -> tuple:
    head = (slice(None),) * axis
    return tuple(k.getitem(x, (*head, i)) for i in range(x.shape[axis]))


_UNSTACK = Operation("unstack", _unstack_forward, (lambda g, y, x, axis: stack(_filled(g, y), axis),))


@operation("the slices along an axis", lambda x, axis=0: tuple(np.moveaxis(x, axis, 0)), case((3, 2)),
           case((2, 3, 4), axis=1), group=GROUP, op=_UNSTACK)  # fmt: skip
def unstack(x: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """All slices at once: the gradient is one stack, where n times x[i] would add up n full arrays."""
    x = as_tensor("unstack", x)
    axis = normalise_axis("unstack", axis, x.ndim)
    return apply(_UNSTACK, (x,), {"axis": axis}) if x.shape[axis] else ()


# ------------------------------------------------------------------------------------------------ repeat and pad


def _pad_vjp(g: Any, y: Any, x: Any, widths: tuple[tuple[int, int], ...], value: float) -> Tensor:
    return g[tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape))]


_PAD = Operation("pad", lambda k, x, widths, value: k.pad(x, widths, constant_values=value), (_pad_vjp,))


@operation("a constant around x", lambda x, widths, value=0.0: np.pad(x, widths, constant_values=value),
           case((2, 3), ((1, 0), (0, 2))), case((3,), ((2, 1),), value=1.5), group=GROUP, op=_PAD)  # fmt: skip
def pad(x: Any, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """``widths``: elements before and after, for each axis."""
    x = as_tensor("pad", x)
    pairs = tuple((int(a), int(b)) for a, b in widths)
    if len(pairs) != x.ndim or min((n for p in pairs for n in p), default=0) < 0:
        raise ShapeError(describe("pad", f"widths {widths} for shape {x.shape}", "a non-negative pair for each axis"))
    return apply(_PAD, (x,), {"widths": pairs, "value": value}) if pairs else x


@operation("x repeated", np.tile, case((2, 3), (2, 1)), case((3,), (2, 2)), case((2,), 3), group=GROUP)
def tile(x: Any, repeats: int | Sequence[int]) -> Tensor:
    """``repeats`` copies along each axis."""
    x = as_tensor("tile", x)
    times = (int(repeats),) if isinstance(repeats, INTEGER) else tuple(repeats)
    n = max(len(times), x.ndim)
    times, shape = (1,) * (n - len(times)) + times, (1,) * (n - x.ndim) + x.shape
    apart = reshape(x, [m for size in shape for m in (1, size)])
    whole = broadcast_to(apart, [m for r, size in zip(times, shape) for m in (r, size)])
    return reshape(whole, [r * size for r, size in zip(times, shape)])

"""Floor 6: strategies for calls of the registered operations: shapes, arguments and options, but not yet values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.ops import REGISTRY
from minigrad.ops.fuse import Fused
from minigrad.ops.record import Record
from minigrad.testing.drawing import SEEDS, SIZES, SMALL, axes_of, axis_of, broadcastable, shapes
from minigrad.testing.optional import needs_hypothesis

with needs_hypothesis("minigrad.testing.strategies"):
    from hypothesis import strategies as st


class _Named:
    """Stands for an array when a call is printed."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


class Call:
    """One call of an operation: the shapes of its arrays, ``place(arrays)`` = the positional arguments, options."""

    def __init__(self, shapes: list[tuple[int, ...]], place: Callable[[list], Any], attrs: dict[str, Any]):
        self.shapes, self.place, self.attrs = shapes, place, attrs

    def run(self, f: Callable, arrays: list) -> Any:
        """f with the arrays in their places."""
        return f(*self.place(list(arrays)), **self.attrs)

    def __repr__(self) -> str:
        args = [repr(a) for a in self.place([_Named(f"x{i}{shape}") for i, shape in enumerate(self.shapes)])]
        return f"f({', '.join(args + [f'{name}={value!r}' for name, value in self.attrs.items()])})"


def values(rng: np.random.Generator, record: Record, i: int, shape: tuple[int, ...]) -> np.ndarray:
    """A random array in the domain of argument i. Of an operation with kinks: distinct values, different ones for
    each argument, so none is at a kink."""
    low, high = record.domain[min(i, len(record.domain) - 1)]
    if record.smooth:
        return rng.uniform(low, high, shape)
    n = int(np.prod(shape))
    grid = rng.permutation(np.linspace(low, high, max(2 * n, 2)))[:n] + 0.011 * (i + 1)
    return grid.reshape(shape)


def _call(shape: tuple[int, ...], *rest: Any, **attrs: Any) -> Call:
    return Call([shape], lambda xs: (xs[0], *rest), attrs)


@st.composite
def _reduction(draw: Any, sizes: Any, empty: bool = False, most: int = 5) -> Call:
    shape = draw(shapes(sizes, 0, most))
    axis = draw(axes_of(shape))
    axes = range(len(shape)) if axis is None else np.atleast_1d(np.array(axis, int))
    if not empty and any(shape[a] == 0 for a in axes):
        shape = tuple(n or 2 for n in shape)
    return _call(shape, axis=axis, keepdims=draw(st.booleans()))


@st.composite
def _variance(draw: Any, sizes: Any) -> Call:
    call = draw(_reduction(sizes))
    axis, shape = call.attrs["axis"], call.shapes[0]
    n = np.prod([shape[a] for a in (range(len(shape)) if axis is None else np.atleast_1d(np.array(axis, int)))])
    return Call(call.shapes, call.place, call.attrs | {"ddof": draw(st.integers(0, int(n > 1)))})


@st.composite
def _along(draw: Any, sizes: Any, empty: bool = False) -> Call:
    shape = draw(shapes(sizes, 1))
    axis = draw(axis_of(shape))
    if not empty and shape[axis] == 0:
        shape = tuple(n or 2 for n in shape)
    return _call(shape, axis=axis)


@st.composite
def _reshape(draw: Any, sizes: Any) -> Call:
    shape = draw(shapes(sizes))
    size = int(np.prod(shape))
    new = draw(st.sampled_from([(size,), shape[::-1], (1, size, 1), (*shape, 1)] + ([(-1,), (-1, 1)] if size else [])))
    return _call(shape, new)


@st.composite
def _axis_pair(draw: Any, sizes: Any) -> Call:
    shape = draw(shapes(sizes, 1))
    return _call(shape, draw(axis_of(shape)), draw(axis_of(shape)))


@st.composite
def _transpose(draw: Any, sizes: Any) -> Call:
    shape = draw(shapes(sizes))
    return _call(shape, draw(st.none() | st.permutations(range(len(shape))).map(tuple)))


@st.composite
def _broadcast(draw: Any, sizes: Any) -> Call:
    (shape, _), full = draw(broadcastable(2, sizes))
    return _call(shape, full)


@st.composite
def _squeeze(draw: Any, sizes: Any) -> Call:
    shape = draw(shapes(sizes))
    ones = [i for i, n in enumerate(shape) if n == 1]
    choices = [None, *ones, tuple(ones)]
    return _call(shape, draw(st.sampled_from(choices)))


@st.composite
def _expand(draw: Any, sizes: Any) -> Call:
    shape = draw(shapes(sizes, 0, 4))
    return _call(shape, draw(st.integers(-len(shape) - 1, len(shape))))


@st.composite
def _flip(draw: Any, sizes: Any) -> Call:
    shape = draw(shapes(sizes))
    return _call(shape, draw(axes_of(shape)))


@st.composite
def _join(draw: Any, sizes: Any, new_axis: bool) -> Call:
    shape = draw(shapes(sizes, 0 if new_axis else 1, 4))
    axis = draw(st.integers(-len(shape) - new_axis, len(shape) - 1 + new_axis))
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        part = list(shape)
        if not new_axis:
            part[axis] = draw(st.sampled_from(SMALL))
        parts.append(tuple(part))
    return Call(parts, lambda xs: (list(xs),), {"axis": axis})


@st.composite
def _split(draw: Any, sizes: Any) -> Call:
    shape = draw(shapes(sizes, 1))
    axis = draw(axis_of(shape))
    n = shape[axis]
    equal = st.sampled_from([p for p in range(1, n + 1) if n % p == 0] or [1])
    places = st.lists(st.integers(0, n), min_size=1, max_size=3).map(sorted)
    return _call(shape, draw(equal | places), axis=axis)


@st.composite
def _pad(draw: Any, sizes: Any) -> Call:
    shape = draw(shapes(sizes, 1, 3))
    width = st.integers(0, 2)
    return _call(shape, tuple((draw(width), draw(width)) for _ in shape), value=draw(st.sampled_from((0.0, 1.5))))


@st.composite
def _tile(draw: Any, sizes: Any) -> Call:
    shape = draw(shapes(sizes, 0, 3))
    return _call(shape, draw(st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=4).map(tuple)))


@st.composite
def _matmul(draw: Any, sizes: Any) -> Call:
    m, k, n = (draw(st.sampled_from(sizes)) for _ in range(3))
    (left, right), _ = draw(broadcastable(2, SMALL, 2))
    a, b = draw(st.sampled_from([((k,), (k,)), ((m, k), (k,)), ((k,), (k, n)), ((m, k), (k, n)),
                                 ((*left, m, k), (*right, k, n)), ((*left, m, k), (k, n)), ((k,), (*right, k, n)),
                                 ((*left, m, k), (k,))]))  # fmt: skip
    return Call([a, b], tuple, {})


@st.composite
def _linear(draw: Any, sizes: Any) -> Call:
    batch, i, o = draw(shapes(SMALL, 1, 2)), draw(st.sampled_from(sizes)), draw(st.sampled_from(sizes))
    return Call([(*batch, i), (o, i), (o,)], tuple, {})


@st.composite
def _einsum(draw: Any, sizes: Any) -> Call:
    size = {c: draw(st.sampled_from((1, 2, 3))) for c in "abcd"}
    size["a"] = draw(st.sampled_from(sizes))
    letters = st.lists(st.sampled_from("abcd"), unique=True, max_size=3).map("".join)
    parts = draw(st.lists(letters, min_size=1, max_size=3))
    used = sorted(set("".join(parts)))
    result = "".join(draw(st.permutations(used)))[: draw(st.integers(0, len(used)))]
    spec = ",".join(parts) + "->" + result
    return Call([tuple(size[c] for c in part) for part in parts], lambda xs: (spec, *xs), {})


@st.composite
def _getitem(draw: Any, sizes: Any) -> Call:
    shape = draw(shapes(sizes, 1, 4))
    n = shape[0]
    step = st.sampled_from((None, 1, 2, -1, -2))
    ends = st.none() | st.integers(-n - 1, n + 1)
    part, dots = st.builds(slice, ends, ends, step), st.just(Ellipsis)
    last = part if len(shape) > 1 else st.none()
    kinds = [part, dots, st.tuples(st.none(), part), st.tuples(part, dots, last)]
    if n:
        at = st.integers(-n, n - 1)
        rows = st.lists(at, max_size=5).map(lambda r: np.array(r, int))
        squares = st.lists(at, min_size=4, max_size=4).map(lambda r: np.array(r).reshape(2, 2))
        kinds += [at, rows, squares, st.tuples(rows, dots), st.tuples(dots, st.just(0))]
    if 0 in shape[1:]:
        kinds = [part]
    kinds.append(SEEDS.map(lambda s: np.random.default_rng(s).random(shape) < 0.5))
    return _call(shape, draw(st.one_of(kinds)))


@st.composite
def _rows(draw: Any, sizes: Any, with_values: bool = False) -> Call:
    n, width = draw(st.sampled_from([s for s in sizes if s])), draw(shapes(sizes, 0, 2))
    where = draw(shapes(SMALL, 0, 2))
    positions = np.random.default_rng(draw(SEEDS)).integers(0, n, where)
    if with_values:
        return Call([(n, *width), (*where, *width)], lambda xs: (xs[0], positions, xs[1]), {})
    return _call((n, *width), positions)


@st.composite
def _pick(draw: Any, sizes: Any) -> Call:
    rows, n = draw(shapes(SMALL, 0, 3)), draw(st.sampled_from([s for s in sizes if s]))
    return _call((*rows, n), np.random.default_rng(draw(SEEDS)).integers(0, n, rows))


@st.composite
def _targets(draw: Any, sizes: Any) -> Any:
    """Shape of the targets, number of classes, targets of which some are ignored, and options."""
    rows, n = draw(shapes(SMALL, 0, 2)), draw(st.sampled_from([s for s in sizes if s]))
    rng = np.random.default_rng(draw(SEEDS))
    targets = np.where(rng.random(rows) < 0.2, -100, rng.integers(0, n, rows))
    smoothing, reduction = draw(st.sampled_from((0.0, 0.1))), draw(st.sampled_from(("mean", "sum", "none")))
    return rows, n, targets, {"label_smoothing": smoothing, "reduction": reduction}


@st.composite
def _cross_entropy(draw: Any, sizes: Any) -> Call:
    rows, n, targets, options = draw(_targets(sizes))
    return _call((*rows, n), targets, **options)


@st.composite
def _linear_cross_entropy(draw: Any, sizes: Any) -> Call:
    rows, n, targets, options = draw(_targets(sizes))
    h = draw(st.sampled_from(sizes))
    bias = [(n,)] if draw(st.booleans()) else []
    return Call([(*rows, h), (n, h), *bias], lambda xs: (*xs[:2], targets, *xs[2:]), options)


@st.composite
def _pair(draw: Any, sizes: Any) -> Call:
    shape = draw(shapes(tuple(s for s in sizes if s)))
    return Call([shape, shape], tuple, {})


@st.composite
def _clip(draw: Any, sizes: Any) -> Call:
    if draw(st.booleans()):
        return _call(draw(shapes(sizes)), -0.75, 1.3)
    found, _ = draw(broadcastable(3, sizes, 3))
    return Call(found, tuple, {})


@st.composite
def _dropout(draw: Any, sizes: Any) -> Call:
    (_, mask), full = draw(broadcastable(2, sizes))
    keep = (np.random.default_rng(draw(SEEDS)).random(mask) < 0.5).astype(np.float64)
    p = draw(st.sampled_from((0.0, 0.25)))
    return Call([full], lambda xs: (xs[0], keep.astype(np.asarray(xs[0]).dtype), p), {})


OTHERS: dict[str, Callable] = {
    "sum": lambda s: _reduction(s, empty=True), "prod": lambda s: _reduction(s, empty=True, most=2), "mean": _reduction,
    "max": _reduction, "min": _reduction, "logsumexp": _reduction, "var": _variance,
    "cumsum": lambda s: _along(s, empty=True), "softmax": _along, "log_softmax": _along,
    "reshape": _reshape, "transpose": _transpose, "swapaxes": _axis_pair, "moveaxis": _axis_pair,
    "broadcast_to": _broadcast, "squeeze": _squeeze, "expand_dims": _expand, "flip": _flip,
    "matrix_transpose": lambda s: shapes(s, 2).map(_call), "concat": lambda s: _join(s, False),
    "stack": lambda s: _join(s, True), "split": _split, "unstack": _along, "pad": _pad, "tile": _tile,
    "matmul": _matmul, "linear": _linear, "einsum": _einsum, "getitem": _getitem, "embedding": _rows,
    "scatter_add": lambda s: _rows(s, True), "pick": _pick, "cross_entropy": _cross_entropy,
    "linear_cross_entropy": _linear_cross_entropy, "binary_cross_entropy": _pair, "mse": _pair,
    "clip": _clip, "dropout": _dropout,
}  # fmt: skip


def is_elementwise(name: str) -> bool:
    return REGISTRY[name].op in Fused.scalars


@st.composite
def _elementwise(draw: Any, name: str, sizes: Any) -> Call:
    if name == "where":
        (c, *found), _ = draw(broadcastable(3, sizes))
        condition = np.random.default_rng(draw(SEEDS)).random(c) < 0.5
        return Call(found, lambda xs: (condition, *xs), {})
    found, _ = draw(broadcastable(len(REGISTRY[name].domain), sizes))
    return Call(found, tuple, {})


def calls(name: str, sizes: Any = SIZES) -> st.SearchStrategy[Call]:
    """Calls of the registered operation ``name``, printed as ``f(x0(2, 3), axis=1)``; ``values`` fills its arrays.

    UserError for a name that is not registered.

    >>> from hypothesis import find
    >>> find(calls("matrix_transpose", (3,)), lambda call: call.shapes == [(3, 3)])
    f(x0(3, 3))
    """
    if name not in REGISTRY or not (is_elementwise(name) or name in OTHERS):
        raise UserError(describe("calls", repr(name), "a registered operation", "pass a strategy of its inputs"))
    return _elementwise(name, sizes) if is_elementwise(name) else OTHERS[name](sizes)

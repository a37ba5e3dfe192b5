"""Floor 6: Hypothesis strategies for whoever tests gradients: shapes, arrays in any layout, functions, cells.

Needs Hypothesis (``pip install 'minigrad[test]'``). What they draw prints as code that makes it, and shrinks towards
few axes, small sizes, plain layout and evenly spaced values.

>>> import minigrad as mg
>>> from hypothesis import given
>>> from minigrad.testing import check_grad
>>> @given(arrays(shapes(max_dims=2), domain="positive"))
... def test_log(x):
...     check_grad(mg.log, x)
>>> test_log()
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from minigrad.testing.optional import needs_hypothesis

with needs_hypothesis("minigrad.testing.strategies"):
    from hypothesis import strategies as st

    import minigrad.testing.profiles  # noqa: F401  # registers them

from minigrad.engine import Tensor
from minigrad.errors import UserError, describe
from minigrad.testing.arrays import DOMAINS, PATTERNS, Domain, array
from minigrad.testing.calls import Call, calls
from minigrad.testing.drawing import SEEDS, SIZES, SMALL, broadcastable, shapes
from minigrad.testing.layout import LAYOUTS, lay_out
from minigrad.testing.random_cells import Cell, cells
from minigrad.testing.random_functions import Function, functions

__all__ = [
    "DOMAINS", "LAYOUTS", "SEEDS", "SIZES", "SMALL", "Arguments", "Call", "Cell", "Function", "arguments", "array",
    "arrays", "broadcastable", "broadcastable_arrays", "calls", "cells", "dtypes", "functions", "indices", "lay_out",
    "layouts", "lengths", "shapes", "tensors",
]  # fmt: skip

Shape = tuple[int, ...]
Shapes = Shape | st.SearchStrategy[Shape]
Choice = str | st.SearchStrategy[str] | None


def _chosen(choice: Any, otherwise: st.SearchStrategy) -> st.SearchStrategy:
    if choice is None:
        return otherwise
    return choice if isinstance(choice, st.SearchStrategy) else st.just(choice)


def _layouts(domain: Domain) -> st.SearchStrategy[str]:
    """Those that keep the promise of the domain: "broadcast" repeats values, "apart" has no two equal ones."""
    return st.sampled_from([name for name in LAYOUTS if domain != "apart" or name != "broadcast"])


def layouts() -> st.SearchStrategy[str]:
    """The name of a way to lay out an array in memory: one of LAYOUTS, as ``lay_out(x, name)`` takes it.

    >>> layouts()
    sampled_from(('plain', 'transposed', 'permuted', 'stepped', 'reversed', 'broadcast', 'read-only'))
    """
    return st.sampled_from(LAYOUTS)


def dtypes() -> st.SearchStrategy[str]:
    """ "float32" or "float64".

    >>> dtypes()
    sampled_from(('float32', 'float64'))
    """
    return st.sampled_from(("float32", "float64"))


def _values(domain: Domain) -> st.SearchStrategy:
    return st.sampled_from(PATTERNS[:1] if domain == "apart" else PATTERNS) | SEEDS


def arrays(
    shape: Shapes | None = None, dtype: Choice = None, layout: Choice = None, domain: Domain = "real"
) -> st.SearchStrategy[np.ndarray]:
    """NumPy arrays of a domain (see DOMAINS, or an interval); shape, dtype and layout given, drawn, or any.

    They print as ``array(shape=(2, 3), dtype='float32', layout='stepped', ...)``. UserError for an unknown domain or
    an empty interval, when drawn.

    >>> from hypothesis import find
    >>> find(arrays((2,), "float64", domain="positive"), lambda x: x.sum() > 0)
    array([1.245, 2.595])
    """
    return _arrays(
        _chosen(shape, shapes(max_dims=3)), _chosen(dtype, dtypes()), _chosen(layout, _layouts(domain)), domain
    )


@st.composite
def _arrays(draw: Any, shape: Any, dtype: Any, layout: Any, domain: Domain, values: Any = None) -> np.ndarray:
    chosen = {"shape": draw(shape), "dtype": draw(dtype), "layout": draw(layout), "domain": domain}
    chosen["values"] = draw(_values(domain) if values is None else values)
    x = array(**chosen)
    return _print_as(x, f"array({', '.join(f'{name}={value!r}' for name, value in chosen.items())})")


def _print_as(x: Any, text: str) -> Any:
    """Let a counterexample show x as this text. Hypothesis has no public way for objects of other libraries: where
    it changes, they are shown as they print themselves."""
    with suppress(Exception):
        from hypothesis.control import current_build_context
        from hypothesis.vendor.pretty import IDKey

        current_build_context().known_object_printers[IDKey(x)].append(lambda obj, p, cycle: p.text(text))
    return x


def tensors(
    shape: Shapes | None = None, dtype: Choice = None, layout: Choice = None, domain: Domain = "real"
) -> st.SearchStrategy[Tensor]:
    """Tensors that require a gradient, on arrays as ``arrays`` draws them.

    >>> from hypothesis import find
    >>> find(tensors((2,), "float32", domain="positive"), lambda x: x.requires_grad)
    tensor([1.245, 2.595], requires_grad=True)
    """
    return arrays(shape, dtype, layout, domain).map(lambda x: Tensor(x, requires_grad=True))


@st.composite
def broadcastable_arrays(
    draw: Any, count: int, dtype: Choice = None, layout: Choice = None, domain: Domain = "real", max_dims: int = 3
) -> tuple[np.ndarray, ...]:
    """``count`` arrays of one dtype whose shapes broadcast together. In the domain "apart" no two elements of
    different arrays are equal either, but for a rare chance.

    >>> from hypothesis import find
    >>> a, b = find(broadcastable_arrays(2, layout="plain"), lambda xs: xs[0].ndim == 1 and xs[1].ndim == 0)
    >>> (a * b).shape == a.shape and a.dtype == b.dtype
    True
    """
    found, _ = draw(broadcastable(count, SIZES, max_dims))
    kind = draw(_chosen(dtype, dtypes()))
    one = _values(domain) if domain != "apart" else SEEDS
    values = draw(st.lists(one, min_size=count, max_size=count, unique=domain == "apart"))
    how = _chosen(layout, _layouts(domain))
    return tuple(draw(_arrays(st.just(s), st.just(kind), how, domain, st.just(v))) for s, v in zip(found, values))


@st.composite
def lengths(draw: Any, T: int, B: int) -> np.ndarray:
    """Integer array (B,): the lengths of the rows of a ragged batch of T steps, in any order, 0 among them.

    >>> from hypothesis import find
    >>> find(lengths(4, 3), lambda n: n.max() > 2)
    array([0, 0, 3])
    """
    return np.array(draw(st.lists(st.integers(0, T), min_size=B, max_size=B)), np.int64)


def indices(n: int, shape: Shapes = (3,), negative: bool = True) -> st.SearchStrategy[np.ndarray]:
    """Integer array of positions on an axis of n elements, repeated ones and (if wanted) negative ones among them.
    UserError for an axis without elements.

    >>> from hypothesis import find
    >>> find(indices(4, (2,)), lambda i: i[0] == i[1])
    array([0, 0])
    """
    if n < 1:
        raise UserError(describe("indices", f"an axis of {n} elements", "at least one"))
    return _positions(st.integers(-n if negative else 0, n - 1), _chosen(shape, st.nothing()))


@st.composite
def _positions(draw: Any, at: st.SearchStrategy[int], shape: st.SearchStrategy[Shape]) -> np.ndarray:
    form = draw(shape)
    size = int(np.prod(form))
    return np.array(draw(st.lists(at, min_size=size, max_size=size)), np.int64).reshape(form)


class Arguments:
    """The arguments of one call. Float arrays, also inside lists and dicts, are what gradients are asked for."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.args, self.kwargs = args, kwargs

    def _repr_pretty_(self, p: Any, cycle: bool) -> None:
        """How Hypothesis prints it: arrays as the calls that make them."""
        p.repr_call("Arguments", self.args, self.kwargs)

    def __repr__(self) -> str:
        parts = [repr(a) for a in self.args] + [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"Arguments({', '.join(parts)})"


def arguments(*args: Any, **kwargs: Any) -> st.SearchStrategy[Arguments]:
    """Arguments of a call for ``op_test`` and ``pair_test``: strategies, or values that stay as they are.

    >>> from hypothesis import find
    >>> find(arguments(arrays((2,), "float64"), axis=st.integers(0, 1)), lambda a: a.kwargs["axis"] == 1)
    Arguments(array([-0.9,  2.1]), axis=1)
    """
    everything = [a if isinstance(a, st.SearchStrategy) else st.just(a) for a in (*args, *kwargs.values())]
    positional, named = everything[: len(args)], dict(zip(kwargs, everything[len(args) :]))
    return st.builds(Arguments, *positional, **named)

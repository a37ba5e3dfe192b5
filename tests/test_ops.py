"""Every operation, from its record: values against NumPy, derivatives of order 1 and 2 against numerical ones."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops import REGISTRY
from minigrad.testing import check_grad
from minigrad.testing.calls import values

RECORDS = sorted(REGISTRY)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


def is_shape(a):
    return isinstance(a, tuple) and all(isinstance(n, int) for n in a)


def materialise(rng, record, args):
    """The arrays of a case, and a function that puts tensors in their places. The first shape is always an array;
    later tuples of integers are arrays too, unless the operation's own argument is a shape."""
    takes_shape = record.name in ("reshape", "broadcast_to", "transpose", "squeeze", "flip", "tile", "getitem", "pad")
    arrays, places = [], []
    for i, a in enumerate(args):
        if is_shape(a) and not (takes_shape and i > 0):
            arrays.append(values(rng, record, len(arrays), a))
            places.append(1)
        elif isinstance(a, list) and a and all(is_shape(s) for s in a):
            arrays += [values(rng, record, len(arrays), s) for s in a]
            places.append([1] * len(a))
        else:
            places.append(None)

    def fill(xs):
        xs = iter(xs)
        return [next(xs) if p == 1 else [next(xs) for _ in p] if p else a for a, p in zip(args, places)]

    return arrays, fill


CASES = [(name, i) for name in RECORDS for i in range(len(REGISTRY[name].cases))]


def layouts(rng, x):
    """The same values laid out in memory in other ways."""
    yield x
    yield np.asfortranarray(x)
    if x.ndim:
        yield np.repeat(x, 2, axis=-1)[..., ::2]
        yield x[::-1].copy()[::-1]


def leaves(y):
    return [np.asarray(p) for p in y] if isinstance(y, (tuple, list)) else [np.asarray(y)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "i"), CASES)
def test_value_equals_numpy(name, i, dtype):
    record = REGISTRY[name]
    args, attrs = record.cases[i]
    rng = np.random.default_rng(i)
    arrays, fill = materialise(rng, record, args)
    arrays = [a.astype(dtype) for a in arrays]
    expected = leaves(record.oracle(*fill([a.astype(np.float64) for a in arrays]), **attrs))
    for kind in range(4):
        inputs = [list(layouts(rng, a))[kind if a.ndim else 0] for a in arrays]
        before = [a.copy() for a in inputs]
        tensors = [mg.Tensor(a) for a in inputs]
        got = record.function(*fill(tensors), **attrs)
        for y, e in zip(leaves(got), expected, strict=True):
            assert y.shape == e.shape
            assert y.dtype == (e.dtype if e.dtype == bool else dtype)
            np.testing.assert_allclose(y, e, rtol=TOLERANCE[dtype] * 5, atol=TOLERANCE[dtype])
        for a, b in zip(inputs, before):
            np.testing.assert_array_equal(a, b)


DIFFERENTIABLE = [(n, i) for n, i in CASES if REGISTRY[n].gradient]


@pytest.mark.parametrize(("name", "i"), DIFFERENTIABLE)
def test_derivatives_of_order_1_and_2(name, i):
    record = REGISTRY[name]
    args, attrs = record.cases[i]
    arrays, fill = materialise(np.random.default_rng(i), record, args)
    scale = 0.05 if record.smooth else 1e-3
    check_grad(lambda *ts: record.function(*fill(ts), **attrs), *arrays, order=2, scale=scale)

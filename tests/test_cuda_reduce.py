"""Reductions, running sums and softmax rows of the CUDA backend on the emulated device, against NumPy and the CPU."""

import numpy as np
import pytest
from cuda_arrays import K, get, launched, normal, put
from hypothesis import given
from hypothesis import strategies as st
from on_device import DEVICE

from minigrad.kernels import cpu
from minigrad.kernels.cuda import reduce, rows
from minigrad.testing.strategies import arrays

pytestmark = pytest.mark.cuda_sim
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
NAMES = ("softmax", "log_softmax", "logsumexp")
THREADS = K.device.threads


def close(got, want, dtype):
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(get(got), want, rtol=20 * eps, atol=20 * eps * max(1.0, np.abs(want).max(initial=0)))


def agree(x, axes, a):
    """Sums are right, maxima equal; both are those of the CPU, in its shape."""
    exact = x.sum(axes, dtype=np.float64, keepdims=True)
    got = get(K.reduce("sum", a, axes))
    assert got.shape == exact.shape and got.dtype == x.dtype
    scale = np.abs(x).sum(axes, dtype=np.float64, keepdims=True)
    assert (np.abs(got - exact) <= 4 * np.finfo(x.dtype).eps * scale).all()
    np.testing.assert_array_equal(get(K.reduce("sum", a, axes)), got)
    if all(x.shape[i] for i in axes):
        np.testing.assert_array_equal(get(K.reduce("max", a, axes)), cpu.reduce("max", x, axes))


@st.composite
def cases(draw):
    x = draw(arrays())
    return x, tuple(sorted(draw(st.sets(st.integers(0, x.ndim - 1))))) if x.ndim else ()


@given(cases())
def test_reductions_of_any_layout_over_any_axes(case):
    x, axes = case
    agree(x, axes, put(x))


SHAPES = {
    "a thread each": ((9, 5, 40), (1,), ["few"]),
    "many columns": ((40, 600), (0,), ["few"]),
    "short rows": ((5, 33), (1,), ["warp"]),
    "rows": ((17, 1300), (1,), ["block_wide"]),
    "rows of an odd length": ((17, 1301), (1,), ["block"]),
    "one row": ((1, 1303), (1,), ["block_wide"]),
    "a row in parts": ((9001,), (0,), ["block_wide", "few"]),
    "rows in parts": ((3, 5001), (1,), ["block", "few"]),
    "columns": ((20, 300), (0,), ["columns"]),
    "few columns in parts": ((1001, 3), (0,), ["columns", "few"]),
    "columns in parts": ((700, 33), (0,), ["columns", "few"]),
    "columns in the middle": ((3, 90, 5), (1,), ["columns"]),
    "all of a matrix": ((40, 50), (0, 1), ["block_wide"]),
    "axes that do not touch": ((4, 3, 40), (0, 2), ["warp", "few"]),
}


def kinds(names):
    known = {"few": "few", "warp": "warp", "columns": "columns", "block": "block"}
    return [known[n.split("_")[0]] + "_wide" * (n.startswith("block") and n.endswith("1")) for n in names]


@BOTH
@pytest.mark.parametrize("name", SHAPES)
def test_each_way_to_reduce(name, dtype, monkeypatch):
    shape, axes, expected = SHAPES[name]
    x = normal(*shape, dtype=dtype)
    a = put(x)
    agree(x, axes, a)
    names = launched(monkeypatch)
    K.reduce("sum", a, axes)
    if DEVICE == "cuda-sim":  # which way is taken depends on how many blocks keep a device busy
        assert kinds(names) == expected


def edges(*around):
    return sorted({n + d for n in around for d in (-1, 0, 1)})


@pytest.mark.parametrize(
    "n", edges(1, reduce.SHORT, 32, 128, reduce.WARP, 16 * THREADS + 4, 4 * THREADS * reduce.STEPS)
)
def test_lengths_at_the_edges(n):
    x = normal(2, n)
    agree(x, (1,), put(x))
    agree(x[0], (0,), put(x[0]))
    agree(x.T, (0,), put(x.T))
    if n < 300:
        agree(x.reshape(n, 2), (0,), put(x.reshape(n, 2)))


@pytest.mark.parametrize("b", edges(1, 32, THREADS))
def test_widths_at_the_edges_of_blocks(b):
    x = normal(2, 35, b)
    agree(x, (1,), put(x))


def test_parts_of_parts(monkeypatch):
    monkeypatch.setattr(reduce, "SHORT", 2)
    monkeypatch.setattr(reduce, "SERIAL", 4)
    monkeypatch.setattr(reduce, "STEPS", 2)
    for shape, axis in (((2, 3000), 1), ((900, 3), 0), ((900, 40), 0)):
        x = normal(*shape)
        agree(x, (axis,), put(x))


def test_a_view_that_begins_between_fours():
    x = normal(1500)
    a = K.getitem(put(x), (slice(1, None),))
    agree(x[1:], (0,), a)


@pytest.mark.parametrize("shape", [(1_000_000,), (300_000, 3)])
def test_long_sums_in_float32_are_right_to_1e6(shape):
    x = np.random.default_rng(0).random(shape).astype(np.float32)
    got = get(K.reduce("sum", put(x), (0,)))
    assert np.abs(got / x.sum(0, dtype=np.float64, keepdims=True) - 1).max() < 1e-6


@pytest.mark.parametrize("shape", [(3, 5), (3, 40), (3, 1100), (1100, 3), (40, 3)])
def test_nan_and_infinities(shape):
    long = int(np.argmax(shape))
    for place in (0, 1, max(shape) - 1):
        for value in (np.nan, np.inf, -np.inf):
            x = np.moveaxis(normal(min(shape), max(shape)), 1, long)
            np.moveaxis(x, long, 1)[1, place] = value
            x = np.ascontiguousarray(x)
            for name in ("sum", "max"):
                want = getattr(x, name)(long, keepdims=True)
                np.testing.assert_allclose(get(K.reduce(name, put(x), (long,))), want, rtol=1e-4, atol=1e-4)
    low = np.full(shape, -np.inf, np.float32)
    np.testing.assert_array_equal(get(K.reduce("max", put(low), (long,))), low.max(long, keepdims=True))


def test_nothing_is_summed_to_zero():
    for shape, axes in (((0, 3), (0,)), ((3, 0), (1,)), ((0,), (0,)), ((2, 0, 3), (0, 1)), ((0, 3), (1,))):
        x = np.zeros(shape, np.float32)
        np.testing.assert_array_equal(get(K.reduce("sum", put(x), axes)), x.sum(axes, keepdims=True))


# ------------------------------------------------------------------------------------------------ running sums


def runs(x, axis, a):
    exact = x.cumsum(axis, dtype=np.float64)
    got = get(K.cumsum(a, axis))
    assert got.dtype == x.dtype and got.shape == x.shape
    scale = np.abs(x).cumsum(axis, dtype=np.float64) if x.size else exact
    assert (np.abs(got - exact) <= 8 * np.finfo(x.dtype).eps * scale).all()
    np.testing.assert_array_equal(get(K.cumsum(a, axis)), got)


@given(cases().filter(lambda case: case[0].ndim))
def test_running_sums_of_any_layout(case):
    x, _ = case
    for axis in range(x.ndim):
        runs(x, axis, put(x))


@BOTH
@pytest.mark.parametrize("n", edges(1, 4, 32, 128, 256))
def test_running_sums_at_the_edges(n, dtype, monkeypatch):
    monkeypatch.setattr(reduce, "PART", 128)
    x = normal(3, n, dtype=dtype)
    runs(x, 1, put(x))
    runs(x.T, 0, put(x.T))


def test_running_sums_of_parts_of_parts(monkeypatch):
    monkeypatch.setattr(reduce, "PART", 8)
    x = normal(2, 100)
    runs(x, 1, put(x))


# ------------------------------------------------------------------------------------------------ rows


def same_rows(name, x):
    a = put(x)
    got = K.rows(name, a)
    with np.errstate(all="ignore"):
        want = cpu.rows(name, x)
    assert got.shape == want.shape and got.dtype == x.dtype
    close(got, want, x.dtype)
    np.testing.assert_array_equal(get(K.rows(name, a)), get(got))


@pytest.mark.parametrize("name", NAMES)
@given(x=arrays().filter(lambda x: x.ndim and x.shape[-1]))
def test_rows_of_any_layout(name, x):
    same_rows(name, x)


LONGEST = 32 * rows._EACH[-1]  # row of a warp


@BOTH
@pytest.mark.parametrize("name", NAMES)
def test_rows_at_the_edges(name, dtype):
    for n in (1, 31, 32, 33, 128, 129, LONGEST - 1, LONGEST, LONGEST + 1, LONGEST + 4 * THREADS):
        same_rows(name, 3 * normal(2, n, dtype=dtype))


@pytest.mark.parametrize("n", [3, 40, LONGEST + 9])
@pytest.mark.parametrize("name", NAMES)
def test_rows_with_infinities_and_large_numbers(name, n):
    x = normal(8, n)
    x[0], x[1, 1], x[2, 1], x[3, 2] = -np.inf, -np.inf, np.inf, np.nan
    x[4], x[5], x[6, :2] = 1e4 + x[4], -1e38, np.inf
    same_rows(name, x)


@pytest.mark.parametrize("name", NAMES)
def test_no_rows(name):
    assert get(K.rows(name, put(np.zeros((0, 3), np.float32)))).shape == ((0, 1) if name == "logsumexp" else (0, 3))


@BOTH
@pytest.mark.parametrize("n", [5, 40, 600])
def test_the_largest_number_may_stand_anywhere_in_a_row(n, dtype):
    """exp would overflow if one thread's share of the row were left out of the maximum."""
    at = np.arange(0, n, max(n // 20, 1))
    x = np.zeros((len(at), n), dtype)
    x[np.arange(len(at)), at] = 2000.0
    np.testing.assert_array_equal(get(K.rows("softmax", put(x))), (x > 0).astype(dtype))
    np.testing.assert_array_equal(get(K.rows("log_softmax", put(x))), np.where(x > 0, 0, -2000).astype(dtype))
    np.testing.assert_array_equal(get(K.rows("logsumexp", put(x))), np.full((len(at), 1), 2000, dtype))

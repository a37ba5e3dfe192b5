"""The matrix product: every tile edge, stride and batch; other vectors and one thread in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.kernels.cpu import gemm, micro, parallel
from minigrad.testing.strategies import SEEDS, lay_out, layouts

DTYPES = st.sampled_from([np.float32, np.float64])
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def operands(seed, dtype, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def assert_product(c, a, b):
    """Within the bound that rounding k products and sums can reach."""
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    exact, k = wide_a @ wide_b, a.shape[-1]
    assert c.shape == exact.shape and c.dtype == a.dtype
    bound = 2 * np.finfo(a.dtype).eps * (k + 1) * (np.abs(wide_a) @ np.abs(wide_b))
    assert (np.abs(c - exact) <= bound).all()


@BOTH
@pytest.mark.parametrize("side", ["m", "k", "n", "all"])
def test_products_of_every_size_to_70_equal_numpy(side, dtype):
    for size in range(1, 71):
        sizes = {"m": 33, "k": 17, "n": 35} if side != "all" else {"m": size, "k": size, "n": size}
        if side != "all":
            sizes[side] = size
        a, b = operands(size, dtype, (sizes["m"], sizes["k"]), (sizes["k"], sizes["n"]))
        assert_product(gemm.matmul(a, b), a, b)


SIDE = st.integers(0, 70)


@given(m=SIDE, k=SIDE, n=SIDE, dtype=DTYPES, layouts=st.tuples(layouts(), layouts()), seed=SEEDS)
def test_products_of_any_strides_equal_numpy(m, k, n, dtype, layouts, seed):
    a, b = (lay_out(x, layout) for x, layout in zip(operands(seed, dtype, (m, k), (k, n)), layouts))
    assert_product(gemm.matmul(a, b), a, b)


BATCHES = [((3,), (3,)), ((3,), ()), ((), (3,)), ((2, 1), (4,)), ((1,), (1,)), ((0,), ())]


@given(data=st.data(), dtype=DTYPES, layouts=st.tuples(layouts(), layouts()), seed=SEEDS)
def test_products_of_batches_that_broadcast_equal_numpy(data, dtype, layouts, seed):
    m, k, n = (data.draw(st.sampled_from((1, 2, 5, 17, 33))) for _ in range(3))
    left, right = data.draw(
        st.sampled_from([((3,), (3,)), ((3,), ()), ((), (3,)), ((2, 1), (4,)), ((1,), (1,)), ((0,), ())])
    )
    a, b = (lay_out(x, layout) for x, layout in zip(operands(seed, dtype, (*left, m, k), (*right, k, n)), layouts))
    assert_product(gemm.matmul(a, b), a, b)


LARGE = [
    (300, 257, 310),
    (301, 300, 1),
    (1, 300, 299),
    (700, 40, 70),
    (8, 300, 600),
    (28, 100, 384),
    (300, 1500, 20),
    (13, 641, 333),
]


@BOTH
@pytest.mark.parametrize(("m", "k", "n"), LARGE)
def test_large_products_equal_numpy_on_all_threads(m, k, n, dtype):
    a, b = operands(0, dtype, (m, k), (k, n))
    for x in (a, np.asfortranarray(a), np.flip(np.flip(a).copy())):
        for y in (b, np.asfortranarray(b), np.flip(np.flip(b).copy())):
            assert_product(gemm.matmul(x, y), a, b)


@BOTH
def test_large_products_of_batches_equal_numpy_on_all_threads(dtype):
    a, b = operands(0, dtype, (5, 90, 80), (5, 80, 100))
    assert_product(gemm.matmul(a, b), a, b)
    turned = np.swapaxes(np.ascontiguousarray(np.swapaxes(b, 1, 2)), 1, 2)
    assert_product(gemm.matmul(a, turned), a, b)


@BOTH
@pytest.mark.parametrize(("m", "n"), [(1, 1), (5, 3), (7, 33), (40, 70)])
def test_nothing_outside_the_result_is_written_or_read(m, n, dtype):
    for k in (1, 16, 33):
        a, b = (lay_out(x, "stepped") for x in operands(k, dtype, (m, k), (k, n)))  # NaN lies between the elements
        room = np.full((m + 2, n), 7, dtype)
        gemm.product_into(room[1:-1], a, b)
        assert_product(room[1:-1], a, b)
        assert (room[0] == 7).all() and (room[-1] == 7).all()


@BOTH
@pytest.mark.parametrize("layout", ["plain", "transposed", "reversed"])
def test_a_product_may_be_added_to_what_is_there(layout, dtype):
    for m, k, n in [(1, 1, 1), (5, 3, 20), (33, 700, 65), (300, 200, 100), (7, 0, 3)]:
        a, b, c = operands(0, dtype, (m, k), (k, n), (m, n))
        for add in (True, False):
            out = c.copy()
            gemm.product_into(out, lay_out(a, layout), lay_out(b, layout), add)
            expected = a.astype(np.float64) @ b + (c if add else 0)
            np.testing.assert_allclose(out, expected, rtol=0, atol=1e-3 if dtype == np.float32 else 1e-11)


@BOTH
@pytest.mark.parametrize("layout", ["plain", "transposed"])
def test_a_factor_of_several_products_is_packed_once(layout, dtype):
    """Small and large products, one after the other, with the same panels."""
    (b,) = operands(0, dtype, (130, 150))
    kept = gemm.Factor(lay_out(b, layout))
    for m in (3, 700, 1, 0, 65):
        (a,) = operands(m, dtype, (m, 130))
        c = np.empty((m, 150), dtype)
        gemm.product_into(c, a, kept)
        assert_product(c, a, b)
    kept.matrix = np.zeros_like(b)  # it is not read any more
    gemm.product_into(c, a, kept)
    assert_product(c, a, b)


@BOTH
def test_a_product_without_inner_size_is_zero(dtype):
    for shape in ((3, 4), (1, 4), (3, 1), (0, 4)):
        a, b = np.ones((shape[0], 0), dtype), np.ones((0, shape[1]), dtype)
        np.testing.assert_array_equal(gemm.matmul(a, b), np.zeros(shape))


@BOTH
def test_a_product_is_the_same_to_the_last_bit_every_time_and_at_any_address(dtype):
    for m, k, n in LARGE:
        a, b = operands(0, dtype, (m, k), (k, n))
        first = gemm.matmul(a, b)
        shifted = np.empty(b.size + 1, dtype)[1:].reshape(b.shape)
        shifted[...] = b
        for again in (b, shifted):
            np.testing.assert_array_equal(gemm.matmul(a, again), first)


def test_flags_of_the_environment_take_effect():
    """In the processes of the test below; here for the settings of this one."""
    bits, threads = os.environ.get("MINIGRAD_VECTOR_BITS"), os.environ.get("MINIGRAD_THREADS")
    assert micro.vector_bits() == int(bits) if bits else micro.vector_bits() in (128, 256, 512)
    assert parallel.workers() == 1 if threads == "1" else parallel.workers() >= 1


VECTORS = "every_size or any_strides or broadcast or outside or flags"


@pytest.mark.parametrize(
    ("flag", "value", "tests"),
    [("VECTOR_BITS", "128", VECTORS), ("VECTOR_BITS", "256", VECTORS), ("THREADS", "1", "large or flags")],
    ids=["128 bits", "256 bits", "one thread"],
)
def test_all_of_this_holds_with_other_vectors_and_threads(flag, value, tests):
    command = [sys.executable, "-m", "pytest", "-q", "-x", __file__, "-k", f"({tests}) and not all_of_this"]
    environment = {**os.environ, f"MINIGRAD_{flag}": value}
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

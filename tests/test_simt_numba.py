"""Scalar code, instructions and real kernels of numba.cuda on the emulator."""

import math

import numpy as np
import pytest
from numba import njit

pytest.importorskip("greenlet", reason="the emulated device needs greenlet")

from minigrad.testing import simt
from minigrad.testing.simt import cuda

pytestmark = pytest.mark.cuda_sim
F = np.float32


def run(kernel, grid, block, *args):
    """With races watched; the arguments afterwards."""
    given = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    simt.run(kernel, grid, block, *given, seed=1, races=True)
    return given


def zeros(*shape, dtype=F):
    return np.zeros(shape, dtype)


# ------------------------------------------------------------------------------------------------ numbers


@njit
def _scalar(x, y):
    a = np.int32(x) * 7 + (y >> 3)
    return math.exp(-x * x) / (1 + abs(y)) + np.uint32(a) % 5 + max(x, y)


def test_scalar_code_gives_what_numba_gives():
    function = _scalar.py_func

    def kernel(x, y, out):
        i = cuda.grid(1)
        out[i] = function(x[i], y[i])

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=50) * 3, rng.integers(-100, 100, 50)
    got = run(kernel, 1, 50, x, y, zeros(50, dtype=np.float64))[2]
    np.testing.assert_allclose(got, [_scalar(*z) for z in zip(x, y)], rtol=1e-14)


def test_float32_stays_float32_and_overflows_to_infinity():
    def kernel(x, out):
        y = F(2) * x[0] * 3
        assert y.dtype == F
        out[0], out[1], out[2] = y, F(1e30) * F(1e30), F(1) / (x[0] - x[0])
        out[3], out[4] = math.exp(x[1]), math.log(-x[0])

    found = run(kernel, 1, 1, np.array([0.1, 1e3], F), zeros(5))[1]
    assert found[0] == F(2) * F(0.1) * 3 and np.isinf(found[1:4]).all() and np.isnan(found[4])


def test_integers_wrap_as_machine_integers_do():
    def kernel(x, out):
        out[0] = np.uint32(-1) + 1
        out[1] = np.int32(1 << 31)
        out[2] = np.uint32(x[0]) * np.uint32(x[0]) >> 32  # of 64 bits, as Numba has it
        x[0] = x[0] * x[0] + 5

    x, out = run(kernel, 1, 1, np.array([0xFFFFFFFF], np.uint32), zeros(3, dtype=np.int64))
    assert out.tolist() == [1 << 32, -(1 << 31), 0xFFFFFFFE] and x[0] == 6


def test_bits():
    def kernel(out):
        x = np.uint32(0b1101000)
        out[0], out[1], out[2], out[3] = cuda.popc(x), cuda.clz(x), cuda.ffs(x), cuda.brev(x)
        out[4], out[5] = cuda.clz(np.int64(1)), cuda.selp(x > 3, 1, 2)
        out[6] = cuda.fma(F(1 + 2**-12), F(1 + 2**-12), F(-1 - 2**-11)) * 2**24

    assert run(kernel, 1, 1, zeros(7, dtype=np.int64))[0].tolist() == [3, 25, 4, 0b1011 << 25, 63, 1, 1]


# ------------------------------------------------------------------------------------------------ instructions


@simt.collective("sum_of_squares")
def _sum_of_squares(lanes):
    return [sum(value * value for (value,) in lanes)] * 32


@simt.model("twice")
def _twice(x):
    return 2 * x


def test_an_instruction_is_what_its_model_says():
    from minigrad.testing.simt import vocabulary

    twice, sum_of_squares = vocabulary.twice, vocabulary.sum_of_squares

    def kernel(out):
        out[cuda.laneid] = twice(sum_of_squares(cuda.laneid))

    assert run(kernel, 1, 32, zeros(32))[0].tolist() == [2 * sum(i * i for i in range(32))] * 32
    with pytest.raises(simt.DivergenceError, match="all 32 lanes"):
        simt.run(kernel, 1, 31, zeros(32))
    with pytest.raises(AttributeError, match="no model of 'thrice'"):
        _ = vocabulary.thrice


def test_a_function_that_is_not_emulated_is_named():
    def kernel(out):
        out[0] = cuda.tensor_map(3)

    with pytest.raises(AttributeError, match=r"the emulated device has no cuda\.tensor_map"):
        simt.run(kernel, 1, 1, np.zeros(1))


# ------------------------------------------------------------------------------------------------ numba.cuda


def test_a_real_kernel_of_numba_runs():
    numba_cuda = pytest.importorskip("numba.cuda")
    from numba import float32, int32

    scale = 3.0

    @numba_cuda.jit(device=True)
    def weight(x):
        return x * float32(scale)

    @numba_cuda.jit
    def kernel(x, out):
        tile = numba_cuda.shared.array((4, 5), float32)
        i, j = numba_cuda.threadIdx.x, numba_cuda.threadIdx.y
        tile[i, j] = weight(x[i, j])
        numba_cuda.syncthreads()
        out[j, i] = tile[i, j] + int32(1)
        numba_cuda.atomic.add(out, (0, 0), float32(0))

    x = np.arange(16, dtype=F).reshape(4, 4)
    with pytest.raises(simt.RaceError, match=r"out\[0, 0\]"):
        run(kernel, 1, (4, 4), x, zeros(4, 4))
    out = zeros(4, 4)
    simt.run(kernel, 1, (4, 4), x, out)
    np.testing.assert_array_equal(out, x.T * 3 + 1)
    assert kernel.py_func.__globals__["cuda"] is cuda  # nothing was changed in this module


def test_numba_s_own_names_are_found():
    numba_cuda = pytest.importorskip("numba.cuda")
    import numba
    from numba.cuda import atomic, syncthreads, threadIdx

    def kernel(x):
        s = numba.cuda.shared.array(4, dtype=numba.float64)
        s[threadIdx.x] = numba_cuda.grid(1)
        syncthreads()
        atomic.add(x, 0, s[3 - threadIdx.x])

    assert run(kernel, 2, 4, zeros(1))[0][0] == 28


def test_an_intrinsic_without_a_model_is_named():
    extending = pytest.importorskip("numba.cuda.extending")

    def odd(context, x):
        return None

    odd = extending.intrinsic(odd)

    def kernel(x):
        x[0] = odd(x[0])

    with pytest.raises(NotImplementedError, match=r"@simt.model\('odd'\)"):
        simt.run(kernel, 1, 1, zeros(1))

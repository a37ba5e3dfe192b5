"""The other CPU kernels: long sums, scatters, optimiser steps, repeatability; and how they are compiled."""

import ast
import inspect
import math
import os
import subprocess
import sys
from dataclasses import replace

import numba
import numpy as np
import pytest

import minigrad as mg
from minigrad import scalars
from minigrad.kernels import cpu, source
from minigrad.kernels.cpu import build
from minigrad.kernels.cpu.memory import keep_memory
from minigrad.ops import REGISTRY
from minigrad.ops.fuse import Fused
from minigrad.testing.calls import is_elementwise

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def random(dtype, *shape):
    return np.random.default_rng(0).random(shape).astype(dtype)


# ------------------------------------------------------------------------------------------------ reductions

LONG = {
    "side by side": ((1_000_000,), (0,)),
    "rows": ((3, 1_000_000), (1,)),
    "columns": ((1_000_000, 3), (0,)),
    "many columns": ((20_000, 50), (0,)),
    "all of a matrix": ((1000, 1000), (0, 1)),
    "axes that do not touch": ((100, 3, 10_000), (0, 2)),
}


@pytest.mark.parametrize("name", LONG)
def test_long_sums_in_float32_are_right_to_1e6(name):
    shape, axes = LONG[name]
    x = random(np.float32, *shape)
    exact = x.sum(axes, dtype=np.float64, keepdims=True)
    assert np.abs(cpu.reduce("sum", x, axes) / exact - 1).max() < 1e-6


def test_the_variance_of_values_far_from_zero_is_right():
    x = (1e4 + random(np.float32, 100_000)).astype(np.float32)
    np.testing.assert_allclose(mg.var(mg.Tensor(x)).item(), x.var(dtype=np.float64), rtol=1e-4)


@BOTH
@pytest.mark.parametrize("n", [1, 15, 16, 17, 127, 128, 129, 4095, 4096, 4097, 12_289])
def test_reductions_across_the_edges_of_blocks_equal_numpy(n, dtype):
    for shape, axis in (((n,), 0), ((3, n), 1), ((n, 3), 0), ((2, n, 5), 1)):
        x = random(dtype, *shape) - dtype(0.5)
        np.testing.assert_allclose(
            cpu.reduce("sum", x, (axis,)), x.sum(axis, dtype=np.float64, keepdims=True), atol=1e-4
        )
        np.testing.assert_array_equal(cpu.reduce("max", x, (axis,)), x.max(axis, keepdims=True))
        np.testing.assert_allclose(cpu.cumsum(x, axis), x.cumsum(axis), rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------------ positions


@BOTH
def test_additions_at_repeated_positions_run_in_their_order(dtype):
    positions = np.random.default_rng(1).integers(0, 7, 1000)
    g = random(dtype, 1000, 5)
    expected = np.zeros((7, 5), dtype)
    np.add.at(expected, positions, g)
    np.testing.assert_array_equal(cpu.add_rows(g, positions, 7), expected)
    np.testing.assert_array_equal(cpu.scatter(g, positions, (7, 5)), expected)


def test_scatter_is_the_transpose_of_reading():
    x = random(np.float64, 4, 5, 6)
    for index in (
        1,
        (..., -1),
        (slice(None), [0, 0, 2]),
        ([1, 1], slice(1, 4), [0, 3]),
        x > 0.5,
        (None, slice(3, 0, -2)),
    ):
        y = cpu.getitem(x, index)
        g = np.random.default_rng(2).random(y.shape)
        np.testing.assert_allclose(np.vdot(cpu.scatter(g, index, x.shape), x), np.vdot(g, y), rtol=1e-12)


def test_pick_and_place_are_transposes():
    x, at = random(np.float64, 3, 4, 5), np.random.default_rng(1).integers(0, 5, (3, 4))
    g = random(np.float64, 3, 4)
    np.testing.assert_array_equal(cpu.pick(x, at), np.take_along_axis(x, at[..., None], -1)[..., 0])
    np.testing.assert_allclose(np.vdot(cpu.place(g, at, 5), x), np.vdot(g, cpu.pick(x, at)), rtol=1e-12)


# ------------------------------------------------------------------------------------------------ optimisers


def sgd(p, g, m, lr, momentum, decay):
    m = momentum * m + g + decay * p
    return p - lr * m, m


def adagrad(p, g, v, lr, eps, decay):
    g = g + decay * p
    v = v + g**2
    return p - lr * g / (np.sqrt(v) + eps), v


def rmsprop(p, g, v, m, lr, alpha, eps, momentum, decay):
    g = g + decay * p
    v = alpha * v + (1 - alpha) * g**2
    m = momentum * m + g / (np.sqrt(v) + eps)
    return p - lr * m, v, m


def adam(p, g, m, v, lr, b1, b2, eps, c1, c2, l2, decay):
    g = g + l2 * p
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
    return p * (1 - lr * decay) - lr * m * c1 / (np.sqrt(v * c2) + eps), m, v


STEPS = {
    "sgd": (sgd, 1, [0.1, 0.9, 0.01]),
    "adagrad": (adagrad, 1, [0.1, 1e-8, 0.01]),
    "rmsprop": (rmsprop, 2, [0.1, 0.99, 1e-8, 0.9, 0.01]),
    "adam": (adam, 2, [0.1, 0.9, 0.999, 1e-8, 10.0, 1000.0, 0.01, 0.02]),
}


@BOTH
@pytest.mark.parametrize("name", STEPS)
def test_optimiser_steps_equal_their_formulas(name, dtype):
    formula, count, settings = STEPS[name]
    rng = np.random.default_rng(0)
    p, g = (rng.standard_normal((5, 7)).astype(dtype) for _ in range(2))
    buffers = [rng.random((5, 7)).astype(dtype) for _ in range(count)]
    before, expected = p.copy(), formula(p, g, *buffers, *settings)
    new = cpu.update(name, p, np.asfortranarray(g), buffers, settings)
    for got, want in zip([new, *buffers], expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=20 * np.finfo(dtype).eps, atol=1e-7)
    np.testing.assert_array_equal(p, before)


@BOTH
def test_the_sum_of_squares_is_right_for_long_arrays(dtype):
    x = random(dtype, 1000, 1001)
    np.testing.assert_allclose(
        cpu.squares(x), np.sum(x.astype(np.float64) ** 2), rtol=1e-6 if dtype == np.float32 else 1e-13
    )


# ------------------------------------------------------------------------------------------------ repeatability


KERNELS = {
    "tanh": mg.tanh, "add": lambda x: x + x.T, "sum": mg.sum, "columns": lambda x: mg.sum(x, 0), "max": mg.max,
    "cumsum": mg.cumsum, "softmax": mg.softmax, "log_softmax": mg.log_softmax, "logsumexp": mg.logsumexp,
    "matmul": lambda x: x @ x, "prod": lambda x: mg.prod(x, 1), "var": mg.var,
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_gives_the_same_bits_every_time_and_at_any_address(name, dtype):
    x = random(dtype, 201, 201)
    first = KERNELS[name](mg.Tensor(x)).numpy()
    for offset in (0, 1, 3):
        moved = np.empty(x.size + offset, dtype)[offset:].reshape(x.shape)
        moved[...] = x
        np.testing.assert_array_equal(KERNELS[name](mg.Tensor(moved)), first)


def test_shapes_that_never_repeat_do_not_pile_up():
    kernel = cpu.Elementwise("add", (scalars.add,), 2)
    for n in range(4200):
        kernel(np.empty(n, np.float32), np.empty(n, np.float32))
    assert len(kernel._launches) < 4200


# ------------------------------------------------------------------------------------------------ compilation


LOOP = """
def run(x, y, out):
    for i in range(out.size):
        out[i] = x[i] + y[i]
"""


def checks_for_overlap(dispatcher):
    """Whether the vectorised loop first compares addresses."""
    dispatcher.compile(numba.void(*[numba.float32[::1]] * 3))
    (text,) = dispatcher.inspect_llvm().values()
    assert "vector.body" in text
    return "memcheck" in text


def test_generated_kernels_are_compiled_with_noalias(monkeypatch):
    monkeypatch.setattr(source, "config", replace(source.config, cache_dir=""))  # cached machine code has no LLVM text
    heads = "@kernel", "from numba import njit\n@njit"
    marked, plain = (build.build("plus", head + LOOP, [], np.float32) for head in heads)
    assert checks_for_overlap(plain)
    assert not checks_for_overlap(marked)


POINTS = [0.31, 0.7, 1.0, 1.9, 2.5]


@pytest.mark.parametrize("name", sorted(filter(is_elementwise, REGISTRY)))
def test_scalar_functions_run_as_plain_python_and_equal_the_compiled_ones(name):
    record = REGISTRY[name]
    scalar = Fused.scalars[record.op]
    arity = len(record.domain)
    low = -1 if record.domain[-1][0] < 0 else 1
    columns = [np.array([low * p for p in POINTS] + POINTS)[::step] for step in (1, -1, 1)][:arity]
    if name == "where":
        columns[0] = columns[0] > 1
    if name in ("div", "power", "log1p"):
        columns = [np.abs(c) for c in columns]
    expected = [scalar(*values) for values in zip(*(c.tolist() for c in columns))]
    got = record.function(*[mg.Tensor(np.ascontiguousarray(c)) for c in columns])
    np.testing.assert_allclose(got, expected, rtol=1e-14, atol=1e-15)


def test_the_file_of_scalars_imports_only_math():
    tree = ast.parse(inspect.getsource(scalars))
    imported = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
    assert [n.module for n in imported] == ["math"]
    assert all(hasattr(math, alias.name) for alias in imported[0].names)


# ------------------------------------------------------------------------------------------------ memory

_FAULTS = """
import resource
import numpy as np
import minigrad
def step():
    a, b = np.ones(500_000), np.ones(500_000)
    return a + b
for _ in range(5): step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not keep_memory(), reason="this C library keeps what it does")
def test_large_buffers_are_kept_instead_of_mapped_anew():
    def faults(keep):
        environment = {**os.environ, "MINIGRAD_KEEP_MEMORY": keep}
        return int(
            subprocess.run([sys.executable, "-c", _FAULTS], env=environment, capture_output=True, check=True).stdout
        )

    assert faults("1") * 10 < faults("0")

"""Elementwise operations, copies and casts of the CUDA backend on the emulated device, against NumPy and the CPU."""

import numpy as np
import pytest
from cuda_arrays import K, get, launched, normal, put
from hypothesis import given
from hypothesis import strategies as st

from minigrad import scalars
from minigrad.errors import DtypeError, MinigradError, ShapeError
from minigrad.kernels import cpu, loops
from minigrad.kernels.cuda import loops as cuda_loops
from minigrad.ops import REGISTRY
from minigrad.ops.fuse import Chain, NotElementwise
from minigrad.testing.calls import is_elementwise
from minigrad.testing.layout import LAYOUTS, lay_out
from minigrad.testing.strategies import SEEDS, arrays, broadcastable_arrays, shapes

pytestmark = pytest.mark.cuda_sim
NAMES = sorted(filter(is_elementwise, REGISTRY))
BINARY = K.Elementwise("add", (scalars.add,), 2, floats=False)
EDGES = (1, 2, 3, 4, 5, 7, 31, 32, 33, 255, 511, 512, 513, 515)  # of a vector, a warp, a block and its two vectors
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def equal(got, want):
    np.testing.assert_array_equal(get(got), want)


def operation(name):
    """The kernels of an operation on the device and on the CPU, as its record makes them."""
    forward = REGISTRY[name].op.forward
    return (lambda *xs: forward(K, *xs)), (lambda *xs: forward(cpu, *xs))


def close(got, want, dtype, steps=16):
    """Equal but for some units in the last place. Results near zero: of the numbers that they are sums of."""
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(get(got), want, rtol=steps * eps, atol=steps * eps)


@st.composite
def operands(draw, name):
    """Arrays that broadcast, of one dtype, in any layouts, in the domains of an operation."""
    record = REGISTRY[name]
    xs = draw(broadcastable_arrays(len(record.domain), domain=(0, 1)))
    found = []
    for x, (low, high) in zip(xs, record.domain):
        scaled = (low + (high - low) * x).astype(x.dtype)
        found.append(lay_out(scaled, draw(st.sampled_from(LAYOUTS))))
    return [found[0] > 0, *found[1:]] if name == "where" else found


@pytest.mark.parametrize("name", NAMES)
def test_operations_equal_numpy_and_the_cpu(name):
    device, host = operation(name)

    @given(operands(name))
    def check(xs):
        got, want = device(*map(put, xs)), host(*xs)
        assert got.shape == want.shape and got.dtype == want.dtype
        close(got, want, xs[-1].dtype)
        exact = REGISTRY[name].oracle(*[x if x.dtype == bool else x.astype(np.float64) for x in xs])
        close(got, exact.astype(want.dtype), xs[-1].dtype, 60)

    check()


SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -1e30, 88.0, -104.0, 0.5, -7.0]
AT_POLES = {"power"}  # of a negative number: the two libraries of powers differ from the definition alike


@BOTH
@pytest.mark.parametrize("name", sorted(set(NAMES) - AT_POLES))
def test_special_values_are_those_of_the_cpu(name, dtype):
    device, host = operation(name)
    x = np.array(SPECIAL, dtype)
    xs = [x, *[np.roll(x, i + 1) for i in range(len(REGISTRY[name].domain) - 1)]]
    if name == "where":
        xs[0] = xs[0] > 0
    if name in ("sin", "cos"):
        xs = [np.clip(x, -100, 100)]
    with np.errstate(all="ignore"):
        got, want = get(device(*map(put, xs))), host(*xs)
    np.testing.assert_allclose(got, want, rtol=30 * np.finfo(dtype).eps, atol=1e-37)
    if name in ("neg", "abs", "maximum", "minimum", "relu", "tanh", "mul"):
        np.testing.assert_array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))


@BOTH
@pytest.mark.parametrize("n", EDGES)
def test_sizes_at_the_edges_of_vectors_warps_and_blocks(n, dtype):
    x, y = normal(n, dtype=dtype), normal(n, dtype=dtype, seed=1)
    equal(BINARY(put(x), put(y)), x + y)
    equal(BINARY(put(x), put(y[:1])), x + y[:1])
    equal(BINARY(put(x[:1]), put(y)), x[:1] + y)
    equal(BINARY(put(x[::-1]), put(y)), x[::-1] + y)
    m = np.stack([x, y, x - y])
    equal(BINARY(put(m), put(y)), m + y)
    equal(BINARY(put(m), put(m[:, :1])), m + m[:, :1])
    equal(BINARY(put(m.T), put(m.T)), (m + m).T)
    equal(BINARY(put(m.T), put(x[:, None])), m.T + x[:, None])


def test_a_result_lies_in_memory_as_its_operand_does():
    x = put(normal(3, 4))
    assert BINARY(x.flip((0,)), x).strides == BINARY(x, x).strides == (4, 1)
    assert BINARY(x.transpose((1, 0)), x.flip((0, 1)).transpose((1, 0))).strides == (1, 4)
    assert BINARY(x.cut((slice(1),)).broadcast_to((3, 4)), x).strides == (4, 1)


@BOTH
@pytest.mark.parametrize("wide", [4, 5, 6, 7, 8])
def test_rows_whose_starts_are_no_multiples_of_four(wide, dtype):
    x = normal(3, wide, dtype=dtype)[:, :4]
    equal(BINARY(put(x), put(x)), x + x)
    equal(K.contiguous(put(x)), x)
    deep = normal(2, 3, wide, 4, dtype=dtype)[:, :, 1:4]
    equal(BINARY(put(deep), put(deep[:, :1])), deep + deep[:, :1])


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_integers_and_bools(dtype):
    x = (normal(5, 7) * 3).astype(dtype)
    y = np.flip(x, 0)
    for name in ("equal", "less", "greater_equal", "maximum", "minimum"):
        device, _ = operation(name)
        got = device(put(x), put(y))
        want = REGISTRY[name].oracle(x, y)
        assert got.dtype == want.dtype
        equal(got, want)
    equal(BINARY(put(x), put(y)), x + y)
    equal(operation("where")[0](put(x > 0), put(x), put(y)), np.where(x > 0, x, y))


def rules():
    """Every gradient rule that is a kernel of its own, with the number of operands and whether one is a condition."""
    for name in NAMES:
        record = REGISTRY[name]
        for i, rule in enumerate(record.op.vjp or ()):
            if rule is not None:
                yield pytest.param(rule, record, id=f"{name}{i}")


@pytest.mark.parametrize(("rule", "record"), list(rules()))
def test_fused_gradient_rules_equal_those_of_the_cpu(rule, record):
    condition = record.name == "where"
    try:
        Chain(rule.rule, len(record.domain), condition)
    except NotElementwise:
        pytest.skip("not one kernel")
    n = 37
    xs = [np.linspace(low, high, n, dtype=np.float32)[:: 1 if i % 2 else -1]
          for i, (low, high) in enumerate(record.domain)]  # fmt: skip
    if condition:
        xs[0] = xs[0] > 0
    y = np.asarray(record.op.forward(cpu, *xs))
    g = normal(n)
    want = rule.arrays(g, y, xs)
    got = rule.arrays(put(g), put(y), [put(x) for x in xs])
    if want is None:
        assert got is None
    else:
        close(got, want, np.float32, 30)


# ------------------------------------------------------------------------------------------------ what kernels run


def test_contiguous_operands_are_read_in_fours_and_others_one_by_one(monkeypatch):
    names = launched(monkeypatch)
    x, m = put(normal(32)), put(normal(6, 8))
    row, column = K.getitem(m, (0,)), K.getitem(m, (slice(None), slice(0, 1)))
    t = K.transpose(m, (1, 0))
    cases = {
        "add_vv1": [(x, x), (m, m), (t, t), (K.reshape(m, (2, 3, 8)), K.reshape(m, (2, 3, 8)))],
        "add_vs1": [(x, put(normal(1))), (m, put(normal(1, 1)))],
        "add_vv2": [(m, row), (m, K.flip(m, (0,))), (K.getitem(m, (slice(None), slice(4, 8))),) * 2],
        "add_vs2": [(m, column)],
        "add_any1": [(K.getitem(x, (slice(1, None),)),) * 2, (K.flip(x, (0,)), x)],
        "add_any2": [(m, K.transpose(put(normal(8, 6)), (1, 0))), (put(normal(3, 5)), put(normal(5)))],
    }
    for name, pairs in cases.items():
        for pair in pairs:
            BINARY(*pair)
            assert names.pop() == name and not names
    assert BINARY(t, t).strides == (1, 8)  # the result lies in memory as its operands do


def test_arrays_of_more_elements_than_are_counted_go_in_halves(monkeypatch):
    names = launched(monkeypatch)
    x, y = normal(3, 5, 7), normal(5, 1)
    monkeypatch.setattr(cuda_loops, "LIMIT", 20)
    equal(BINARY(put(x), put(y)), x + y)
    assert len(names) == 7


@given(st.integers(1, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_division_by_multiplication(n, k):
    m, s = cuda_loops.divider(n)
    for i in (k, k // n * n, max(k // n * n - 1, 0), 2**31 - 1):
        assert i * m < 2**63 and (i * m) >> s == i // n


@given(arrays(), st.permutations(range(3)), SEEDS)
def test_folded_loops_walk_the_same_elements(x, order, seed):
    x = x.transpose([a for a in order if a < x.ndim])
    y = np.broadcast_to(x[:1], x.shape) if x.ndim else x
    strides = [tuple(s // a.itemsize for s in a.strides) for a in (x, y)]
    sizes, steps = loops.fold(x.shape, [loops.spread(x.shape, s, x.ndim) for s in strides])
    assert np.prod(sizes) == x.size and len(sizes) <= max(1, sum(n > 1 for n in x.shape))
    for s, t in zip(strides, steps):
        walks = [sum(np.ix_(*[np.arange(n) * m for n, m in zip(shape, moves)])) + np.zeros(shape, int)
                 for shape, moves in ((x.shape, s), (tuple(sizes), t)) if shape]  # fmt: skip
        assert x.ndim == 0 or not x.size or (walks[0].ravel() == walks[1].ravel()).all()


@BOTH
def test_the_same_bits_every_time_and_at_any_address(dtype):
    tanh = K.Elementwise("tanh", (scalars.tanh,), 1)
    x = normal(130, dtype=dtype)
    first = get(tanh(put(x)))
    for start in (0, 1, 4):
        moved = K.getitem(put(np.concatenate([np.zeros(start, dtype), x])), (slice(start, None),))
        equal(tanh(moved), first)


def test_operands_stay_as_they_are_and_results_share_nothing():
    x = normal(4, 5)
    a = put(x)
    b = BINARY(a, a)
    assert b.memory is not a.memory
    equal(a, x)


# ------------------------------------------------------------------------------------------------ errors


def message(kernel, *xs):
    with pytest.raises(MinigradError) as found:
        kernel(*xs)
    return type(found.value), str(found.value)


@pytest.mark.parametrize(("options", "operands", "kind"), [
    ({}, [normal(3), normal(4)], ShapeError),
    ({}, [normal(2, 3), normal(3, 2)], ShapeError),
    ({}, [normal(3), normal(3, dtype=np.float64)], DtypeError),
    ({}, [np.arange(3), np.arange(3)], DtypeError),
    ({"floats": False}, [np.arange(3), normal(3)], DtypeError),
    ({"condition": True}, [normal(3), normal(3)], DtypeError),
])  # fmt: skip
def test_errors_are_those_of_the_cpu_and_come_before_any_kernel(options, operands, kind, monkeypatch):
    names = launched(monkeypatch)
    host = cpu.Elementwise("sum of two", (scalars.add,), 2, **options)
    device = K.Elementwise("sum of two", (scalars.add,), 2, **options)
    xs = [put(x) for x in operands]
    assert message(host, *operands) == message(device, *xs)
    assert message(device, *xs)[0] is kind and not names


# ------------------------------------------------------------------------------------------------ copies


@given(arrays(shapes(max_dims=4)), st.sampled_from(["float32", "float64", "int64", "bool"]))
def test_copies_casts_and_views_equal_numpy(x, dtype):
    a = put(x)
    for y, z in ((a, x), (K.flip(a, range(x.ndim)), np.flip(x)), (K.transpose(a, range(x.ndim)[::-1]), x.T)):
        equal(y, z)
        equal(K.copy(y), z)
        assert K.contiguous(y).contiguous and K.copy(y).memory is not y.memory
        equal(K.astype(y, dtype), z.astype(dtype))
        equal(K.astype(K.astype(y, dtype), x.dtype), z.astype(dtype).astype(x.dtype))
        equal(K.reshape(y, (z.size,)), z.reshape(z.size))
        equal(K.reshape(y, (1, *z.shape, 1)), z.reshape(1, *z.shape, 1))
        equal(K.broadcast_to(y, (2, *z.shape)), np.broadcast_to(z, (2, *z.shape)))
        if z.ndim:
            equal(K.pad(y, [(1, 2)] * z.ndim, constant_values=2), np.pad(z, [(1, 2)] * z.ndim, constant_values=2))
        for axis in range(z.ndim):
            equal(K.concatenate([y, y, a if y is a else y], axis), np.concatenate([z, z, z], axis))
    if x.ndim > 1:
        equal(K.matrix_transpose(a), x.swapaxes(-1, -2))


@pytest.mark.parametrize("shape", [(), (0,), (3,), (17,), (5, 0), (4, 130)])
@pytest.mark.parametrize(("value", "dtype"), [(1.5, "float32"), (-2, "float64"), (True, "bool"), (7, "int64")])
def test_full(shape, value, dtype):
    got = K.full(shape, value, dtype)
    assert got.dtype == dtype
    equal(got, np.full(shape, value, dtype))


def test_only_axes_of_size_one_come_and_go_without_a_copy():
    x = K.transpose(put(normal(3, 4)), (1, 0))
    assert K.reshape(x, (4, 1, 3, 1)).memory is x.memory
    assert K.reshape(x, (12,)).memory is not x.memory
    assert K.from_numpy(x).memory is not x.memory


@pytest.mark.parametrize("n", [1, 31, 32, 33, 65])
@pytest.mark.parametrize("m", [1, 32, 33])
def test_transposed_copies_at_the_edges_of_tiles(n, m):
    x = normal(2, n, m)
    equal(K.copy(K.matrix_transpose(put(x))), x.swapaxes(-1, -2))
    equal(K.copy(K.transpose(put(x), (2, 1, 0))), x.T)
    equal(K.copy(K.flip(K.matrix_transpose(put(x)), (1,))), np.flip(x.swapaxes(-1, -2), 1))

"""Properties of every operation, from the records: values, gradients, derivatives of order 1 and 2, and manners."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, LAYOUTS, OTHERS, SEEDS, SMALL, calls, is_elementwise, lay_out, unfused, values

import minigrad as mg
from minigrad import scalars
from minigrad.ops import REGISTRY
from minigrad.ops.record import unary
from minigrad.testing import check_grad

NAMES = sorted(REGISTRY)
DIFFERENTIABLE = [name for name in NAMES if REGISTRY[name].gradient]
VALUE = {np.float32: 3e-6, np.float64: 1e-14}  # relative to the largest number, some for each element added up
GRADIENT = {np.float32: 3e-5, np.float64: 1e-12}


def leaves(y):
    return list(y) if isinstance(y, (tuple, list)) else [y]


def draw_inputs(data, name, dtype):
    """A call of the operation and arrays for it, each in a layout of its own."""
    call = data.draw(calls(name), label="call")
    rng = np.random.default_rng(data.draw(SEEDS, label="seed"))
    arrays = [values(rng, REGISTRY[name], i, shape).astype(dtype) for i, shape in enumerate(call.shapes)]
    return call, rng, [lay_out(x, data.draw(LAYOUTS, label="layout")) for x in arrays]


def assert_close(got, expected, tolerance, terms=0.0):
    """``terms``: the size of what was added up, where it may have cancelled."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    size = max(1.0, np.abs(expected).max(initial=0), np.max(terms, initial=0))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * size)


def test_every_operation_is_drawn():
    assert [name for name in NAMES if not is_elementwise(name) and name not in OTHERS] == []


def test_a_name_belongs_to_one_operation():
    with pytest.raises(ValueError, match=r"\[tanh\] there is an operation of that name"):
        unary("tanh", "x", scalars.tanh, None, np.tanh)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), dtype=DTYPES)
def test_values_equal_numpy_in_any_layout_and_inputs_stay(name, data, dtype):
    record = REGISTRY[name]
    call, _, arrays = draw_inputs(data, name, dtype)
    before = [x.copy() for x in arrays]
    got = leaves(record.function(*call.place([mg.Tensor(x) for x in arrays]), **call.attrs))
    expected = leaves(record.oracle(*call.place([x.astype(np.float64) for x in arrays]), **call.attrs))
    product = record.group == "Products"
    terms = record.oracle(*call.place([np.abs(x) for x in arrays]), **call.attrs) if product else 0.0
    longest = max([x.size for x in arrays] + [1])
    for y, e in zip(got, expected, strict=True):
        assert y.dtype == (bool if np.asarray(e).dtype == bool else dtype)
        assert_close(y, e, VALUE[dtype] * max(1.0, longest**0.5 / 4), terms)
    for x, b in zip(arrays, before):
        np.testing.assert_array_equal(x, b)


def gradients(record, call, arrays, gs):
    """Gradients of the leaves by backward passes from every result, each with its cotangent."""
    tensors = [mg.Tensor(x, requires_grad=True) for x in arrays]
    ys = leaves(record.function(*call.place(tensors), **call.attrs))
    for y, g in zip(ys, gs, strict=True):
        if y.requires_grad:
            y.backward(mg.Tensor(g), retain_graph=True)
    return [t.grad for t in tensors]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@given(data=st.data(), dtype=DTYPES)
def test_gradients_equal_the_unfused_rule_in_float64_and_alias_nothing(name, data, dtype):
    record = REGISTRY[name]
    call, rng, arrays = draw_inputs(data, name, dtype)
    before = [x.copy() for x in arrays]
    results = leaves(record.function(*call.place([mg.Tensor(x) for x in arrays]), **call.attrs))
    layout = data.draw(LAYOUTS, label="layout of cotangents")
    gs = [lay_out(rng.standard_normal(y.shape).astype(dtype), layout) for y in results]
    sent = [g.copy() for g in gs]
    found = gradients(record, call, arrays, gs)
    with unfused():
        wide = gradients(record, call, [x.astype(np.float64) for x in arrays], [g.astype(np.float64) for g in gs])
    for x, gx, e in zip(arrays, found, wide):
        assert (gx is None) == (e is None)
        if gx is not None:
            assert gx.dtype == dtype and gx.shape == x.shape and not gx.requires_grad
            assert_close(gx, e, GRADIENT[dtype])
    for x, b in zip([*arrays, *gs], [*before, *sent]):
        np.testing.assert_array_equal(x, b)
    buffers = [*arrays, *gs, *[gx.data for gx in found if gx is not None]]
    for i, gx in enumerate(buffers[len(arrays) + len(gs) :], len(arrays) + len(gs)):
        for other in buffers[:i]:
            assert not np.may_share_memory(gx, other)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@given(data=st.data())
def test_derivatives_of_order_1_and_2_equal_numerical_ones(name, data):
    record = REGISTRY[name]
    call = data.draw(calls(name, SMALL), label="call")
    seed = data.draw(SEEDS, label="seed")
    rng = np.random.default_rng(seed)
    arrays = [values(rng, record, i, shape) for i, shape in enumerate(call.shapes)]
    scale = 0.02 if record.smooth else 1e-3
    check_grad(lambda *ts: record.function(*call.place(ts), **call.attrs), *arrays, order=2, seed=seed, scale=scale)


EMPTY = [name for name in NAMES if is_elementwise(name)]


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
@pytest.mark.parametrize("name", EMPTY)
def test_empty_inputs_give_empty_results_and_gradients(name, shape):
    record = REGISTRY[name]
    xs = [mg.Tensor(np.zeros(shape, np.float32), requires_grad=True) for _ in record.domain]
    args = (np.zeros(shape, bool), *xs[1:]) if name == "where" else xs
    y = record.function(*args)
    assert y.shape == shape
    if record.gradient:
        y.backward(mg.Tensor(np.zeros(shape, np.float32)))
        assert all(x.grad.shape == shape for x in args if isinstance(x, mg.Tensor))


def zeros(*shape):
    return mg.Tensor(np.zeros(shape, np.float32), requires_grad=True)


def ones(*shape):
    return mg.Tensor(np.ones(shape, np.float32))


EMPTY_CALLS = {
    "sum": (lambda x: mg.sum(x, 0), (0, 3), 0.0),
    "prod": (lambda x: mg.prod(x, 0), (0, 3), 1.0),
    "max over the axis that is not empty": (lambda x: mg.max(x, 1), (0, 3), None),
    "softmax": (mg.softmax, (0, 3), None),
    "logsumexp": (lambda x: mg.logsumexp(x, -1), (0, 3), None),
    "cumsum": (lambda x: mg.cumsum(x, 0), (0, 2), None),
    "matmul without rows": (lambda x: x @ ones(3, 2), (0, 3), None),
    "matmul without columns": (lambda x: x @ ones(3, 0), (2, 3), None),
    "matmul with k = 0": (lambda x: x @ ones(0, 2), (3, 0), 0.0),
    "concat": (lambda x: mg.concat([x, x], 1), (2, 0), None),
    "split": (lambda x: mg.split(x, 2)[1], (0, 3), None),
    "embedding of no index": (lambda w: mg.embedding(w, []), (4, 2), None),
    "mask of nothing": (lambda x: x[np.zeros((2, 3), bool)], (2, 3), None),
    "cross entropy of nothing": (lambda x: mg.cross_entropy(x, np.zeros((0,), int)), (0, 3), 0.0),
}


@pytest.mark.parametrize("name", EMPTY_CALLS)
def test_empty_inputs_of_operations_that_allow_them(name):
    f, shape, expected = EMPTY_CALLS[name]
    x = zeros(*shape)
    y = f(x)
    if expected is None:
        assert y.size == 0
    else:
        np.testing.assert_array_equal(y, np.full(y.shape, expected))
    y.backward(mg.Tensor(np.ones(y.shape, np.float32)))
    np.testing.assert_array_equal(x.grad, np.zeros(shape))

"""Properties of every operation, from the records: the shared suite; and empty inputs."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import scalars
from minigrad.ops import REGISTRY
from minigrad.ops.record import unary
from minigrad.testing.calls import OTHERS, is_elementwise
from minigrad.testing.suites import op_test

NAMES = sorted(REGISTRY)


def test_every_operation_is_drawn():
    assert [name for name in NAMES if not is_elementwise(name) and name not in OTHERS] == []


def test_a_name_belongs_to_one_operation():
    with pytest.raises(ValueError, match=r"\[tanh\] there is an operation of that name"):
        unary("tanh", "x", scalars.tanh, None, np.tanh)


@pytest.mark.parametrize("name", NAMES)
def test_the_shared_suite(name):
    op_test(name)()


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

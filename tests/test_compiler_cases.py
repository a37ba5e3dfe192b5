"""Cells that once went wrong when compiled, and what else a compiled scan must not do."""

import gc
import inspect
import threading
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from recurrent_cases import poisoned  # noqa: F401
from test_compiler import Call, Scan, assert_same, kernel_of

import minigrad as mg


def gates_beside_their_sum(p, x, h):
    z = x @ p.W.T + h @ p.U.T
    a, b = mg.split(z, 2, axis=-1)
    h = mg.sigmoid(a) * mg.tanh(b) + 0.5 * h
    return h, z


def residual(p, x, h):
    y = mg.tanh(x @ p.S.T + x)
    h = h * 0.5 + y @ p.S.T
    return h, y


def independent(p, x, h):
    """IndRNN with a residual (Li et al. 2018)."""
    h = mg.relu(x @ p.S.T + x + h * p.v)
    return h, h


def sum_and_product(p, x, h):
    e = mg.tanh(x) + h
    return e * p.v, mg.tanh(x) @ p.S.T + h @ p.V.T


def picked(p, x, h):
    h = mg.tanh(x + h[:, [0, 2, 1, 3]])
    return h, h


def vector_operand(p, x, h):
    h = mg.tanh(mg.concat([x, mg.broadcast_to(p.v, h.shape)], -1) @ p.J.T + h)
    return h, h


def einsum(p, x, h):
    h = mg.tanh(mg.einsum("bk,hk->bh", h, p.S) + x)
    return h, h


def softmax_of_weights(p, x, h):
    h = h @ mg.softmax(p.S, -1) + x
    return h, h


def softmax_over_batch(p, x, h):
    h = mg.softmax(h, 0) * p.v + x
    return h, h


def times_zero(p, x, h):
    h = (x @ p.S.T) * 0.0 + h
    return h, h


def mean_over_batch(p, x, h):
    h = h * p.v + x / x.shape[0]
    return h, h


@pytest.mark.parametrize("batch", [1, 3, 30])
@pytest.mark.parametrize("cell, compiled", [
    (gates_beside_their_sum, True), (residual, True), (independent, True), (sum_and_product, True), (picked, False),
    (vector_operand, False), (mean_over_batch, False), (einsum, False), (softmax_of_weights, False),
    (softmax_over_batch, False), (times_zero, True),
])  # fmt: skip
def test_cells_that_once_went_wrong(cell, compiled, batch):
    n, call = 4, Call("rnn_tanh", (5, batch, 4, 4))
    shapes = {"W": (2 * n, n), "U": (2 * n, n), "S": (n, n), "V": (n, n), "J": (n, 2 * n), "v": (n,)}
    used = {k: call.tensor(*shapes[k], dtype="float64") for k in shapes if f"p.{k}" in inspect.getsource(cell)}
    call.cell, call.params = cell, SimpleNamespace(**used)
    assert isinstance(kernel_of(Scan(cell, call.params, call.x, call.state)), str) is not compiled
    for reverse in (False, True):
        call.options = {"lengths": None, "reverse": reverse}
        assert_same(call)


@pytest.mark.parametrize("result", [lambda h: (h, 0.0), lambda h: (0.0, h), lambda h: (h > 0, h)])
def test_a_result_that_is_no_row_of_floats_is_the_same_error_on_both_paths(result):
    x, h = mg.tensor(np.ones((2, 3, 4))), mg.tensor(np.zeros((3, 4)))
    messages = []
    for compiled in (True, False):
        with pytest.raises(mg.errors.ShapeError) as error:
            mg.scan(lambda p, x, h: result(h + x), None, x, h, compiled=compiled)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_a_parameter_times_zero_has_a_gradient_of_zeros():
    S = mg.tensor(np.ones((4, 4)), requires_grad=True)
    x, h = mg.tensor(np.ones((2, 3, 4))), mg.tensor(np.zeros((3, 4)), requires_grad=True)
    mg.scan(times_zero, SimpleNamespace(S=S), x, h)[0].sum().backward()
    np.testing.assert_array_equal(S.grad.numpy(), np.zeros((4, 4)))


def test_containers_of_a_class_of_their_own():
    class Parameters(SimpleNamespace):
        pass

    call = Call("rnn_tanh", (3, 2, 4, 4))
    call.params = Parameters(**vars(call.params))
    assert not isinstance(kernel_of(Scan(call.cell, call.params, call.x, call.state)), str)
    assert_same(call)


def test_inputs_are_free_after_backward():
    call = Call("lstm", (3, 2, 4, 4))
    ys, _ = call.run()
    ys.sum().backward()
    call.x.grad, alive = None, weakref.ref(call.x)
    del call.x
    gc.collect()
    assert alive() is None and ys.shape == (3, 2, 4)


def test_a_new_cell_may_be_met_by_several_threads_at_once():
    def cell(p, x, h):
        h = mg.tanh(x * p + h * 0.125)
        return h, h

    x, h, p = mg.tensor(np.ones((2, 3, 4))), mg.tensor(np.zeros((3, 4))), mg.tensor(np.array(0.5))
    found = []
    threads = [threading.Thread(target=lambda: found.append(mg.scan(cell, p, x, h)[1].numpy())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(np.array_equal(found[0], other) for other in found)

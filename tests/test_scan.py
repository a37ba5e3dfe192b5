"""``mg.scan`` over cells that a user wrote: containers of states, inputs and outputs; raggedness; errors."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recurrent_cases import way  # noqa: F401

import minigrad as mg
from minigrad.engine.tree import leaves
from minigrad.testing import check_grad


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def coupled(p, x, s):
    """The forget gate is one minus the input gate."""
    h, c = s
    i, f, o = (mg.sigmoid(a) for a in mg.split(x @ p.W.T + h @ p.U.T + p.b, 3, axis=-1))
    c = f * c + (1 - f) * i
    h = o * mg.tanh(c)
    return (h, c), h


def parameters(I, H):
    W, U, b = (mg.tensor(draw(i, *shape)) for i, shape in enumerate([(3 * H, I), (3 * H, H), (3 * H,)]))
    return SimpleNamespace(W=W, U=U, b=b)


def test_users_cell_equals_its_equations_in_numpy():
    T, B, I, H = 4, 3, 2, 5
    p, x, h, c = parameters(I, H), draw(3, T, B, I), draw(4, B, H), draw(5, B, H)
    ys, last = mg.scan(coupled, p, mg.tensor(x), (mg.tensor(h), mg.tensor(c)))
    for t in range(T):
        a = x[t] @ p.W.numpy().T + h @ p.U.numpy().T + p.b.numpy()
        i, f, o = np.split(1 / (1 + np.exp(-a)), 3, axis=-1)
        c = f * c + (1 - f) * i
        h = o * np.tanh(c)
        np.testing.assert_allclose(ys.numpy()[t], h, atol=1e-13)
    np.testing.assert_array_equal(last[0], ys[-1])
    np.testing.assert_allclose(last[1].numpy(), c, atol=1e-13)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [2, 0, 3]])
def test_users_cell_has_right_derivatives_of_order_1_and_2(lengths, reverse):
    def f(x, h, c, W, U, b):
        return mg.scan(coupled, SimpleNamespace(W=W, U=U, b=b), x, (h, c), lengths=lengths, reverse=reverse)

    p = parameters(2, 2)
    check_grad(f, draw(3, 3, 3, 2), draw(4, 3, 2), draw(5, 3, 2), p.W.numpy(), p.U.numpy(), p.b.numpy())


class Memory(NamedTuple):
    total: mg.Tensor
    count: mg.Tensor


def running_mean(p, x, s):
    """Inputs in a dict, state in a named tuple, outputs in a dict."""
    total = s.total + x["value"] * x["weight"]
    count = s.count + x["weight"]
    return Memory(total, count), {"mean": total / count, "parts": [total, count]}


@given(steps=st.integers(1, 6), batch=st.integers(1, 4), seed=st.integers(0, 999), data=st.data())
def test_containers_of_inputs_states_and_outputs(steps, batch, seed, data):
    lengths = data.draw(st.none() | st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    value, weight = draw(seed, steps, batch, 2), np.abs(draw(seed + 1, steps, batch, 1)) + 0.5
    start = Memory(mg.tensor(np.zeros((batch, 2))), mg.tensor(np.full((batch, 1), 0.1)))
    xs = {"value": mg.tensor(value), "weight": mg.tensor(weight)}
    ys, last = mg.scan(running_mean, None, xs, start, lengths=lengths)
    inside = np.arange(steps)[:, None] < np.array(lengths or [steps] * batch)  # (T, B)
    total = np.cumsum(value * weight, 0)
    count = 0.1 + np.cumsum(weight, 0)
    expected = np.where(inside[..., None], total / count, 0)
    np.testing.assert_allclose(ys["mean"].numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(ys["parts"][1].numpy(), np.where(inside[..., None], count, 0), atol=1e-12)
    assert isinstance(last, Memory)
    np.testing.assert_allclose(last.count.numpy(), 0.1 + (weight * inside[..., None]).sum(0), atol=1e-12)


def add_up(p, x, h):
    h = h + x
    return h, h


def test_steps_are_taken_in_order_and_in_reverse():
    x = mg.tensor(np.arange(1.0, 5.0).reshape(4, 1, 1))
    zero = mg.tensor(np.zeros((1, 1)))
    forward, _ = mg.scan(add_up, None, x, zero)
    backward, _ = mg.scan(add_up, None, x, zero, reverse=True)
    assert forward.numpy().ravel().tolist() == [1, 3, 6, 10]
    assert backward.numpy().ravel().tolist() == [10, 9, 7, 4]


def test_a_cell_without_state_or_without_output():
    x = mg.tensor(draw(0, 3, 2, 2))
    ys, state = mg.scan(lambda p, x, s: (s, x * 2.0), None, x, None)
    np.testing.assert_array_equal(ys, x.numpy() * 2)
    assert state is None
    ys, state = mg.scan(lambda p, x, s: (s + x, None), None, x, mg.tensor(np.zeros((2, 2))), lengths=[3, 1])
    assert ys is None
    np.testing.assert_allclose(state.numpy(), [x.numpy()[:, 0].sum(0), x.numpy()[0, 1]], atol=1e-14)


def test_tensors_that_a_cell_reaches_from_outside_receive_gradients():
    w = mg.tensor(draw(0, 2), requires_grad=True)
    x = draw(1, 3, 4, 2)
    ys, _ = mg.scan(lambda p, x, h: (h + w * x, h), None, mg.tensor(x), mg.tensor(np.zeros((4, 2))))
    ys.sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * x[0].sum(0) + x[1].sum(0), atol=1e-13)


def test_indices_in_padding_have_no_influence():
    """Integers behind the end of a row may be anything, also no index at all."""
    table = mg.tensor(draw(0, 5, 2), requires_grad=True)

    def cell(p, i, h):
        h = h + mg.embedding(table, i)
        return h, h

    zero = mg.tensor(np.zeros((2, 2)))
    results = []
    for filler in (0, -100):
        table.grad = None
        ys, h = mg.scan(cell, None, mg.tensor([[1, 4], [2, filler], [filler, filler]]), zero, lengths=[2, 1])
        (ys.sum() + h.sum()).backward()
        results.append([ys.numpy(), h.numpy(), table.grad.numpy()])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(results[0][2], [[0, 0], [3, 3], [2, 2], [0, 0], [2, 2]])


def test_integer_and_boolean_outputs_are_zero_in_padding():
    def cell(p, x, n):
        n = n + 1
        return n, (n, x > 0.0)

    x, zero = mg.tensor(np.ones((3, 2, 1))), mg.tensor(np.zeros((2, 1), int))
    (count, positive), last = mg.scan(cell, None, x, zero, lengths=[1, 3])
    assert count.numpy()[..., 0].tolist() == [[1, 1], [0, 2], [0, 3]]
    assert positive.numpy()[..., 0].tolist() == [[True, True], [False, True], [False, True]]
    assert last.numpy().ravel().tolist() == [1, 3]


def test_arrays_are_taken_in_place_of_tensors():
    ys, _ = mg.scan(add_up, None, np.ones((2, 1, 1)), np.zeros((1, 1)))
    assert ys.numpy().ravel().tolist() == [1, 2]


ONES = np.ones((3, 2, 4))
ZERO = np.zeros((2, 4))


def keep(p, x, h):
    return h, h


WRONG = {
    "no batch axis": (keep, np.ones(3), ZERO, None, r"xs of shape \(T, B, ...\)"),
    "no sequence": (keep, (), ZERO, None, "no sequence"),
    "no steps": (keep, ONES[:0], ZERO, None, "one T >= 1"),
    "two numbers of steps": (keep, (ONES, ONES[:2]), ZERO, None, r"got \(3, 2, 4\), \(2, 2, 4\), expected one T"),
    "batch of the state": (keep, ONES, ZERO[:1], None, r"state \(1, 4\), expected \(B, ...\) with B = 2"),
    "a number as the state": (keep, ONES, 0.0, None, r"state \(\), expected \(B, ...\)"),
    "lengths": (keep, ONES, ZERO, [1, 4], "lengths from 1 to 4, expected 0 <= length <= T = 3"),
    "state grows": (lambda p, x, h: (mg.concat([h, h], -1), h), ONES, ZERO, None, r"returns the state \(2, 8\)"),
    "state of two parts": (lambda p, x, h: ((h, h), h), ONES, ZERO, None, r"state \(2, 4\) .*, \(2, 4\)"),
    "y without batch": (lambda p, x, h: (h, h.sum()), ONES, ZERO, None, r"y_t \(\), expected \(B, ...\) with B = 2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_a_named_error(case):
    cell, xs, state, lengths, match = WRONG[case]
    with pytest.raises(mg.errors.ShapeError, match=rf"\[scan\] .*{match}"):
        mg.scan(cell, None, xs, state, lengths=lengths)


@pytest.mark.parametrize("result", [lambda h: h, lambda h: (h, h, h), lambda h: None], ids=["state", "three", "None"])
def test_a_cell_that_returns_no_pair_is_a_named_error(result):
    with pytest.raises(mg.errors.ShapeError, match=r"\[scan\] .* cell that returns .* a cell returns \(state, y_t\)"):
        mg.scan(lambda p, x, h: result(h), None, ONES, ZERO, compiled=False)


def test_what_is_no_tensor_is_a_named_error():
    with pytest.raises(mg.errors.DtypeError, match=r"\[scan\] got str"):
        mg.scan(keep, None, "text", ZERO)


def test_state_and_outputs_keep_their_dtype():
    for dtype in (np.float32, np.float64):
        ys, h = mg.scan(add_up, None, ONES.astype(dtype), ZERO.astype(dtype), lengths=[1, 3])
        assert {y.dtype for y in leaves((ys, h))} == {np.dtype(dtype)}

"""The gradient checker finds planted faults of 0.05 %, accepts what is right, and refuses what it cannot judge."""

import numpy as np
import pytest
from hypothesis import given

import minigrad as mg
from minigrad.engine import Operation, apply
from minigrad.errors import DtypeError, GraphError
from minigrad.testing import GradientError, check_grad
from minigrad.testing.strategies import SEEDS

FAULT = 0.0005
RNG = np.random.default_rng(0)
X, Y = RNG.uniform(0.5, 1.5, (3, 4)), RNG.uniform(0.5, 1.5, (3, 4))


def planted(forward, *rules):
    """A function of tensors with these gradient rules, right or wrong."""
    op = Operation("planted", lambda k, *xs: np.asarray(forward(*xs)), rules)
    return lambda *xs: apply(op, xs)


def one_of_many(g, y, x):
    """The gradient of sin, one of whose elements is wrong."""
    factor = np.ones(x.shape)
    factor[1, 2] += FAULT
    return g * mg.cos(x) * mg.tensor(factor)


def sum_rows(g, rows):
    """The sum over the rows that broadcasting made, one of which is forgotten in part."""
    return g.sum(0, keepdims=True) - g[:1] * rows


def softmax(x):
    e = np.exp(x)
    return e / e.sum(-1, keepdims=True)


almost_cos = planted(np.cos, lambda g, y, x: g * mg.sin(x) * -(1 + FAULT))

FAULTS = {
    "a wrong factor": (planted(np.sin, lambda g, y, x: g * mg.cos(x) * (1 + FAULT)), [X]),
    "a small function with a wrong factor": (
        planted(lambda x: 1e-6 * np.sin(x), lambda g, y, x: g * mg.cos(x) * (1e-6 * (1 + FAULT))), [X]),
    "a large function with a wrong factor": (
        planted(lambda x: 1e9 * np.sin(x), lambda g, y, x: g * mg.cos(x) * (1e9 * (1 + FAULT))), [X]),
    "a wrong sign": (planted(np.subtract, lambda g, y, a, b: g, lambda g, y, a, b: g), [X, Y]),
    "a wrong sign of a small term": (
        planted(lambda x: np.sin(x) + FAULT * x, lambda g, y, x: g * (mg.cos(x) - FAULT)), [X]),
    "a missing term": (
        planted(lambda x: x * np.sin(x) + FAULT * x, lambda g, y, x: g * (mg.sin(x) + x * mg.cos(x))), [X]),
    "a wrong second operand": (
        planted(np.multiply, lambda g, y, a, b: g * b, lambda g, y, a, b: g * a * (1 + FAULT)), [X, Y]),
    "operands exchanged": (planted(np.multiply, lambda g, y, a, b: g * a, lambda g, y, a, b: g * b), [X, Y]),
    "one wrong element": (planted(np.sin, one_of_many), [X]),
    "a missing sum over what was broadcast": (
        planted(lambda a, b: a * b, lambda g, y, a, b: sum_rows(g * b, 1.0), lambda g, y, a, b: g * a), [X[:1], Y]),
    "a missing part of the sum over what was broadcast": (
        planted(lambda a, b: a * b, lambda g, y, a, b: sum_rows(g * b, FAULT), lambda g, y, a, b: g * a), [X[:1], Y]),
    "what a sum of results would hide": (
        planted(softmax, lambda g, y, x: y * (g - (g * y).sum(-1, keepdims=True)) * (1 + FAULT)), [X]),
    "a gradient that ignores the cotangent": (planted(lambda x: 2 * x, lambda g, y, x: mg.tensor(Y)), [X]),
    "no gradient": (planted(np.sin, None), [X]),
    "a gradient of a constant": (planted(lambda x: np.ones_like(x), lambda g, y, x: g * FAULT), [X]),
    "one wrong result of several": (lambda x: (mg.sin(x), planted(np.cos, lambda g, y, x: g * mg.sin(x))(x)), [X]),
    "detached in part": (lambda x: mg.sin(x) + FAULT * x.detach() * x, [X]),
}  # fmt: skip


TEN = pytest.mark.parametrize("seed", range(10))  # one random direction in thousands would miss such a fault


@TEN
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, seed):
    f, inputs = FAULTS[name]
    with pytest.raises(GradientError, match="order 1"):
        check_grad(f, *inputs, order=1, seed=seed)


SECOND = {
    "a wrong factor": planted(np.sin, lambda g, y, x: g * almost_cos(x)),
    "cut off the tape": planted(np.sin, lambda g, y, x: g * mg.cos(x.detach())),
    "cut off in part": planted(np.sin, lambda g, y, x: g * (mg.cos(x) * (1 - FAULT) + mg.cos(x.detach()) * FAULT)),
    "the result taken for a constant": planted(np.exp, lambda g, y, x: g * y.detach()),
}


@TEN
@pytest.mark.parametrize("name", SECOND)
def test_a_wrong_second_derivative_behind_a_right_first_one_is_found(name, seed):
    f = SECOND[name]
    check_grad(f, X, order=1, seed=seed)
    with pytest.raises(GradientError, match="order 2"):
        check_grad(f, X, order=2, seed=seed)


def test_a_wrong_third_derivative_is_found_at_order_3():
    f = planted(np.sin, lambda g, y, x: g * SECOND["a wrong factor"](x + np.pi / 2))
    check_grad(f, X, order=2)
    with pytest.raises(GradientError, match="order 3"):
        check_grad(f, X, order=3)


RIGHT = {
    "sin": (mg.sin, [X]),
    "a product": (lambda a, b: a * b, [X, Y]),
    "broadcasting": (lambda a, b: a * b + mg.sin(a), [X[:1], Y]),
    "softmax": (mg.softmax, [X]),
    "small numbers": (lambda x: mg.sin(x * 1e-8) * 1e-8, [X]),
    "large numbers": (lambda x: mg.exp(x) * 1e12, [X]),
    "numbers of many sizes": (lambda x: mg.exp(8.0 * x), [X]),
    "a constant": (lambda x: mg.tensor(Y), [X]),
    "what cancels to zero": (lambda x: mg.softmax(x).sum(-1), [X]),
    "several results": (lambda x: (mg.sin(x), {"b": mg.cos(x).sum()}, x > 1.0), [X]),
    "a number": (mg.exp, [np.array(0.3)]),
    "nothing": (mg.exp, [np.zeros((0, 3))]),
    "a matrix product": (mg.matmul, [X, Y.T]),
    "float32 inputs, taken as float64": (mg.tanh, [X.astype(np.float32)]),
    "a tensor": (mg.tanh, [mg.tensor(X)]),
}


@pytest.mark.parametrize("name", RIGHT)
@given(seed=SEEDS)
def test_what_is_right_passes_with_every_seed(name, seed):
    f, inputs = RIGHT[name]
    check_grad(f, *inputs, order=3, seed=seed)


def test_at_a_kink_the_point_moves_and_not_the_tolerance():
    wrong = planted(lambda x: np.maximum(x, 0), lambda g, y, x: g * 0.3)
    for x in (0.0, 0.001, 1e-9):
        assert check_grad(mg.relu, np.array([x, 0.7])).resolution < 1e-4
        with pytest.raises(GradientError, match=r"ratio 0\.3"):
            check_grad(wrong, np.array([x, 0.7]), order=1)
    assert check_grad(mg.relu, np.array([0.0, 0.7])).moved and not check_grad(mg.relu, np.array([0.2, 0.7])).moved


def test_what_has_kinks_everywhere_cannot_be_judged():
    saw = planted(lambda x: abs(x * 1e6 % 1 - 0.5), lambda g, y, x: g * 0.3)
    with pytest.raises(GradientError, match="does not settle.*kink.*lower scale") as caught:
        check_grad(saw, np.array([0.3, 0.7]), order=1)
    assert caught.value.cause == "kink"


def test_the_message_names_the_order_the_shapes_and_the_ratio():
    with pytest.raises(GradientError) as caught:
        check_grad(FAULTS["a wrong factor"][0], X)
    assert "order 1 at inputs (3, 4): reverse mode" in str(caught.value) and "ratio 1.0005" in str(caught.value)


def test_a_failed_check_is_an_assertion():
    assert issubclass(GradientError, AssertionError)


def cause_of(f, *inputs):
    with pytest.raises(GradientError) as caught:
        check_grad(f, *inputs)
    return caught.value.cause, str(caught.value)


def test_the_first_wrong_operation_of_a_graph_is_named_with_its_line():
    double = planted(np.exp, lambda g, y, x: 2.0 * g * y)
    _, text = cause_of(lambda x: mg.tanh(double(mg.sin(x)) * x).sum(), X)
    assert "operation 2 of 5, the first wrong one: 'planted' of (3, 4) at" in text
    assert f"test_check.py:{double.__code__.co_firstlineno}: its own gradient is wrong" in text
    assert cause_of(lambda x: mg.tanh(SECOND["a wrong factor"](mg.sin(x))), X)[0] == "second derivative"


def test_where_all_operations_are_right_the_tape_is_cut():
    cause, text = cause_of(lambda x: mg.sin(x) * x.detach(), X)
    assert cause == "tape" and "detach" in text


def test_a_function_that_answers_differently_is_reported():
    rng = np.random.default_rng(0)
    calls = iter(range(100))

    def changes_later(x):
        return mg.sin(x) * (1.0 if next(calls) < 12 else 1.5)

    assert cause_of(lambda x: x * mg.tensor(rng.random(x.shape)), X)[0] in ("kink", "random", "stale")
    assert cause_of(changes_later, X)[0] == "random"


def test_misuse_is_told():
    with pytest.raises(DtypeError, match="input 1 of dtype int64.*keep it out of the inputs"):
        check_grad(lambda x, i: x, X, np.arange(3))
    with pytest.raises(GraphError, match="a function that returns ndarray, expected tensors; .*check_vjp"):
        check_grad(lambda x: np.asarray(x), X)


def test_the_verdict_says_how_sharp_it_was():
    verdict = check_grad(mg.tanh, X, order=3)
    assert verdict.order == 3 and verdict.difference < verdict.resolution <= 2e-7 and "orders 1 to 3" in repr(verdict)
